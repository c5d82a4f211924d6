//! What a process that uses Heapwright's allocator tells about itself, when it is asked to: a
//! statistics page in a private shared file, and a sampling heap profile.
//!
//! - `settings`: what the environment asks for.
//! - `beat`: the allocator's heartbeats; requests of readers, the page's next turn.
//! - `state`, `page_file`, `figures`: the page, where its file is, what stands in it.
//! - `profile` (`stacks`, `sites`, `live_blocks`): samples with their stacks; `raw_profile`: as a
//!   file.
//!
//! Nothing of it runs in a process that is not asked: the constructor reads the environment and
//! returns. No signal handler without `HEAPWRIGHT_PROFILE_SIGNAL`; a thread only with
//! `HEAPWRIGHT_WATCH`. It allocates nothing, and has one lock of its own, under which it calls the
//! kernel, the stack walker, and the allocator's surveys, which take theirs after it.
//!
//! The design page is `docs/design/watching.md`.
//!
//! # Not here
//! Reading the page, symbols, pprof, views: `heapwright-monitor`, in another process.
#![no_std]

#[cfg(test)]
extern crate std;

mod beat;
mod end;
mod figures;
mod grown;
mod helper;
mod live_blocks;
mod page_file;
mod profile;
mod raw_profile;
mod settings;
mod sites;
mod stacks;
mod state;
mod text;

pub use end::{at_end, at_start};
pub use profile::{DEFAULT_RATE_BYTES, start_profile, stop_profile};
pub use raw_profile::{WriteError, write_profile};

/// Makes the object it is used in start watching when it is loaded, and end when the process
/// exits: once in each `.so` face and in the crate of the global allocator.
#[macro_export]
macro_rules! watch_from_load_to_exit {
    () => {
        #[used]
        #[unsafe(link_section = ".init_array")]
        static HEAPWRIGHT_WATCH_START: extern "C" fn() = $crate::at_start;
        #[used]
        #[unsafe(link_section = ".fini_array")]
        static HEAPWRIGHT_WATCH_END: extern "C" fn() = $crate::at_end;
    };
}

//! `libheapwright_compact.so`: Heapwright's allocator for any program, mode compact: the same as
//! mode fast, and memory whose live bytes do not overlap shares physical pages.
//!
//! `LD_PRELOAD=.../libheapwright_compact.so CMD` is all it takes; `HEAPWRIGHT_MERGE=0` in the
//! environment makes it mode fast. The object needs libc.so.6 and nothing else. The design page is
//! `docs/design/compact.md`.
#![no_std]

// One face for both modes.
#[path = "../../preload/src/control.rs"]
mod control;
#[path = "../../preload/src/face.rs"]
mod face;
mod forking;
#[path = "../../preload/src/merging.rs"]
mod merging;
#[path = "../../preload/src/sampled.rs"]
mod sampled;

pub use control::{Visit, heapwright_option, heapwright_set_option, heapwright_walk};
pub use forking::fork;
pub use merging::{Merging, heapwright_merging, heapwright_release};

/// Name and version, for reports: a NUL-terminated string.
#[unsafe(export_name = "heapwright_peer_version")]
pub static PEER_VERSION: [u8; 25] = *b"heapwright-compact 0.1.0\0";

const _: () = assert!(
    PEER_VERSION.len() == "heapwright-compact ".len() + env!("CARGO_PKG_VERSION").len() + 1
);

/// Runs before the program's own code.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    forking::begin();
    heapwright_malloc::allow_merging(true);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

//! In-process stack capture that never allocates.
//!
//! Made for hooks of `malloc` that run millions of times a second: a capture takes no lock while
//! the addresses it meets are known, reads only the running thread's own stack, and costs about
//! 1 ns for each frame that is as in the thread's previous capture and 8 ns for each other.
//! Programs need no frame pointers: frames are found by the unwind tables (`.eh_frame`) that every
//! build carries, by the frame pointer only where no table covers the code. On aarch64 the chain
//! of frame pointers, which the platform keeps, is followed everywhere.
//!
//! The design and the argument why a memo of the last stack may be trusted:
//! `docs/design/unwinding.md`.
//!
//! ```
//! use heapwright_unwind::{Memo, Registers, StackEnd};
//!
//! let mut memo = Box::new(Memo::new());
//! let mut paths = Vec::new();
//! for _ in 0..3 {
//!     // SAFETY: these are this thread's own registers, and this function goes on running.
//!     let capture = unsafe { memo.capture(Registers::current()) };
//!     assert_eq!(capture.end, StackEnd::Complete);
//!     paths.push(memo.path());
//! }
//! assert_eq!(paths[1], paths[2]);
//! ```
//!
//! # Not here
//! Symbols (looked up later, in another process), and deciding when to capture.
#![no_std]

#[cfg(test)]
extern crate std;

mod eh_frame;
mod elf;
mod few_rules;
mod frame;
mod lock;
mod maps;
mod memo;
mod modules;
mod path;
mod registers;
mod resolver;
mod return_slot;
mod rule;
mod rule_cache;
mod stack;
mod step;
mod trails;
mod words;

pub use elf::BUILD_ID_BYTES_MAX;
pub use frame::{Capture, Frame, StackEnd, Truncation};
pub use memo::{FRAME_COUNT_MAX, Memo};
pub use modules::Module;
pub use path::PathHash;
pub use registers::Registers;
pub use resolver::{
    freeze_modules, keep_few_rules, module_generation, modules_loaded, modules_unloaded,
    modules_unloading, refresh_modules, reset_after_fork, visit_modules,
};
pub use return_slot::ReturnSlot;
pub use trails::Trails;

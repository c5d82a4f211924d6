//! The hardened heap: for production; misuse of a block ends the program with one line.
//!
//! Nothing about blocks lies beside them. Each size class has addresses of its own for ever, each
//! slot one word of 16 bits elsewhere that says whether it is live, by which family of functions,
//! and how many of its bytes were not asked for. The life of one block, by file:
//! 1. `alloc`: the size becomes a class; the thread's stack of that class gives a slot (`cache`),
//!    whose word must say free and whose bytes must still be zero (`fill`).
//! 2. `refill`: stacks take batches from the class's depot and leave them there (`depot`), or from
//!    its spans, shuffled (`pool`, `span`), which lie between guard pages (`space`, `class`).
//! 3. `free`: the address gives the word (`class`), the word says whether there is such a block
//!    (`word`); the canary must be whole; the bytes are zeroed; the slot waits in the thread's quarantine.
//! 4. `large`: blocks above 128 KiB are mappings between guards, whose addresses wait as well.
//! 5. `report`, `options`: what is said, and what happens then. `sweep`: all blocks at the end.
//! 6. `thread`, `fork`: threads and processes come and go. `statistics`: what the user sees.
//!
//! Works before constructors and after destructors, in a thread that is ending, and in the child
//! of an announced fork. Allocates nothing elsewhere; does not panic; never touches `errno`.
//!
//! The design page is `docs/design/hardened.md`.
#![no_std]

#[cfg(test)]
extern crate std;

mod alloc;
mod cache;
mod class;
mod depot;
mod fill;
mod fork;
mod free;
mod geometry;
mod large;
mod large_realloc;
mod large_table;
mod large_waiting;
mod options;
mod pool;
mod random;
mod realloc;
mod refill;
mod report;
mod sampling;
mod space;
mod span;
mod statistics;
mod sweep;
mod thread;
mod tls;
mod wait;
mod word;

pub use alloc::{alloc, alloc_aligned, alloc_at_once, alloc_zeroed};
pub use free::{Return, free, usable_bytes};
pub use heapwright_core::family::Family;
pub use options::VARIABLE;
pub use realloc::realloc;
pub use sampling::{GuardHooks, set_guard};
pub use statistics::{Statistics, statistics, trim};
pub use sweep::at_exit;

//! Heapwright's general allocator: thread-cached, with metadata out of band.
//!
//! The life of one block, by file:
//! 1. `alloc`: the size becomes a class; the thread's free list of that class gives a block
//!    (`thread_block`), in the common case without a lock, an atomic or a call.
//! 2. `heap`: an empty list is refilled from one of the thread's spans (`span`, `geometry`), by
//!    one that no thread owns (`class_pool`), or by a new one.
//! 3. `pool`: spans are runs of 64 KiB slices of one reserved region (`region`, `descriptor`,
//!    `runs`), shared by all threads.
//! 4. `free`: the address gives the slice, the slice its descriptor, the descriptor the owner; the
//!    owner's own free is three stores, another thread's goes through its outbox (`outbox`) and
//!    the owner's remote queue.
//! 5. `purge`, `purger`: memory without live blocks goes back to the kernel, also from inside the
//!    spans of threads that do nothing.
//! 6. `large`: blocks over 32 KiB are runs of their own. `direct`: when the region cannot be had,
//!    a block is a mapping of its own. `zone`: heaps that are destroyed at once.
//!    `merge`: in mode compact, what is left shares pages.
//! 7. `life`, `fork`: thread ends, forks. `limits`, `statistics`: what the user sees.
//!
//! Works before constructors and after destructors, in a thread that is ending, and in the child
//! of a fork. Allocates nothing elsewhere; does not panic; never touches `errno`.
//!
//! The design page is `docs/design/malloc.md`.
#![no_std]

mod alloc;
mod block;
mod class_pool;
mod descriptor;
mod direct;
mod fatal;
mod fork;
mod free;
mod geometry;
mod heap;
mod large;
mod life;
mod limits;
mod merge;
mod outbox;
mod pool;
mod purge;
mod purger;
mod region;
mod runs;
mod span;
mod span_list;
mod statistics;
mod thread_block;
mod zone;

pub use alloc::{alloc, alloc_aligned, alloc_at_once, alloc_zeroed, realloc};
pub use free::{free, usable_bytes};
pub use limits::{Limits, allow_purger, limits, set_limits};
pub use merge::{MergeState, MergeStatistics, allow_merging, merge_now, merge_statistics};
#[cfg(feature = "merge-faults")]
pub use merge::{Step, fail_merge_step};
pub use statistics::{Statistics, statistics, trim};
pub use zone::{Destroyed, Zone};

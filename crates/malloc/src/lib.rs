//! Heapwright's general allocator: thread-cached, with metadata out of band.
//!
//! The life of one block, by file:
//! 1. `alloc`: the size becomes a class; the thread's free list of that class gives a block
//!    (`thread_block`), in the common case without a lock, an atomic or a call.
//! 2. `heap`: an empty list is refilled from one of the thread's spans (`span`, `geometry`), by
//!    one that no thread owns (`class_pool`), or by a new one.
//! 3. `pool`: spans are slices of one reserved region, large blocks runs of them (`region`,
//!    `descriptor`, `runs`), shared by all threads.
//! 4. `free`: the address gives the slice, the slice its descriptor, the descriptor the owner; the
//!    owner's own free is three stores, another thread's goes through its outbox (`outbox`) and
//!    the owner's remote queue.
//! 5. `purge`, `purger`: memory without live blocks goes back to the kernel, also from inside the
//!    spans of threads that do nothing. `huge`: what is dense and old becomes huge pages.
//! 6. `large`: blocks over 32 KiB are runs of their own. `direct`: when the region cannot be had,
//!    a block is a mapping of its own. `zone`: heaps that are destroyed at once. `nodes`: NUMA.
//!    `merge`: in mode compact, what is left shares pages.
//!    `sampling`, `sampled_lists`: a few blocks are profiled or guarded, at no cost to the others.
//! 7. `life`, `fork`: thread ends, forks. `limits`, `options`, `statistics`, `walk`, `spans`,
//!    `beat`: what the user sees.
//!
//! Works before constructors and after destructors, in a thread that is ending, and in the child
//! of a fork. Allocates nothing elsewhere; does not panic; never touches `errno`.
//!
//! The design page is `docs/design/malloc.md`.
#![no_std]

/// Where tests can stop a thread (`stops`); nothing elsewhere.
macro_rules! reached {
    ($instant:ident) => {
        #[cfg(all(test, not(feature = "purge-always")))]
        crate::stops::reached(crate::stops::Instant::$instant);
    };
}

mod alloc;
mod beat;
mod block;
mod class_pool;
mod descriptor;
mod direct;
mod fatal;
mod fork;
mod free;
mod geometry;
mod heap;
mod huge;
mod large;
mod life;
mod limits;
mod merge;
mod nodes;
mod options;
mod outbox;
mod pending;
mod pool;
mod pressure;
mod purge;
mod purger;
mod quick;
mod region;
mod runs;
mod sampled_lists;
mod sampling;
mod snapshot;
mod span;
mod span_list;
mod spans;
mod statistics;
#[cfg(all(test, not(feature = "purge-always")))]
mod stops;
mod thread_block;
mod walk;
mod zone;
mod zone_inside;
mod zone_place;

pub use alloc::{alloc, alloc_aligned, alloc_at_once, alloc_zeroed, realloc};
pub use beat::{HeartbeatHook, set_heartbeat};
pub use fork::is_unannounced_child;
pub use free::{free, free_by, is_freeing_for_the_loader, usable_bytes};
pub use heapwright_os::GroupMemory;
pub use life::thread_count;
pub use limits::{Limits, allow_purger, limits, set_limits};
pub use merge::{MergeState, MergeStatistics, allow_merging, merge_now, merge_statistics};
#[cfg(feature = "merge-faults")]
pub use merge::{Step, fail_merge_step};
pub use nodes::NodeWish;
pub use options::{OPTIONS, OptionError, OptionKind, OptionRow, option, set_option};
pub use pressure::{Pressure, pressure, watch_group};
pub use sampling::{
    GuardHooks, HELD_BYTES_MAX, ProfilerHooks, SampleRate, SampledBlock, set_guard, set_profiler,
};
pub use spans::{
    Pinned, RegionFacts, RunFacts, RunKind, pinned_by, pinned_in_total, slot_bytes_of, survey,
};
pub use statistics::{Statistics, release, statistics, trim};
pub use walk::{LiveBlock, LiveBlocks, WalkError};
pub use zone::{Zone, ZoneError, ZoneOptions, ZoneStatistics, zones};

//! Region allocators and pools over any memory: for blocks whose shape of life is known.
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(any(feature = "aa2-02", feature = "aa2-03", feature = "aa2-04"))]
mod allocator;
mod backing;
mod buddy;
mod chunk;
mod linear;
mod pool;
mod stack;

pub use backing::{Buffer, Chained, Failing, Limited, StaticBuffer, Upstream};
pub use buddy::{Buddy, Tails};
pub use heapwright_core::backing::{
    Backing, BackingError, Extent, NodePolicy, Operation, Purge, Purged,
};
pub use heapwright_core::region_error::{AllocError, FreeError};
pub use heapwright_core::region_statistics::{
    Counts, Figure, LocalCounts, NoCounts, RegionStatistics,
};
#[cfg(feature = "os")]
pub use heapwright_os::AnonymousPages;
pub use linear::{FormatError, Linear, Mark, MarkError, Owned, Scope};
pub use pool::{Handle, HandlePool, Iter as HandleIter, Pool, Pooled, Pools, TypedPool};
pub use stack::{End, OutOfOrder, Stack, StackMark};

//! Region allocators and pools over any memory: for blocks whose shape of life is known.
//!
//! | blocks | take |
//! |---|---|
//! | that die together | [`Linear`]; up to a point: [`Linear::scope`] |
//! | that end in the opposite order of their making | [`Stack`] |
//! | with a frame of a game, or the next one | [`Frames`] |
//! | of one size, freed in any order | [`Pool`]; values: [`TypedPool`]; under keys: [`HandlePool`], [`BrandedPool`], [`ScopedPool`]; walked often: [`DensePool`] |
//! | under handles, and their memory must go back whatever is left | [`CompactingHeap`]; values: [`CompactingPool`] |
//! | that are dear to make | [`ObjectPool`] |
//! | of a few sizes | [`Pools`] |
//! | of any size, freed in any order | [`Slab`]; in a small fixed memory: [`Tight`] |
//! | large, or of sizes near powers of two | [`Buddy`] |
//! | of several threads | [`SharedSlab`], [`SharedPool`], [`SharedLinear`]; anything: [`Locked`] |
//!
//! [`Checked`] catches misuse of any of them, [`Tagged`] gives parts of a program names and budgets
//! in one; both are [`Region`]s, as what they wrap.
//!
//! Memory comes from a [`Backing`]: [`AnonymousPages`] of the kernel, a [`Buffer`], a
//! [`StaticBuffer`], another allocator ([`Upstream`]); [`Limited`] by a quota, [`Chained`] to a
//! second one, or [`Failing`] in tests. `Vec`, `Box` and hash tables work over a shared reference
//! to an allocator, with the features `aa2-02`, `aa2-03` and `aa2-04`.
//!
//! What trusts an address of its caller is `unsafe`:
//! ```compile_fail,E0133
//! # use heapwright_regions::{AnonymousPages, Pool};
//! let pool: Pool<_> = Pool::new_in(AnonymousPages, core::alloc::Layout::new::<u64>());
//! let block = pool.try_alloc().unwrap();
//! pool.free(block);
//! ```
//!
//! # Not here
//! A whole program's blocks of unknown life and size: that is `heapwright-malloc`.
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(any(feature = "aa2-02", feature = "aa2-03", feature = "aa2-04"))]
mod allocator;
mod annotate;
mod backing;
mod buddy;
mod checked;
mod chunk;
mod compacting;
#[cfg(feature = "os")]
mod file_heap;
mod frames;
mod growth;
mod linear;
mod locked;
mod misuse;
mod objects;
mod offset_buddy;
mod pool;
mod region;
mod slab;
mod stack;
mod tagged;
mod tight;
mod wait;

#[cfg(feature = "os")]
pub use backing::Prefaulted;
pub use backing::{
    Bound, Buffer, Chained, Failing, Guarded, Kept, Lazy, Limited, StaticBuffer, Upstream,
};
pub use buddy::{Buddy, Tails};
pub use checked::{Checked, Checks, Off, On, Quarantine};
pub use compacting::{
    AccessError, Blocks, CompactingHeap, CompactingPool, Compaction, Moved, PinnedBlock,
    PinnedBlockMut, PinnedValue, PinnedValueMut, PoolValues, ResizeError,
};
#[cfg(feature = "os")]
pub use file_heap::{FileHeap, FileHeapError, FileHeapShape, FilePart};
pub use frames::{FrameHandle, Frames};
pub use heapwright_core::backing::{
    Backing, BackingError, Extent, NodePolicy, Operation, Prepare, Purge, Purged,
};
pub use heapwright_core::prefetch::prefetch_read;
pub use heapwright_core::region_error::{AllocError, FreeError};
pub use heapwright_core::region_kind::RegionKind;
pub use heapwright_core::region_statistics::{
    Counts, Figure, LocalCounts, NoCounts, RegionStatistics,
};
#[cfg(feature = "os")]
pub use heapwright_os::{Access, AnonymousPages, FilePages, HugePages, HugeWish};
pub use linear::{FormatError, Linear, LinearLocal, Mark, MarkError, Owned, Scope, SharedLinear};
pub use locked::Locked;
pub use misuse::{Misuse, MisuseJson};
pub use objects::{Object, ObjectPool, ObjectPoolStatistics};
pub use offset_buddy::OffsetBuddy;
pub use pool::{
    Brand, BrandedHandle, BrandedPool, DensePool, Handle, HandleError, HandlePool,
    Iter as HandleIter, Overflow, Pool, PoolLocal, Pooled, Pools, ScopedHandle, ScopedPool,
    SharedPool, TypedPool, Values as HandleValues, with_brand,
};
pub use region::Region;
pub use slab::{Lines, SharedSlab, Slab, SlabLocal};
pub use stack::{End, OutOfOrder, Stack, StackMark};
pub use tagged::{OverBudget, Part, Tag, TagStatistics, Tagged};
pub use tight::Tight;

//! Region allocators and pools: see `heapwright-regions`.

pub use heapwright_regions::{
    AllocError, AnonymousPages, Backing, BackingError, Buddy, Buffer, Chained, Checked, Checks,
    Counts, End, Extent, Failing, Figure, FormatError, FrameHandle, Frames, FreeError, Handle,
    HandleIter, HandlePool, HandleValues, Limited, Linear, LinearLocal, Lines, LocalCounts, Locked,
    Mark, MarkError, Misuse, MisuseJson, NoCounts, NodePolicy, Object, ObjectPool,
    ObjectPoolStatistics, Off, On, Operation, OutOfOrder, OverBudget, Overflow, Owned, Part, Pool,
    PoolLocal, Pooled, Pools, Purge, Purged, Quarantine, Region, RegionStatistics, Scope,
    SharedLinear, SharedPool, SharedSlab, Slab, SlabLocal, Stack, StackMark, StaticBuffer, Tag,
    TagStatistics, Tagged, Tails, Tight, TypedPool, Upstream, prefetch_read,
};

pub use heapwright_regions::{
    Brand, BrandedHandle, BrandedPool, DensePool, HandleError, Kept, Prefaulted, ScopedHandle,
    ScopedPool, with_brand,
};

pub use heapwright_regions::{
    Bound, FileHeap, FileHeapError, FileHeapShape, FilePages, FilePart, Guarded, HugePages,
    HugeWish, OffsetBuddy,
};

pub use heapwright_regions::{
    AccessError, Blocks, CompactingHeap, CompactingPool, Compaction, Moved, PinnedBlock,
    PinnedBlockMut, PinnedValue, PinnedValueMut, PoolValues, ResizeError,
};

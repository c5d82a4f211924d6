//! Region allocators and pools: see `heapwright-regions`.

pub use heapwright_regions::{
    AllocError, AnonymousPages, Backing, BackingError, Buddy, Buffer, Chained, Counts, End, Extent,
    Failing, Figure, FormatError, FreeError, Handle, HandleIter, HandlePool, Limited, Linear,
    LocalCounts, Mark, MarkError, NoCounts, NodePolicy, Operation, OutOfOrder, Owned, Pool, Pooled,
    Pools, Purge, Purged, RegionStatistics, Scope, Stack, StackMark, StaticBuffer, Tails,
    TypedPool, Upstream,
};

pub use heapwright_regions::{
    Bound, FileHeap, FileHeapError, FileHeapShape, FilePages, FilePart, Guarded, HugePages,
    HugeWish, OffsetBuddy,
};

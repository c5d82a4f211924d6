//! Numbers, and giving memory back on request.

use heapwright_core::size_class::class_bytes;
use heapwright_sync::atomic::Ordering;

use crate::descriptor::{ABANDONED, HEAP_MIN};
use crate::pool::lock;
use crate::region::{SLICE_BYTES, descriptor};
use crate::thread_block::ThreadBlock;

/// What the allocator holds, in bytes of address space unless said otherwise. Exact at the moment
/// it is read where no other thread runs; otherwise each number is right for some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Spans of small blocks.
    pub small_span_bytes: usize,
    /// Slots of small blocks in use, those in threads' free lists and on their way home
    /// included: an upper bound of live small blocks.
    pub small_used_bytes: usize,
    /// Usable bytes of large blocks, and of blocks with a mapping of their own. Exact.
    pub large_bytes: usize,
    /// How many blocks these are. Exact.
    pub large_count: usize,
    /// Free runs that may be resident.
    pub dirty_bytes: usize,
}

/// Reads the statistics: O(slices ever used), under the lock.
pub fn statistics() -> Statistics {
    let pool = lock();
    let mut small_used_bytes = 0;
    let mut index = 0;
    while index < pool.runs.frontier() {
        // SAFETY: below the frontier.
        let slice = unsafe { descriptor(index) };
        let owner = slice.owner.load(Ordering::Relaxed);
        if owner == ABANDONED || owner >= HEAP_MIN {
            let used_count = slice.used_count.load(Ordering::Relaxed).max(0) as usize;
            let class_index = usize::from(slice.class_index.load(Ordering::Relaxed));
            small_used_bytes += used_count * class_bytes(class_index);
        }
        index += 1;
    }
    Statistics {
        small_span_bytes: pool.small_slices * SLICE_BYTES,
        small_used_bytes,
        large_bytes: pool.large_bytes + pool.direct.usable_bytes,
        large_count: pool.large_count + pool.direct.count,
        dirty_bytes: pool.runs.dirty_slices() as usize * SLICE_BYTES,
    }
}

/// Gives all free runs back to the kernel, those of the calling thread's own empty spans
/// included; whether there was any. System calls, under the lock.
pub fn trim() -> bool {
    let thread = ThreadBlock::current();
    // SAFETY: heaps live for ever; null when the thread has none.
    if let Some(heap) = unsafe { thread.heap.get().as_ref() } {
        heap.collect_remote();
        heap.return_lists(thread);
    }
    lock().runs.purge_all() > 0
}

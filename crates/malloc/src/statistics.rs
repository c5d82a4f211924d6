//! Numbers, and giving memory back on request.

use heapwright_core::size_class::class_bytes;
use heapwright_sync::atomic::Ordering;

use crate::descriptor::{ORPHANED, PASSIVE, THREAD_MIN, ZONE};
use crate::merge::{merge_now, merge_statistics};
use crate::pool::lock;
use crate::purge::{Eagerness, purged_bytes};
use crate::purger::{can_visit, round_of_owner, round_over_others};
use crate::region::{SLICE_BYTES, descriptor};
use crate::span::{PAGE_UNIT_BYTES, Span};
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
    for index in pool.runs.ranges().flatten() {
        let owner = descriptor(index).owner.load(Ordering::Relaxed);
        let span = Span::at(index);
        let used_count = match owner {
            PASSIVE => span.passive_used(),
            ORPHANED | ZONE => span.used(),
            owner if owner >= THREAD_MIN => span.used(),
            _ => 0,
        };
        small_used_bytes += used_count.max(0) as usize * class_bytes(span.class_index());
    }
    Statistics {
        small_span_bytes: pool.small_bytes,
        small_used_bytes,
        large_bytes: pool.large_bytes + pool.direct.usable_bytes,
        large_count: pool.large_count + pool.direct.count,
        dirty_bytes: pool.runs.dirty_slices() as usize * SLICE_BYTES,
    }
}

/// Gives everything back to the kernel that holds no live block, in all threads' spans; whether
/// there was any. System calls, some under locks: milliseconds.
pub fn trim() -> bool {
    let thread = ThreadBlock::current();
    // SAFETY: heaps live for ever; null when the thread has none.
    if let Some(heap) = unsafe { thread.heap.get().as_ref() } {
        let mut entered = heap.enter();
        entered.collect_remote();
        entered.return_lists(thread);
    }
    let before = lock().runs.dirty_slices();
    round_of_owner(Eagerness::All);
    if can_visit() {
        round_over_others(Eagerness::All);
    }
    round_of_owner(Eagerness::All);
    let is_merged = merge_now();
    before > 0 || is_merged
}

/// [`trim`], and how many bytes went back to the kernel by it: of free memory, and in mode compact
/// of pages that live blocks now share. What other threads gave back meanwhile is counted, too.
pub fn release() -> usize {
    let (purged_before, merged_before) = (purged_bytes(), merge_statistics().freed_pages);
    trim();
    let merged_pages = merge_statistics().freed_pages - merged_before;
    let purged = purged_bytes().saturating_sub(purged_before);
    usize::try_from(purged as i64 + merged_pages * PAGE_UNIT_BYTES as i64).unwrap_or(0)
}

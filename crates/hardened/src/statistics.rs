//! Figures for the user.

use crate::geometry::CLASS_COUNT;
use heapwright_sync::atomic::Ordering;

use crate::geometry::CUTS;
use crate::large::large;
use crate::pool::{SPAN_BYTES_IN_USE, pool};
use crate::refill::{bring_all_back, bring_depot_back};
use crate::space::UNGUARDED_SPANS;
use crate::span::Span;
use crate::thread::{empty_idle, is_started};
use crate::tls;
use crate::wait::hold;

/// What the heap holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes of spans in use, exact.
    pub small_span_bytes: usize,
    /// Bytes of slots that are live or wait with another thread.
    pub small_used_bytes: usize,
    /// Bytes of large blocks, whole pages, exact.
    pub large_bytes: usize,
    /// Large blocks, exact.
    pub large_count: usize,
    /// Spans whose guard the kernel refused.
    pub unguarded_spans: usize,
}

/// Gives the memory of spans without live blocks back to the kernel, those of slots that wait with
/// the calling thread, with none, or in depots too, and pages kept of large blocks; whether there was any. O(spans).
pub fn trim() -> bool {
    if !is_started() {
        return false;
    }
    if let Some(cache) = tls::cache() {
        bring_all_back(cache);
    }
    empty_idle();
    (0..CLASS_COUNT).for_each(bring_depot_back);
    let is_any = hold(large()).trim();
    // Each of them, whatever the first one says.
    (0..CLASS_COUNT)
        .fold(is_any, |is_any, class_index| hold(pool(class_index)).trim(class_index) | is_any)
}

/// Counts. O(spans), one lock after the other, so the sums are of no one moment.
pub fn statistics() -> Statistics {
    let mut small_used_bytes = 0;
    for (class_index, cut) in CUTS.iter().enumerate().take(CLASS_COUNT) {
        if !is_started() {
            break;
        }
        let pool = hold(pool(class_index));
        for number in pool.first..pool.frontier {
            let span = Span::at(class_index, number);
            let used = span.touched() - span.free_count();
            small_used_bytes += used as usize * cut.slot_bytes as usize;
        }
        let own_count = tls::cache().map_or(0, |cache| cache.held_count(class_index));
        let free_bytes = (pool.depot.len() + own_count) * cut.slot_bytes as usize;
        small_used_bytes = small_used_bytes.saturating_sub(free_bytes);
    }
    let large = hold(large());
    Statistics {
        small_span_bytes: SPAN_BYTES_IN_USE.load(Ordering::Relaxed),
        small_used_bytes,
        large_bytes: large.room_bytes,
        large_count: large.table.len(),
        unguarded_spans: UNGUARDED_SPANS.load(Ordering::Relaxed),
    }
}

//! Finds the windows that may share pages, span by span.

use core::ptr::NonNull;

use heapwright_sync::atomic::Ordering;

use crate::class_pool::lock_class;
use crate::descriptor::{PASSIVE, SliceIndex};
use crate::merge::barrier::Barrier;
use crate::merge::homes;
use crate::merge::live::live_mask;
use crate::merge::mask::{Mask, SLICE_WINDOWS, WINDOW_BYTES};
use crate::merge::plan::{Candidate, NO_GROUP, PAGE_COST};
use crate::merge::step::{is_merged, is_open};
use crate::purge::purge_pages;
use crate::region::slice_start;
use crate::span::{PAGE_UNIT_BYTES, Span};

/// Windows that are fuller than this share of their pages are left alone.
const DENSE_SHARE: (usize, usize) = (3, 4);

/// A guess, without a lock: whether the slice is a span that has windows to merge, for the first
/// time or again.
pub(crate) fn may_be_merged(span: Span) -> bool {
    let head = span.head();
    head.owner.load(Ordering::Relaxed) == PASSIVE
        && head.bit_count.load(Ordering::Relaxed) > 0
        && (0..SLICE_WINDOWS).any(|window| is_open(span, window) || is_thin(span, window))
}

/// Whether the window is merged, and its segment is to be emptied.
fn is_thin(span: Span, window: usize) -> bool {
    is_merged(span, window) && homes::share_of_thin(span.index(), window).is_some()
}

/// Counts for the segments what of the span's merged windows is alive. A guess, without a lock.
pub(crate) fn count_live(span: Span) {
    let live_bytes = span.passive_used().max(0) as usize * span.geometry().slot_bytes as usize;
    for window in (0..SLICE_WINDOWS).filter(|window| is_merged(span, *window)) {
        homes::count_live(span.index(), window, live_bytes / SLICE_WINDOWS);
    }
}

/// Looks whether the span's merged windows were written since: how many there are, how many were.
/// Two microseconds; a guess, without a lock.
pub(crate) fn count_written(barrier: &Barrier, span: Span) -> (u32, u32) {
    let mut counts = (0, 0);
    for window in (0..SLICE_WINDOWS).filter(|window| is_merged(span, *window)) {
        let start = slice_start(span.index()).wrapping_add(window * WINDOW_BYTES);
        let is_written = NonNull::new(start)
            .is_some_and(|start| barrier.is_written(start, &Mask::ALL) == Ok(true));
        counts.0 += 1;
        counts.1 += u32::from(is_written);
    }
    counts
}

/// Writes the windows of the span at `index` that may be merged to `candidates`, of which there
/// are at least [`SLICE_WINDOWS`]; returns how many. Microseconds under the class's lock.
pub(crate) fn collect(index: SliceIndex, candidates: &mut [Candidate]) -> usize {
    let guess = Span::at(index);
    if !may_be_merged(guess) {
        return 0;
    }
    let pool = lock_class(guess.class_index());
    let span = Span::at(index);
    if span.class_index() != guess.class_index() || !may_be_merged(span) {
        return 0;
    }
    if span.head().is_dirty.load(Ordering::Relaxed) != 0 {
        if !span.place().is_merged() {
            // Something was freed since a purger came by.
            return 0;
        }
        purge_pages(span);
    }
    let mut count = 0;
    for window in 0..SLICE_WINDOWS {
        let share = is_merged(span, window).then(|| homes::share_of_thin(index, window)).flatten();
        if share.is_none() && !is_open(span, window) {
            continue;
        }
        let mask = live_mask(span, window);
        let (live_bytes, page_count) = (mask.live_bytes(), mask.page_count());
        let (part, whole) = DENSE_SHARE;
        let is_dense = live_bytes * whole > page_count * PAGE_UNIT_BYTES * part;
        if mask == Mask::EMPTY || (share.is_none() && is_dense) {
            continue;
        }
        candidates[count] = Candidate {
            mask,
            slice: index,
            window: window as u8,
            class_index: span.class_index() as u8,
            cost: share.unwrap_or(page_count as u32 * PAGE_COST) as u16,
            is_merged: share.is_some(),
            live_bytes: live_bytes as u16,
            group: NO_GROUP,
        };
        count += 1;
    }
    drop(pool);
    count
}

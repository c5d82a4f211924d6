//! Finds the windows that may share pages, span by span.

use heapwright_sync::atomic::Ordering;

use crate::class_pool::lock_class;
use crate::descriptor::{PASSIVE, SliceIndex};
use crate::merge::live::live_mask;
use crate::merge::mask::{Mask, SLICE_WINDOWS};
use crate::merge::plan::{Candidate, NO_GROUP};
use crate::merge::step::is_open;
use crate::purge::purge_pages;
use crate::span::{PAGE_UNIT_BYTES, Span};

/// Windows that are fuller than this share of their pages are left alone.
const DENSE_SHARE: (usize, usize) = (3, 4);

/// A guess, without a lock: whether the slice is a span that has windows to merge.
pub(crate) fn may_be_merged(span: Span) -> bool {
    let head = span.head();
    head.owner.load(Ordering::Relaxed) == PASSIVE
        && head.bit_count.load(Ordering::Relaxed) > 0
        && (0..SLICE_WINDOWS).any(|window| is_open(span, window))
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
    for window in (0..SLICE_WINDOWS).filter(|window| is_open(span, *window)) {
        let mask = live_mask(span, window);
        let (live_bytes, page_count) = (mask.live_bytes(), mask.page_count());
        let (part, whole) = DENSE_SHARE;
        if mask == Mask::EMPTY || live_bytes * whole > page_count * PAGE_UNIT_BYTES * part {
            continue;
        }
        candidates[count] = Candidate {
            mask,
            slice: index,
            window: window as u8,
            class_index: span.class_index() as u8,
            page_count: page_count as u16,
            live_bytes: live_bytes as u16,
            group: NO_GROUP,
        };
        count += 1;
    }
    drop(pool);
    count
}

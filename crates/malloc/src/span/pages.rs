//! Which pages of a span may be resident: provided several at once, given back behind the slots
//! that were handed out.

use core::ptr::NonNull;

use heapwright_os::{Advice, advise, page_bytes};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use super::{PAGE_UNIT_BYTES, SLICE_PAGES, Span};
use crate::huge;
use crate::pressure;
use crate::purge::note_purged;
use crate::region::{SLICE_BYTES, slice_start};
use crate::runs::ever_used_bytes;

/// Fewer pages are not worth a call of the kernel.
const TAIL_PAGES_MIN: u32 = 2;
/// Pages provided at once, at most: a call of the kernel costs as much as one fault.
const POPULATE_PAGES_MAX: usize = 8;
/// And at most one for so many that the class holds: what it may not come to use.
pub(crate) const POPULATE_SHARE: usize = 4;
/// But one by one until so much was ever used: in small processes each page counts.
const POPULATE_USED_BYTES_MIN: usize = 4 << 20;
/// 1 when the kernel refused to provide several at once.
static POPULATE_REFUSED: AtomicU32 = AtomicU32::new(0);

/// In `extra`: pages that may be resident, and from [`REACHED_SHIFT`] on those of them that only the end
/// of a slot reaches into. The latter is forgotten with whatever else changes.
const TOUCHED_MASK: u64 = (1 << REACHED_SHIFT) - 1;
const REACHED_SHIFT: u32 = 32;
const _: () = assert!(SLICE_PAGES <= REACHED_SHIFT as usize);

impl Span {
    /// Whether the next slot that was never handed out, if there is one, reaches a page that was
    /// not touched.
    #[inline]
    pub(crate) fn is_next_slot_fresh(self) -> bool {
        let geometry = self.geometry();
        let extended = usize::from(self.extended());
        if extended >= usize::from(geometry.slot_count) {
            return false;
        }
        let last = self.slot_offset(extended) + geometry.slot_bytes as usize - 1;
        self.touched() >> (last / PAGE_UNIT_BYTES) & 1 == 0
    }

    /// Has the kernel provide `page`, which is about to be touched, and some behind it, at once.
    pub(super) fn populate(self, page: usize, held_spans: impl Fn() -> usize) {
        let free = (self.there() >> page).trailing_zeros() as usize;
        if free == 0 || !can_populate() {
            return;
        }
        let most = pages_at_once(page, held_spans());
        self.provide(page, most.min(SLICE_PAGES - page).min(free));
    }

    /// The same for the last slot that the bitmap tells of, which has a page that was purged, and
    /// purged pages before it: all of them are free.
    pub(super) fn populate_last(self, held_spans: impl Fn() -> usize) {
        if !can_populate() {
            return;
        }
        let touched = self.touched();
        let most = pages_at_once(touched.count_ones() as usize, held_spans());
        let Some(offset) = self.last_free_offset() else { return };
        let is_purged = |page: &usize| touched >> page & 1 == 0;
        let end = (offset + self.geometry().slot_bytes as usize - 1) / PAGE_UNIT_BYTES;
        let last = if is_purged(&end) { end } else { offset / PAGE_UNIT_BYTES };
        // Pages between them that are there cost next to nothing.
        let near = (last + 1).saturating_sub(POPULATE_PAGES_MAX)..=last;
        if let Some(first) = near.rev().filter(is_purged).take(most).last() {
            self.provide(first, last + 1 - first);
        }
    }

    /// Has the kernel provide `count` pages from `page` on at once, as far as they are not there; a
    /// single one comes by a fault as cheaply.
    fn provide(self, page: usize, count: usize) {
        if count < 2 {
            return;
        }
        let address = slice_start(self.index).wrapping_add(page * PAGE_UNIT_BYTES);
        let Some(start) = NonNull::new(address) else { return };
        // SAFETY: whole pages of our span; what is on them, if anything, stays.
        if unsafe { advise(start, count * PAGE_UNIT_BYTES, Advice::Populate) }.is_err() {
            // Not on this kernel, or no memory: by faults from here on.
            POPULATE_REFUSED.store(1, Ordering::Relaxed);
        }
        // After a refusal, too: some may be there.
        self.note_touched(page * PAGE_UNIT_BYTES, count * PAGE_UNIT_BYTES);
    }

    /// Gives the pages behind the slots handed out so far to the kernel, if two or more are there;
    /// returns how many went.
    pub(crate) fn give_tail(self) -> u32 {
        let geometry = self.geometry();
        let extended = usize::from(self.extended());
        if extended >= usize::from(geometry.slot_count) {
            return 0;
        }
        let used_bytes = match extended {
            0 => 1,
            _ => self.slot_offset(extended - 1) + geometry.slot_bytes as usize,
        };
        let first = used_bytes.next_multiple_of(page_bytes().max(PAGE_UNIT_BYTES));
        let kept = (1 << (first / PAGE_UNIT_BYTES)) - 1;
        let touched = self.touched();
        let count = (touched & !kept).count_ones();
        let Some(start) = NonNull::new(slice_start(self.index).wrapping_add(first)) else {
            return 0;
        };
        if count < TAIL_PAGES_MIN || huge::keeps_whole(self) {
            return 0;
        }
        // SAFETY: whole pages of our span, on which no slot was handed out yet.
        if unsafe { advise(start, SLICE_BYTES - first, Advice::DontNeed) }.is_err() {
            return 0;
        }
        huge::note_purged(self.index, 1);
        note_purged(count as usize * PAGE_UNIT_BYTES);
        self.set_touched(touched & kept);
        count
    }

    /// Its pages that may be resident, a bit each.
    pub(crate) fn touched(self) -> u64 {
        self.head.extra.load(Ordering::Relaxed) & TOUCHED_MASK
    }

    /// Its pages that surely were resident since they were purged last: not those that only the end
    /// of a slot reaches into, which its owner may not have written yet.
    pub(super) fn there(self) -> u64 {
        let extra = self.head.extra.load(Ordering::Relaxed);
        extra & TOUCHED_MASK & !(extra >> REACHED_SHIFT)
    }

    /// Notes which pages may be resident.
    pub(crate) fn set_touched(self, touched: u64) {
        self.head.extra.store(touched & TOUCHED_MASK, Ordering::Relaxed);
    }

    /// Notes that pages are not the kernel's zero pages any more, but resident.
    pub(super) fn note_touched(self, offset: usize, bytes: usize) {
        let added = pages_of(offset, bytes);
        let extra = self.head.extra.load(Ordering::Relaxed);
        let noted = (extra | added) & !(added << REACHED_SHIFT);
        if noted != extra {
            self.head.extra.store(noted, Ordering::Relaxed);
        }
    }

    /// The same for a slot handed out that nobody has written yet: it is written from its start, and
    /// how far nobody knows.
    pub(super) fn note_reached(self, offset: usize, bytes: usize) {
        let pages = pages_of(offset, bytes);
        if self.there() & pages == pages {
            return;
        }
        let start = pages_of(offset, 1);
        let behind = pages & !start & !self.touched();
        self.note_touched(offset, 1);
        let extra = self.head.extra.load(Ordering::Relaxed);
        self.head.extra.store(extra | behind | behind << REACHED_SHIFT, Ordering::Relaxed);
    }

    /// Whether at least half of its pages may be resident.
    pub(crate) fn is_mostly_touched(self) -> bool {
        self.touched().count_ones() as usize * 2 >= SLICE_PAGES
    }
}

/// The pages of the `bytes` (at least 1) at `offset`, a bit each.
fn pages_of(offset: usize, bytes: usize) -> u64 {
    let first = offset / PAGE_UNIT_BYTES;
    let last = (offset + bytes - 1) / PAGE_UNIT_BYTES;
    (u64::MAX >> (63 - (last - first))) << first
}

/// Whether the kernel may be asked for several pages at once; not while memory is short.
fn can_populate() -> bool {
    page_bytes() <= PAGE_UNIT_BYTES
        && ever_used_bytes() >= POPULATE_USED_BYTES_MIN
        && POPULATE_REFUSED.load(Ordering::Relaxed) == 0
        && !pressure::is_tight()
}

/// Pages to provide at once for a class with `pages` in its current span and so many spans beside.
fn pages_at_once(pages: usize, held_spans: usize) -> usize {
    ((pages + held_spans * SLICE_PAGES) / POPULATE_SHARE).min(POPULATE_PAGES_MAX)
}

#[cfg(test)]
mod tests {
    use super::{POPULATE_PAGES_MAX, POPULATE_SHARE, SLICE_PAGES, pages_at_once};

    #[test]
    fn a_class_gets_no_more_pages_at_once_than_a_share_of_its_own() {
        for held_spans in 0..=2 * POPULATE_SHARE {
            for pages in 0..SLICE_PAGES {
                let held = pages + held_spans * SLICE_PAGES;
                let count = pages_at_once(pages, held_spans);
                assert!(count * POPULATE_SHARE <= held && count <= POPULATE_PAGES_MAX);
            }
        }
        assert_eq!(pages_at_once(0, POPULATE_SHARE), POPULATE_PAGES_MAX.min(SLICE_PAGES));
    }
}

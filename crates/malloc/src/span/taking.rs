//! Free slots leave a span for a thread's list: what is linked, what the bitmap tells of, new ones.
//!
//! # Invariants
//! design/malloc.md#I1 and #I2.

use heapwright_sync::atomic::Ordering;

use super::{PAGE_UNIT_BYTES, PAGE_UNIT_WORDS, SPAN_WORDS, Span};
use crate::block::{self, Block};
use crate::region::{BIT_BYTES, WORD_COVERS_BYTES, bitmap_word, slice_start};

/// A list of up to so many times what is wished is taken whole: walking it to cut it means waiting
/// for one cache miss a block.
const WHOLE_LIST_FACTOR: i32 = 8;

impl Span {
    /// Takes free slots to hand out, linked, about `wished` of them (at least 1): those freed last,
    /// then those that the bitmap tells of, then new ones. Null when the span is full. They count
    /// as used from here on.
    ///
    /// A single slot may lie on a page that is not there: it holds no link then, not even that there
    /// is no other. The program touches it first, which takes the page fault as well as a link
    /// would, but not inside `malloc`.
    ///
    /// New ones join those that were freed while these are fewer than `enough`. When that is above
    /// 0, there come as many as there are resident pages for. Pages of a class that has many are
    /// provided several at once; `held_spans` says how many spans it has beside this one.
    pub(crate) fn take_slots(
        self,
        wished: usize,
        enough: u8,
        held_spans: impl Fn() -> usize,
    ) -> Block {
        debug_assert!(wished > 0 && wished <= usize::from(self.geometry().slot_count));
        let list = self.head.local_free.load(Ordering::Relaxed);
        let linked = self.passive_used() - self.used();
        // With a slot or two going round, each allocation would be a refill.
        let is_short = linked < i32::from(enough);
        if !list.is_null() && !is_short {
            return self.take_linked(list, wished as i32);
        }
        if list.is_null() && self.head.bit_count.load(Ordering::Relaxed) > 0 {
            return self.harvest(wished, held_spans);
        }
        let fresh = self.extend(wished, enough > 0, held_spans);
        if !fresh.is_null() {
            return fresh;
        }
        let list = self.head.local_free.load(Ordering::Relaxed);
        if list.is_null() { list } else { self.take_linked(list, wished as i32) }
    }

    /// Takes all that is linked, with its count, when these are `enough` slots or there are no new
    /// ones: without walking or touching any of them. For the owner in a quick refill.
    #[inline]
    pub(crate) fn take_all_linked(self, enough: u8) -> Option<(Block, u32)> {
        let geometry = self.geometry();
        let list = self.head.local_free.load(Ordering::Relaxed);
        let used = self.used();
        let linked = self.passive_used() - used;
        let is_enough = linked >= i32::from(enough) || self.extended() == geometry.slot_count;
        if list.is_null() || !is_enough || geometry.is_coarse() {
            return None;
        }
        reached!(LinksRead);
        self.head.local_free.store(core::ptr::null_mut(), Ordering::Relaxed);
        reached!(LinksTaken);
        self.set_used(used + linked);
        Some((list, linked as u32))
    }

    fn take_linked(self, list: Block, wished: i32) -> Block {
        let used = self.used();
        let linked = self.passive_used() - used;
        let whole_max = match self.geometry().is_coarse() {
            true => wished,
            false => wished.saturating_mul(WHOLE_LIST_FACTOR),
        };
        if linked <= whole_max {
            self.head.local_free.store(core::ptr::null_mut(), Ordering::Relaxed);
            self.set_used(used + linked);
            return list;
        }
        let mut last = list;
        for _ in 1..wished {
            // SAFETY: `linked` blocks are linked (I2), more than `wished`; the list is ours.
            last = unsafe { block::next(last) };
        }
        // SAFETY: as above.
        let rest = unsafe { block::next(last) };
        // SAFETY: as above; the block leaves the span's list together with those before it.
        unsafe { block::set_next(last, core::ptr::null_mut()) };
        self.head.local_free.store(rest, Ordering::Relaxed);
        self.set_used(used + wished);
        list
    }

    /// Links slots that the bitmap tells of: on pages that are there already, if there are any.
    /// Else the last slot is taken as it is.
    fn harvest(self, wished: usize, held_spans: impl Fn() -> usize) -> Block {
        let mut list = core::ptr::null_mut();
        let mut taken = self.harvest_pages(wished, &mut list);
        if taken == 0 {
            self.populate_last(held_spans);
            taken = self.harvest_pages(wished, &mut list);
        }
        if taken == 0 {
            list = self.harvest_last();
            taken = usize::from(!list.is_null());
        }
        debug_assert!(taken > 0, "I2: bits were counted that are not there");
        let left = usize::from(self.head.bit_count.load(Ordering::Relaxed)) - taken;
        self.head.bit_count.store(left as u16, Ordering::Relaxed);
        self.set_used(self.used() + taken as i32);
        list
    }

    /// Takes the last slot that the bitmap tells of, without a link.
    fn harvest_last(self) -> Block {
        let Some(offset) = self.last_free_offset() else { return core::ptr::null_mut() };
        let place = bitmap_word(self.index, offset / WORD_COVERS_BYTES);
        let mask = 1 << (offset / BIT_BYTES % u64::BITS as usize);
        place.store(place.load(Ordering::Relaxed) & !mask, Ordering::Relaxed);
        self.note_reached(offset, self.geometry().slot_bytes as usize);
        slice_start(self.index).wrapping_add(offset).cast()
    }

    /// Links up to `wished` slots whose first and last pages are there in front of `list`; how many.
    fn harvest_pages(self, wished: usize, list: &mut Block) -> usize {
        let slot_bytes = self.geometry().slot_bytes as usize;
        let touched = self.touched();
        let mut taken = 0;
        // From the end, so that the list goes up.
        for word in (0..SPAN_WORDS).rev() {
            if touched >> (word / PAGE_UNIT_WORDS) & 1 == 0 {
                continue;
            }
            let place = bitmap_word(self.index, word);
            let mut bits = place.load(Ordering::Relaxed);
            let (mut kept, before) = (0, taken);
            while bits != 0 && taken < wished {
                let bit = bits.ilog2() as usize;
                bits &= !(1 << bit);
                let offset = word * WORD_COVERS_BYTES + bit * BIT_BYTES;
                let end_page = (offset + slot_bytes - 1) / PAGE_UNIT_BYTES;
                if touched >> end_page & 1 == 0 {
                    kept |= 1 << bit;
                    continue;
                }
                let slot: Block = slice_start(self.index).wrapping_add(offset).cast();
                // SAFETY: a free slot of ours (I1).
                unsafe { block::set_next(slot, *list) };
                *list = slot;
                // Of a slot of more than two pages those between may have been purged.
                self.note_reached(offset, slot_bytes);
                taken += 1;
            }
            if taken == before {
                continue;
            }
            place.store(bits | kept, Ordering::Relaxed);
            if taken == wished {
                break;
            }
        }
        taken
    }

    /// Links slots that were never handed out in front of those that were freed, `wished` of them
    /// but a page's at most, since linking touches them and a page fault costs ten times what a
    /// refill does. When the first one lies on a page that is not there, only that one is taken, and
    /// returned without a link; null otherwise.
    fn extend(self, wished: usize, is_hot: bool, held_spans: impl Fn() -> usize) -> Block {
        let geometry = self.geometry();
        let slot_bytes = geometry.slot_bytes as usize;
        let slot_count = usize::from(geometry.slot_count);
        let extended = usize::from(self.extended());
        if extended >= slot_count {
            return core::ptr::null_mut();
        }
        let offset = self.slot_offset(extended);
        let first: Block = slice_start(self.index).wrapping_add(offset).cast();
        if slot_bytes <= PAGE_UNIT_BYTES {
            self.populate((offset + slot_bytes - 1) / PAGE_UNIT_BYTES, held_spans);
        }
        let there = self.there() >> (offset / PAGE_UNIT_BYTES);
        if there & 1 == 0 {
            self.note_reached(offset, slot_bytes);
            self.head.extended_count.store(extended as u16 + 1, Ordering::Relaxed);
            self.set_used(self.used() + 1);
            return first;
        }
        let there_bytes = there.trailing_ones() as usize * PAGE_UNIT_BYTES;
        let there = (there_bytes - offset % PAGE_UNIT_BYTES) / slot_bytes;
        // The first refills want few: a thread that ends soon would have linked the rest in vain.
        let most = if is_hot { slot_count } else { wished };
        let unit_slots = usize::from(geometry.unit_slots);
        let unit_end = extended / unit_slots * unit_slots + unit_slots;
        let end = (extended + there.clamp(1, most)).min(unit_end).min(slot_count);
        self.link_new(extended, end);
        core::ptr::null_mut()
    }

    /// Links the slots from `start` to `end`, never handed out and in one unit, in front of those
    /// that are linked.
    fn link_new(self, start: usize, end: usize) {
        let slot_bytes = self.geometry().slot_bytes as usize;
        let offset = self.slot_offset(start);
        let first = slice_start(self.index).wrapping_add(offset);
        let mut slot = first;
        for _ in start..end - 1 {
            let next = slot.wrapping_add(slot_bytes);
            // SAFETY: a slot of the span that was never handed out.
            unsafe { block::set_next(slot.cast(), next.cast()) };
            slot = next;
        }
        // SAFETY: as above.
        unsafe { block::set_next(slot.cast(), self.head.local_free.load(Ordering::Relaxed)) };
        self.note_reached(offset, (end - start) * slot_bytes);
        self.head.extended_count.store(end as u16, Ordering::Relaxed);
        self.head.local_free.store(first.cast(), Ordering::Relaxed);
    }
}

//! Free slots that only the side bitmap tells of: those of passive spans, and what is left of them
//! in a span that a thread has taken over.
//!
//! # Invariants
//! design/malloc.md#I1 and #I2.

use heapwright_sync::atomic::{AtomicU64, Ordering};

use super::{PAGE_UNIT_BYTES, SPAN_WORDS, Span};
use crate::block::{self, Block};
use crate::descriptor::{PASSIVE, Place};
use crate::region::{BIT_BYTES, WORD_COVERS_BYTES, bitmap_word, slice_start};

impl Span {
    /// Moves what is linked into the bitmap.
    pub(crate) fn links_to_bits(self) {
        // A swap, since the owner can be in the middle of a free: what it stores later stays.
        let mut list = self.head.local_free.swap(core::ptr::null_mut(), Ordering::Acquire);
        while !list.is_null() {
            let block = list;
            // SAFETY: a free slot of a span that is ours; nobody else reads its link.
            list = unsafe { block::next(block) };
            self.set_bit(block);
        }
    }

    /// Moves what is linked in a pending span into the bitmap, once its owner is in no free: it is
    /// here, or not in this process. When a purger has moved the rest, that is the one block that a
    /// free had in hand, whose link means nothing any more.
    pub(crate) fn settle_links(self) {
        if self.place() == Place::PendingLinked {
            return self.links_to_bits();
        }
        let late = self.head.local_free.swap(core::ptr::null_mut(), Ordering::Relaxed);
        if !late.is_null() {
            self.set_bit(late);
        }
    }

    /// Takes back `block`, a slot of ours.
    pub(crate) fn set_bit(self, block: Block) {
        let (place, mask) = self.bit_of(block);
        let bits = place.load(Ordering::Relaxed);
        debug_assert_eq!(bits & mask, 0, "I1: freed twice");
        place.store(bits | mask, Ordering::Relaxed);
        let count = self.head.bit_count.load(Ordering::Relaxed) + 1;
        self.head.bit_count.store(count, Ordering::Relaxed);
    }

    fn bit_of(self, block: Block) -> (&'static AtomicU64, u64) {
        let offset = block.addr() - slice_start(self.index).addr();
        let word = bitmap_word(self.index, offset / WORD_COVERS_BYTES);
        (word, 1 << (offset / BIT_BYTES % u64::BITS as usize))
    }

    /// Whether the bitmap tells that the slot at `offset` is free.
    pub(crate) fn is_bit_set(self, offset: usize) -> bool {
        let word = bitmap_word(self.index, offset / WORD_COVERS_BYTES).load(Ordering::Relaxed);
        word >> (offset / BIT_BYTES % u64::BITS as usize) & 1 == 1
    }

    /// Whether slot `number` is live, in a list or linked, as far as the bitmap tells.
    pub(crate) fn is_slot_used(self, number: usize) -> bool {
        number < usize::from(self.extended()) && !self.is_bit_set(self.slot_offset(number))
    }

    /// Which share of the slots that [`Span::is_slot_used`] tells of is not linked in the span.
    pub(crate) fn used_share(self) -> f64 {
        let known = self.passive_used();
        if self.head.owner.load(Ordering::Relaxed) == PASSIVE || known <= 0 {
            return 1.0;
        }
        f64::from(self.used().clamp(0, known)) / f64::from(known)
    }

    /// Whether no slot that overlaps page `unit` is used, as far as the bitmap tells.
    pub(crate) fn is_page_free(self, unit: usize) -> bool {
        let end = (unit + 1) * PAGE_UNIT_BYTES;
        let extended = usize::from(self.extended());
        let mut number = self.slot_at(unit * PAGE_UNIT_BYTES);
        while number < extended {
            let offset = self.slot_offset(number);
            if offset >= end {
                return true;
            }
            if !self.is_bit_set(offset) {
                return false;
            }
            number += 1;
        }
        true
    }

    /// Counts the bits anew.
    pub(crate) fn count_bits(self) {
        let words = (0..SPAN_WORDS).map(|word| bitmap_word(self.index, word));
        let count: u32 = words.map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
        self.head.bit_count.store(count as u16, Ordering::Relaxed);
    }

    /// Forgets all bits: the span is empty and goes back to the pool.
    pub(crate) fn clear_bits(self) {
        if self.head.bit_count.load(Ordering::Relaxed) == 0 {
            return;
        }
        for word in 0..SPAN_WORDS {
            let place = bitmap_word(self.index, word);
            if place.load(Ordering::Relaxed) != 0 {
                place.store(0, Ordering::Relaxed);
            }
        }
        self.head.bit_count.store(0, Ordering::Relaxed);
    }

    /// Where the last slot that the bitmap tells of begins.
    pub(super) fn last_free_offset(self) -> Option<usize> {
        (0..SPAN_WORDS).rev().find_map(|word| {
            let bits = bitmap_word(self.index, word).load(Ordering::Relaxed);
            let bit = bits.checked_ilog2()? as usize;
            Some(word * WORD_COVERS_BYTES + bit * BIT_BYTES)
        })
    }
}

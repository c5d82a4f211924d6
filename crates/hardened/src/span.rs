//! A span's head and bits, in the metadata: which slots are free and with no thread.
//!
//! # Invariants
//! Under the lock of the span's class:
//! - S1: slots from number `touched` on, counted in the span, were never taken, have no bit, and say fresh.
//! - S2: `free_count` is the number of bits.

use heapwright_sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::class::{Class, class, load, store};
use crate::geometry::{CUTS, Cut, HEAD_BYTES};
use crate::word::Word;

/// No span.
pub(crate) const NO_SPAN: u32 = u32::MAX;

/// What is known of a span; zero is a span without slots.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    /// Slots with a bit.
    pub(crate) free_count: AtomicU32,
    /// Slots from the start that were ever taken.
    pub(crate) touched: AtomicU32,
    /// Slots from the start whose memory was asked for.
    pub(crate) populated: AtomicU32,
    /// Neighbours in the class's list of spans with room.
    pub(crate) next: AtomicU32,
    /// See `next`.
    pub(crate) prev: AtomicU32,
}

const _: () = assert!(size_of::<Head>() <= HEAD_BYTES);

/// One span, by class and number; only made for spans that were committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) class: &'static Class,
    pub(crate) cut: &'static Cut,
    pub(crate) number: u32,
    pub(crate) head: &'static Head,
    /// Its first slot, counted from address 0 in slots of its class.
    first_slot: usize,
    /// Slots that it has.
    pub(crate) slot_count: u32,
}

impl Span {
    /// The span `number` of `class_index`, which was committed.
    pub(crate) fn at(class_index: usize, number: u32) -> Self {
        let class = class(class_index);
        let cut = &CUTS[class_index];
        let head = class.span_head(number as usize).cast::<Head>();
        // SAFETY: committed metadata of the span (the caller's), aligned to 32, zeroed at first,
        // which is valid; it stays for ever.
        let head = unsafe { &*head };
        let (first_slot, count) = class.span_slots(number as usize);
        Self { class, cut, number, head, first_slot, slot_count: count as u32 }
    }

    /// The span of `class_index` that `address` lies in, and the slot.
    #[inline]
    pub(crate) fn around(class_index: usize, address: *mut u8) -> (Self, u32) {
        let class = class(class_index);
        let span = Self::at(class_index, class.span_of(address) as u32);
        (span, class.slot_of(address).saturating_sub(span.first_slot) as u32)
    }

    /// Slots with a bit.
    pub(crate) fn free_count(self) -> u32 {
        self.head.free_count.load(Ordering::Relaxed)
    }

    /// Slots from the start that were ever taken.
    pub(crate) fn touched(self) -> u32 {
        self.head.touched.load(Ordering::Relaxed)
    }

    /// Whether a slot can be taken.
    pub(crate) fn has_room(self) -> bool {
        self.free_count() > 0 || self.touched() < self.slot_count
    }

    /// Start of `slot`.
    pub(crate) fn slot_start(self, slot: u32) -> *mut u8 {
        let number = self.first_slot + slot as usize;
        let start = self.class.span_start(self.number as usize);
        start.with_addr(number * self.cut.slot_bytes as usize)
    }

    /// The word of `slot`.
    #[inline]
    pub(crate) fn word(self, slot: u32) -> &'static AtomicU16 {
        self.class.word_at(self.slot_start(slot))
    }

    fn bits(self, word: u32) -> &'static AtomicU64 {
        debug_assert!(word < self.slot_count.div_ceil(u64::BITS));
        let place = self.class.span_bits(self.number as usize);
        let place = place.wrapping_add(word as usize * size_of::<u64>());
        // SAFETY: inside the span's bits (`geometry`), committed, aligned to 8.
        unsafe { &*place.cast::<AtomicU64>() }
    }

    /// Takes about `wished` slots, of bits from a place that `random` chooses, and calls `give`
    /// with the start of each; how many. New slots are touched only when there is no bit.
    pub(crate) fn take(self, wished: u32, random: u64, mut give: impl FnMut(*mut u8)) -> u32 {
        if self.free_count() == 0 {
            self.extend(wished);
        }
        let words = self.touched().div_ceil(u64::BITS);
        if words == 0 {
            return 0;
        }
        let first = (((random >> 32) * u64::from(words)) >> 32) as u32;
        let mut taken = 0;
        for step in 0..words {
            let word = if first + step < words { first + step } else { first + step - words };
            let place = self.bits(word);
            let mut bits = place.load(Ordering::Relaxed);
            // Not always the lowest one.
            let turn = random as u32 % u64::BITS;
            while bits != 0 && taken < wished {
                let bit = (bits.rotate_right(turn).trailing_zeros() + turn) % u64::BITS;
                bits &= !(1 << bit);
                give(self.slot_start(word * u64::BITS + bit));
                taken += 1;
            }
            place.store(bits, Ordering::Relaxed);
            if taken == wished {
                break;
            }
        }
        self.head.free_count.store(self.free_count() - taken, Ordering::Relaxed);
        taken
    }

    /// The next `count` slots that were never taken are: by the caller, without bits.
    pub(crate) fn touch(self, count: u32) {
        debug_assert!(self.touched() + count <= self.slot_count);
        self.head.touched.store(self.touched() + count, Ordering::Relaxed);
    }

    /// Gives bits to slots that were never taken: those of one page, or `wished` if that is more,
    /// so that what is taken lies anywhere in memory that is touched together.
    fn extend(self, wished: u32) {
        const PAGE_BYTES: u32 = 4096;
        let touched = self.touched();
        let more = wished.max(PAGE_BYTES / self.cut.slot_bytes);
        let end = (touched + more).min(self.slot_count);
        for slot in touched..end {
            let place = self.bits(slot / u64::BITS);
            let bits = place.load(Ordering::Relaxed) | 1 << (slot % u64::BITS);
            place.store(bits, Ordering::Relaxed);
        }
        self.head.touched.store(end, Ordering::Relaxed);
        self.head.free_count.store(self.free_count() + end - touched, Ordering::Relaxed);
    }

    /// Gives `slot` back; whether it had no bit and is free, as it must.
    #[inline]
    pub(crate) fn give(self, slot: u32) -> bool {
        let word = load(self.word(slot));
        if word != Word::FREED && word != Word::FRESH {
            return false;
        }
        let place = self.bits(slot / u64::BITS);
        let bits = place.load(Ordering::Relaxed);
        let mask = 1 << (slot % u64::BITS);
        if bits & mask != 0 || slot >= self.touched() {
            return false;
        }
        place.store(bits | mask, Ordering::Relaxed);
        self.head.free_count.store(self.free_count() + 1, Ordering::Relaxed);
        true
    }

    /// Forgets all slots: their memory has gone back to the kernel. All of them are free.
    pub(crate) fn forget(self) {
        debug_assert_eq!(self.free_count(), self.touched());
        for word in 0..self.touched().div_ceil(u64::BITS) {
            self.bits(word).store(0, Ordering::Relaxed);
        }
        for slot in 0..self.touched() {
            store(self.word(slot), Word::FRESH);
        }
        self.head.free_count.store(0, Ordering::Relaxed);
        self.head.touched.store(0, Ordering::Relaxed);
        self.head.populated.store(0, Ordering::Relaxed);
    }
}

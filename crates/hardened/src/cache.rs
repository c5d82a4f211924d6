//! A thread's slots: a ring for each class, of slots that wait to be handed out.
//!
//! Slots leave at the head and come in at the tail, where each changes places with one of the
//! last few: so a freed slot waits for as many allocations as the ring is long, give or take, and
//! nobody can say how many. The ring is the quarantine: its slots are freed, zeroed, and looked at
//! when they leave.
//!
//! # Invariants
//! - C1: a slot is in one place of one ring, or has a bit in its span, or is live, or retired.
//! - C2: a ring's places from head to tail hold slots of its class; there are at most [`RING`].

use core::cell::Cell;
use core::ptr::null_mut;

use heapwright_core::size_class::CLASS_COUNT;
use heapwright_sync::atomic::{AtomicPtr, AtomicUsize};

use crate::geometry::RING;
use crate::random::step;

const MASK: u32 = RING - 1;
const _: () = assert!(RING.is_power_of_two());

/// A thread's rings; pooled, never freed.
#[repr(C, align(64))]
pub(crate) struct Cache {
    /// How far each ring is: slots that left, slots that came, both modulo 2^32.
    ends: [Ends; CLASS_COUNT],
    random: Cell<u64>,
    /// How often the end of the thread was put off.
    pub(crate) end_rounds: Cell<u32>,
    /// Thread pointer of the thread that has it; 0 when there is none.
    pub(crate) owner: AtomicUsize,
    /// Next in the list of all caches there ever were.
    pub(crate) next: AtomicPtr<Cache>,
    /// Next in the list of caches without a thread; under its lock.
    pub(crate) next_idle: AtomicPtr<Cache>,
    places: [[Cell<*mut u8>; RING as usize]; CLASS_COUNT],
}

struct Ends {
    head: Cell<u32>,
    tail: Cell<u32>,
}

impl Cache {
    /// Makes fresh zeroed memory a cache: all rings are empty.
    pub(crate) fn begin(&self, random: u64) {
        self.random.set(random);
    }

    /// 64 bits of which the high ones are good.
    #[inline(always)]
    pub(crate) fn random(&self) -> u64 {
        let value = step(self.random.get());
        self.random.set(value);
        value
    }

    #[inline(always)]
    fn place(&self, class_index: usize, number: u32) -> &Cell<*mut u8> {
        &self.places[class_index][(number & MASK) as usize]
    }

    /// Slots of a ring.
    #[inline(always)]
    pub(crate) fn length(&self, class_index: usize) -> u32 {
        let ends = &self.ends[class_index];
        ends.tail.get().wrapping_sub(ends.head.get())
    }

    /// The slot that waited longest, when more than `kept` wait.
    #[inline(always)]
    pub(crate) fn pop(&self, class_index: usize, kept: u32) -> Option<*mut u8> {
        let ends = &self.ends[class_index];
        let head = ends.head.get();
        if ends.tail.get().wrapping_sub(head) <= kept {
            return None;
        }
        ends.head.set(head.wrapping_add(1));
        Some(self.place(class_index, head).get())
    }

    /// Puts a slot among the last `kept`, a power of two; false, and nothing is done, when fewer
    /// than `kept` wait or the ring is full.
    #[inline(always)]
    pub(crate) fn push(&self, class_index: usize, slot: *mut u8, kept: u32) -> bool {
        let ends = &self.ends[class_index];
        let tail = ends.tail.get();
        if tail.wrapping_sub(ends.head.get()).wrapping_sub(kept) >= RING - kept {
            return false;
        }
        let back = (self.random() >> 40) as u32 & (kept - 1);
        let other = self.place(class_index, tail.wrapping_sub(1 + back));
        self.place(class_index, tail).set(other.replace(slot));
        ends.tail.set(tail.wrapping_add(1));
        true
    }

    /// How many slots came into a ring so far, modulo 2^32.
    pub(crate) fn tail(&self, class_index: usize) -> u32 {
        self.ends[class_index].tail.get()
    }

    /// Puts a slot anywhere among those that came since `tail` was what it says, into a ring that
    /// has room.
    pub(crate) fn push_since(&self, class_index: usize, slot: *mut u8, since: u32) {
        let ends = &self.ends[class_index];
        let tail = ends.tail.get();
        debug_assert!(self.length(class_index) < RING, "C2");
        debug_assert!(tail.wrapping_sub(since) < RING);
        let choices = u64::from(tail.wrapping_sub(since) + 1);
        let number = (((self.random() >> 32) * choices) >> 32) as u32;
        // The new place itself is one of them: then nothing changes places.
        self.place(class_index, tail).set(slot);
        self.place(class_index, tail).swap(self.place(class_index, since.wrapping_add(number)));
        ends.tail.set(tail.wrapping_add(1));
    }

    /// Takes the oldest slot out, however few there are.
    pub(crate) fn pop_any(&self, class_index: usize) -> Option<*mut u8> {
        self.pop(class_index, 0)
    }
}

/// A cache that no thread has; the end of a list.
pub(crate) const NO_CACHE: *mut Cache = null_mut();

#[cfg(test)]
mod tests {
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    use super::{Cache, RING};

    #[test]
    fn a_freed_slot_waits_and_none_is_lost() {
        let layout = Layout::new::<Cache>();
        // SAFETY: the layout is not empty.
        let place = unsafe { alloc_zeroed(layout) }.cast::<Cache>();
        // SAFETY: zeroed memory is a cache of empty rings.
        let cache = unsafe { &*place };
        cache.begin(42);
        let slot = |number: usize| core::ptr::without_provenance_mut::<u8>(16 * (number + 1));
        assert!(!cache.push(3, slot(0), 8), "too few wait");
        let since = cache.tail(3);
        for number in 0..16 {
            cache.push_since(3, slot(number), since);
        }
        assert_eq!((cache.length(3), cache.length(4)), (16, 0));
        let mut soonest = u32::MAX;
        for _ in 0..200 {
            let first = cache.pop(3, 8).expect("16 wait");
            assert!(cache.push(3, first, 8));
            let mut waited = 0;
            loop {
                let other = cache.pop(3, 8).expect("16 wait");
                assert!(cache.push(3, other, 8));
                if other == first {
                    break;
                }
                waited += 1;
            }
            soonest = soonest.min(waited);
        }
        assert!(soonest >= 7, "waited for {soonest} others only");
        while cache.length(3) < RING {
            assert!(cache.push(3, slot(99), 8));
        }
        assert!(!cache.push(3, slot(99), 8), "full");
        let mut seen = std::vec::Vec::new();
        while let Some(slot) = cache.pop_any(3) {
            seen.push(slot.addr());
        }
        assert_eq!(seen.len(), RING as usize);
        assert!((0..16).all(|number| seen.contains(&slot(number).addr())));
        // SAFETY: allocated above with this layout; not used any more.
        unsafe { dealloc(place.cast(), layout) };
    }
}

//! A class's depot: batches of free slots on their way from one thread's stack to another's.
//!
//! A thread whose stack is full leaves half of it here, and one whose stack is empty takes as many:
//! two copies, where the span's bits would cost a search for each slot. What a depot cannot hold
//! goes back to the bits, a whole depot's half at once.
//!
//! # Invariants
//! Under the lock of the class:
//! - D1: the first `count` places hold slots of the class that are free and nowhere else.
//! - D2: `count` is at most `room` and a multiple of the class's batch.
//!
//! Source: Bonwick and Adams, "Magazines and Vmem", USENIX 2001.

use core::cell::Cell;
use core::ptr::{NonNull, null_mut};

/// Batches from the top of which a taker gets any: so nobody can say whose slots come next.
const CHOICES: u64 = 4;

/// Places for slots, in a mapping of their own.
#[derive(Debug)]
pub(crate) struct Depot {
    places: *mut *mut u8,
    count: usize,
    room: usize,
}

// SAFETY: the places are the depot's alone.
unsafe impl Send for Depot {}

impl Depot {
    /// Without places: it takes nothing.
    pub(crate) const fn new() -> Self {
        Self { places: null_mut(), count: 0, room: 0 }
    }

    /// With `room` places from `places` on, which live for ever and are nobody else's.
    pub(crate) fn at(places: NonNull<u8>, room: usize) -> Self {
        debug_assert!(places.cast::<*mut u8>().is_aligned());
        Self { places: places.cast().as_ptr(), count: 0, room }
    }

    /// Slots in it.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether `more` slots fit.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        self.count + more <= self.room
    }

    /// Takes in `slots`, one batch, for which there is room.
    pub(crate) fn put(&mut self, slots: &[Cell<*mut u8>]) {
        assert!(self.has_room(slots.len()), "D2");
        let top = self.places.wrapping_add(self.count);
        // SAFETY: so many places above `count` are the depot's (D2), and no thread's stack is.
        unsafe { core::ptr::copy_nonoverlapping(slots.as_ptr().cast(), top, slots.len()) };
        self.count += slots.len();
    }

    /// Gives a batch to `slots`, one that `random` chooses; whether there was one.
    pub(crate) fn take(&mut self, slots: &[Cell<*mut u8>], random: u64) -> bool {
        let batch = slots.len();
        if self.count < batch || batch == 0 {
            return false;
        }
        let choices = CHOICES.min((self.count / batch) as u64);
        let below = (((random >> 32) * choices) >> 32) as usize;
        self.count -= batch;
        let top = self.places.wrapping_add(self.count);
        let chosen = top.wrapping_sub(below * batch);
        let to = slots.as_ptr().cast::<*mut u8>().cast_mut();
        // SAFETY: a batch of taken places (D1, D2); a `Cell` may be written through its reference,
        // and the stack is none of the depot's places.
        unsafe { core::ptr::copy_nonoverlapping(chosen, to, batch) };
        // SAFETY: two batches of places, both the depot's; they may be the same.
        unsafe { core::ptr::copy(top, chosen, batch) };
        true
    }

    /// Takes the lowest `count` slots out, those that came first, and calls `give` with each.
    pub(crate) fn empty_lowest(&mut self, count: usize, mut give: impl FnMut(*mut u8)) {
        let count = count.min(self.count);
        for number in 0..count {
            // SAFETY: a taken place (D1).
            give(unsafe { self.places.wrapping_add(number).read() });
        }
        let rest = self.places.wrapping_add(count);
        // SAFETY: the taken places above, moved down among the depot's places.
        unsafe { core::ptr::copy(rest, self.places, self.count - count) };
        self.count -= count;
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::ptr::{NonNull, without_provenance_mut};
    use std::vec::Vec;

    use super::Depot;

    fn batch(first: usize) -> [Cell<*mut u8>; 4] {
        [0, 1, 2, 3].map(|number| Cell::new(without_provenance_mut(first + number)))
    }

    #[test]
    fn batches_come_back_whole_once_and_not_always_the_last() {
        let mut places = [core::ptr::null_mut::<u8>(); 16];
        let mut depot = Depot::at(NonNull::from(&mut places).cast(), 16);
        let out = batch(0);
        assert!(!depot.take(&out, 0));
        let mut firsts = Vec::new();
        for first in [100, 200, 300, 400] {
            assert!(depot.has_room(4));
            depot.put(&batch(first));
        }
        assert!(!depot.has_room(1));
        let mut random = 7;
        while depot.take(&out, random) {
            random = crate::random::step(random);
            let addresses = out.each_ref().map(|slot| slot.get().addr());
            assert_eq!(addresses, [0, 1, 2, 3].map(|number| addresses[0] + number));
            firsts.push(addresses[0]);
        }
        assert_ne!(firsts, [400, 300, 200, 100], "any of the highest four");
        firsts.sort_unstable();
        assert_eq!(firsts, [100, 200, 300, 400]);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut places = [core::ptr::null_mut::<u8>(); 8];
        let mut depot = Depot::at(NonNull::from(&mut places).cast(), 8);
        depot.put(&batch(10));
        depot.put(&batch(20));
        let mut seen = Vec::new();
        depot.empty_lowest(4, |slot| seen.push(slot.addr()));
        assert_eq!((seen.as_slice(), depot.len()), (&[10, 11, 12, 13][..], 4));
        depot.empty_lowest(9, |slot| seen.push(slot.addr()));
        assert_eq!((seen.as_slice(), depot.len()), (&[10, 11, 12, 13, 20, 21, 22, 23][..], 0));
    }
}

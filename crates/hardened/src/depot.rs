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
//! - D3: the bytes of all slots above their depots' own share are in `BYTES_ABOVE_SHARE`.
//!
//! Source: Bonwick and Adams, "Magazines and Vmem", USENIX 2001.

use core::cell::Cell;
use core::ptr::{NonNull, null_mut};

use heapwright_sync::atomic::{AtomicUsize, Ordering};

use crate::geometry::Cut;
use crate::pool::SPAN_BYTES_IN_USE;

/// Bytes that all depots may hold above their own share, at least, and as a part of what is in use:
/// spans do not become empty while slots of theirs are here.
const ABOVE_SHARE_BYTES_MIN: usize = 8 << 20;
const ABOVE_SHARE_PART: usize = 8;

static BYTES_ABOVE_SHARE: AtomicUsize = AtomicUsize::new(0);

/// Places for slots, in a mapping of their own.
#[derive(Debug)]
pub(crate) struct Depot {
    places: *mut *mut u8,
    count: usize,
    room: usize,
    /// Slots that it may hold in any case.
    share: usize,
    slot_bytes: usize,
}

// SAFETY: the places are the depot's alone.
unsafe impl Send for Depot {}

impl Depot {
    /// Without places: it takes nothing.
    pub(crate) const fn new() -> Self {
        Self { places: null_mut(), count: 0, room: 0, share: 0, slot_bytes: 0 }
    }

    /// Of a class cut so, with its places from `places` on, which live for ever and are nobody
    /// else's.
    pub(crate) fn at(places: NonNull<u8>, cut: &Cut) -> Self {
        debug_assert!(places.cast::<*mut u8>().is_aligned());
        Self {
            places: places.cast().as_ptr(),
            count: 0,
            room: cut.depot_count as usize,
            share: cut.depot_share as usize,
            slot_bytes: cut.slot_bytes as usize,
        }
    }

    /// Slots in it.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether `more` slots may come in.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        let count = self.count + more;
        if count <= self.share {
            return true;
        }
        let bytes = BYTES_ABOVE_SHARE.load(Ordering::Relaxed) + more * self.slot_bytes;
        let in_use = SPAN_BYTES_IN_USE.load(Ordering::Relaxed);
        count <= self.room && bytes <= ABOVE_SHARE_BYTES_MIN.max(in_use / ABOVE_SHARE_PART)
    }

    fn set_count(&mut self, count: usize) {
        let above = |count: usize| count.saturating_sub(self.share) * self.slot_bytes;
        let (before, after) = (above(self.count), above(count));
        if before != after {
            BYTES_ABOVE_SHARE.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
        self.count = count;
    }

    /// Takes in `slots`, one batch, for which there is room.
    pub(crate) fn put(&mut self, slots: &[Cell<*mut u8>]) {
        assert!(self.count + slots.len() <= self.room, "D2");
        let top = self.places.wrapping_add(self.count);
        // SAFETY: so many places above `count` are the depot's (D2), and no thread's stack is.
        unsafe { core::ptr::copy_nonoverlapping(slots.as_ptr().cast(), top, slots.len()) };
        self.set_count(self.count + slots.len());
    }

    /// Gives the batch that came last to `slots`; whether there was one.
    pub(crate) fn take(&mut self, slots: &[Cell<*mut u8>]) -> bool {
        let batch = slots.len();
        if self.count < batch || batch == 0 {
            return false;
        }
        self.set_count(self.count - batch);
        let top = self.places.wrapping_add(self.count);
        let to = slots.as_ptr().cast::<*mut u8>().cast_mut();
        // SAFETY: a batch of taken places (D1, D2); a `Cell` may be written through its reference,
        // and the stack is none of the depot's places.
        unsafe { core::ptr::copy_nonoverlapping(top, to, batch) };
        true
    }

    /// Takes the slot out that came last but one: so the last one waits, for one free at least.
    pub(crate) fn take_waited(&mut self) -> Option<*mut u8> {
        let number = self.count.checked_sub(2)?;
        let place = self.places.wrapping_add(number);
        // SAFETY: two taken places (D1, D2).
        let slot = unsafe { place.read() };
        // SAFETY: the second of them.
        let last = unsafe { place.wrapping_add(1).read() };
        // SAFETY: the first of them, which is the depot's own to write.
        unsafe { place.write(last) };
        self.set_count(self.count - 1);
        Some(slot)
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
        self.set_count(self.count - count);
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::ptr::{NonNull, without_provenance_mut};
    use std::vec::Vec;

    use super::Depot;
    use crate::geometry::{CUTS, Cut};

    fn cut(depot_count: u32) -> Cut {
        Cut { depot_count, depot_share: depot_count, ..CUTS[0] }
    }

    fn batch(first: usize) -> [Cell<*mut u8>; 4] {
        [0, 1, 2, 3].map(|number| Cell::new(without_provenance_mut(first + number)))
    }

    #[test]
    fn batches_come_back_whole_the_last_one_first() {
        let mut places = [core::ptr::null_mut::<u8>(); 16];
        let mut depot = Depot::at(NonNull::from(&mut places).cast(), &cut(16));
        let out = batch(0);
        assert!(!depot.take(&out));
        for first in [100, 200, 300, 400] {
            assert!(depot.has_room(4));
            depot.put(&batch(first));
        }
        for first in [400, 300, 200, 100] {
            assert!(depot.take(&out));
            let addresses = out.each_ref().map(|slot| slot.get().addr());
            assert_eq!(addresses, [0, 1, 2, 3].map(|number| first + number));
        }
        assert!(!depot.take(&out));
    }

    #[test]
    fn the_slot_that_came_last_waits() {
        let mut places = [core::ptr::null_mut::<u8>(); 4];
        let single = Cut { batch_count: 1, ..cut(4) };
        let mut depot = Depot::at(NonNull::from(&mut places).cast(), &single);
        let put = |depot: &mut Depot, number| {
            depot.put(&[Cell::new(without_provenance_mut::<u8>(number))]);
        };
        assert_eq!(depot.take_waited(), None);
        put(&mut depot, 1);
        assert_eq!(depot.take_waited(), None, "it is the last");
        for number in [2, 3, 4] {
            put(&mut depot, number);
        }
        for number in [3, 2, 1] {
            assert_eq!(depot.take_waited().map(|slot| slot.addr()), Some(number));
        }
        assert_eq!((depot.take_waited(), depot.len()), (None, 1));
        let out = [Cell::new(core::ptr::null_mut())];
        assert!(depot.take(&out));
        assert_eq!(out[0].get().addr(), 4);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut places = [core::ptr::null_mut::<u8>(); 8];
        let mut depot = Depot::at(NonNull::from(&mut places).cast(), &cut(8));
        depot.put(&batch(10));
        depot.put(&batch(20));
        let mut seen = Vec::new();
        depot.empty_lowest(4, |slot| seen.push(slot.addr()));
        assert_eq!((seen.as_slice(), depot.len()), (&[10, 11, 12, 13][..], 4));
        depot.empty_lowest(9, |slot| seen.push(slot.addr()));
        assert_eq!((seen.as_slice(), depot.len()), (&[10, 11, 12, 13, 20, 21, 22, 23][..], 0));
    }
}

//! A thread's slots: for each class a stack of those to hand out, and a quarantine before it.
//!
//! A freed slot takes a random place of the quarantine and pushes the slot there onto the stack:
//! so it waits for as many frees as the quarantine is long, give or take, and nobody can say how
//! many. What is on the stack is near in time, for the caches' sake; it is looked at when it
//! leaves.
//!
//! # Invariants
//! - C1: a slot is in one place of one row, or has a bit in its span, or is live, or retired.
//! - C2: the first `count` places of a stack hold slots of its class, the others nothing that is
//!   looked at; the places of a quarantine hold slots of its class or null.

use core::cell::Cell;
use core::ptr::null_mut;

use heapwright_core::prefetch::prefetch_read;
use heapwright_sync::atomic::{AtomicPtr, AtomicUsize};

use crate::depot::Depot;
use crate::geometry::{CLASS_PLACES, KEPT_MAX, STACK};
use crate::random::step;

/// A thread's rows; pooled, never freed.
#[repr(C, align(64))]
pub(crate) struct Cache {
    counts: [Cell<u32>; CLASS_PLACES],
    random: Cell<u64>,
    turns: Cell<u64>,
    turn_step: Cell<u64>,
    /// Blocks until one is offered to a guard.
    pub(crate) until_offer: Cell<u32>,
    /// How often the end of the thread was put off.
    pub(crate) end_rounds: Cell<u32>,
    /// Thread pointer of the thread that has it; 0 when there is none.
    pub(crate) owner: AtomicUsize,
    /// Next in the list of all caches there ever were.
    pub(crate) next: AtomicPtr<Cache>,
    /// Next in the list of caches without a thread; under its lock.
    pub(crate) next_idle: AtomicPtr<Cache>,
    rows: [Row; CLASS_PLACES],
}

/// The stack lies behind the quarantine, so that what lies a few places below its top is always
/// a slot or null.
#[repr(C)]
struct Row {
    kept: [Cell<*mut u8>; KEPT_MAX],
    stack: [Cell<*mut u8>; STACK],
}

/// So many allocations before a slot is handed out its first bytes are fetched.
const AHEAD: usize = 3;
const _: () = assert!(AHEAD <= KEPT_MAX);
const _: () = assert!(STACK.is_power_of_two());

impl Row {
    /// Fetches the slot that is handed out a few allocations from now, when `above` are left: it
    /// is looked at then, and the program writes to it, and both would wait.
    #[inline(always)]
    fn expect(&self, above: usize) {
        let place = core::ptr::from_ref(self).cast::<*const u8>();
        let place = place.wrapping_add(above % STACK + KEPT_MAX - AHEAD);
        // SAFETY: a place of the row, of its quarantine when few are left.
        prefetch_read(unsafe { place.read() });
    }
}

impl Cache {
    /// Makes fresh zeroed memory a cache without slots.
    pub(crate) fn begin(&self, random: u64) {
        self.random.set(random);
        self.turns.set(self.random());
        self.turn_step.set(self.random() | 1);
    }

    /// 64 bits of which the high ones are good.
    #[inline(always)]
    pub(crate) fn random(&self) -> u64 {
        let value = step(self.random.get());
        self.random.set(value);
        value
    }

    /// Slots of a stack.
    #[inline(always)]
    pub(crate) fn length(&self, class_index: usize) -> usize {
        self.counts[class_index % CLASS_PLACES].get() as usize
    }

    /// The slot on top of the stack.
    #[inline(always)]
    pub(crate) fn pop(&self, class_index: usize) -> Option<*mut u8> {
        let class_index = class_index % CLASS_PLACES;
        let count = &self.counts[class_index];
        let above = count.get().checked_sub(1)?;
        let row = &self.rows[class_index];
        let slot = row.stack.get(above as usize)?.get();
        count.set(above);
        row.expect(above as usize);
        Some(slot)
    }

    /// Puts a slot into the quarantine, of `kept_mask + 1` places, a power of two, and the slot
    /// that was there onto the stack, of `room` places. False when the stack is full: nothing is
    /// done then.
    #[inline(always)]
    pub(crate) fn push(
        &self,
        class_index: usize,
        slot: *mut u8,
        kept_mask: usize,
        room: usize,
    ) -> bool {
        let class_index = class_index % CLASS_PLACES;
        let row = &self.rows[class_index];
        let count = &self.counts[class_index];
        let above = count.get() as usize;
        if above >= room {
            return false;
        }
        let place = &row.stack[above % STACK];
        if cfg!(heapwright_hardened_without = "quarantine") {
            place.set(slot);
            count.set(above as u32 + 1);
            return true;
        }
        // A sequence of even steps of a secret length: a multiplication would be waited for.
        let turns = self.turns.get().wrapping_add(self.turn_step.get());
        self.turns.set(turns);
        let turn = (turns >> 40) as usize & kept_mask & (KEPT_MAX - 1);
        let old = row.kept[turn].replace(slot);
        place.set(old);
        count.set((above + usize::from(!old.is_null())) as u32);
        true
    }

    /// Puts a slot onto the stack, which is not full, anywhere above the first `since`.
    pub(crate) fn put_above(&self, class_index: usize, slot: *mut u8, since: usize) {
        let class_index = class_index % CLASS_PLACES;
        let stack = &self.rows[class_index].stack;
        let above = self.length(class_index);
        debug_assert!(above < STACK && since <= above, "C2");
        let choices = (above - since + 1) as u64;
        let number = since + (((self.random() >> 32) * choices) >> 32) as usize;
        // The new place itself is one of them: then nothing changes places.
        stack[above].set(slot);
        stack[above].swap(&stack[number]);
        self.counts[class_index].set(above as u32 + 1);
    }

    /// Takes any slot out, also of the quarantine.
    pub(crate) fn pop_any(&self, class_index: usize) -> Option<*mut u8> {
        self.pop(class_index).or_else(|| {
            let kept = &self.rows[class_index].kept;
            kept.iter().map(|place| place.replace(null_mut())).find(|slot| !slot.is_null())
        })
    }

    /// Slots of a class, those of the quarantine too.
    pub(crate) fn held_count(&self, class_index: usize) -> usize {
        let row = &self.rows[class_index % CLASS_PLACES];
        let kept = row.kept.iter().filter(|place| !place.get().is_null()).count();
        self.length(class_index) + kept
    }

    /// Leaves the lowest `batch` slots of a stack that has as many in `depot`, which has room, and
    /// moves the others down.
    pub(crate) fn leave_lowest(&self, class_index: usize, batch: usize, depot: &mut Depot) {
        let class_index = class_index % CLASS_PLACES;
        let stack = &self.rows[class_index].stack;
        let length = self.length(class_index);
        depot.put(&stack[..batch]);
        for number in batch..length {
            stack[number - batch].set(stack[number].get());
        }
        self.counts[class_index].set((length - batch) as u32);
    }

    /// Fills an empty stack with `batch` slots of `depot`; whether it had them.
    pub(crate) fn take_batch(&self, class_index: usize, batch: usize, depot: &mut Depot) -> bool {
        let class_index = class_index % CLASS_PLACES;
        debug_assert_eq!(self.length(class_index), 0);
        let is_taken = depot.take(&self.rows[class_index].stack[..batch]);
        if is_taken {
            self.counts[class_index].set(batch as u32);
        }
        is_taken
    }
}

/// A cache that no thread has; the end of a list.
pub(crate) const NO_CACHE: *mut Cache = null_mut();

#[cfg(test)]
mod tests {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::vec::Vec;

    use core::ptr::NonNull;

    use super::Cache;
    use crate::depot::Depot;
    use crate::geometry::{CUTS, Cut, KEPT_MAX, STACK};

    #[test]
    fn a_freed_slot_waits_and_none_is_lost() {
        let layout = Layout::new::<Cache>();
        // SAFETY: the layout is not empty.
        let place = unsafe { alloc_zeroed(layout) }.cast::<Cache>();
        // SAFETY: zeroed memory is a cache without slots.
        let cache = unsafe { &*place };
        cache.begin(42);
        let slot = |number: usize| core::ptr::without_provenance_mut::<u8>(16 * (number + 1));
        for number in 0..16 {
            cache.put_above(3, slot(number), 0);
        }
        assert_eq!((cache.length(3), cache.length(4)), (16, 0));
        let mut waits = Vec::new();
        for _ in 0..400 {
            let first = cache.pop(3).expect("there are more than are kept");
            assert!(cache.push(3, first, KEPT_MAX - 1, STACK));
            let mut waited = 0;
            loop {
                let other = cache.pop(3).expect("there are more than are kept");
                assert!(cache.push(3, other, KEPT_MAX - 1, STACK));
                if other == first {
                    break;
                }
                waited += 1;
            }
            waits.push(waited);
        }
        let sum: usize = waits.iter().sum();
        assert!((400..20 * 400).contains(&sum), "about {KEPT_MAX} each: {sum}");
        assert!(waits.iter().max() > waits.iter().min());
        let mut seen = Vec::new();
        while let Some(slot) = cache.pop_any(3) {
            seen.push(slot.addr());
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..16).map(|number| slot(number).addr()).collect::<Vec<_>>());
        for number in 0..STACK {
            cache.put_above(3, slot(number), 0);
        }
        assert!(!cache.push(3, slot(99), KEPT_MAX - 1, STACK), "full");
        let mut places = [core::ptr::null_mut::<u8>(); 2 * STACK];
        let cut = Cut { depot_count: 2 * STACK as u32, ..CUTS[3] };
        let mut depot = Depot::at(NonNull::from(&mut places).cast(), &cut);
        cache.leave_lowest(3, STACK / 2, &mut depot);
        assert_eq!((depot.len(), cache.length(3)), (STACK / 2, STACK / 2));
        while cache.pop(3).is_some() {}
        assert!(cache.take_batch(3, STACK / 2, &mut depot));
        assert_eq!((depot.len(), cache.length(3)), (0, STACK / 2));
        // SAFETY: allocated above with this layout; not used any more.
        unsafe { dealloc(place.cast(), layout) };
    }
}

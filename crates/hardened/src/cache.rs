//! A thread's slots: for each class a stack of those to hand out, and a quarantine before it.
//!
//! A freed slot takes a random place of the quarantine and pushes the slot there onto the stack:
//! so it waits for as many frees as the quarantine is long, give or take, and nobody can say how
//! many. What is on the stack is near in time, for the caches' sake; it is looked at when it
//! leaves.
//!
//! # Invariants
//! - C1: a slot is in one place of one row, or has a bit in its span, or is live, or retired.
//! - C2: a head's `top` leads to a place of its own row, from its floor, which is null, to the last
//!   of its stack. Places above the floor up to `top` hold slots of the class, the others nothing
//!   that is looked at.
//! - C3: a head's `full` is the last place of its stack when all of its quarantine's places, one
//!   more than its mask, hold slots; else it is the floor, so that no slot is pushed.

use core::cell::Cell;
use core::ptr::null_mut;

use heapwright_core::prefetch::prefetch_read;
use heapwright_sync::atomic::{AtomicPtr, AtomicUsize};

use crate::depot::Depot;
use crate::geometry::{CLASS_COUNT, CLASS_PLACES, CUTS, Cut, KEPT_MAX, KEY_STEP_BYTES, Key};
use crate::random::step;

/// A thread's rows; pooled, never freed.
#[repr(C, align(64))]
pub(crate) struct Cache {
    heads: [Head; CLASS_PLACES],
    random: Cell<u64>,
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
    /// The rows of all classes: for each its floor, which is null, and its stack.
    places: [Place; PLACE_COUNT],
}

/// A place for a slot.
type Place = Cell<*mut u8>;

/// What the hot paths need to know of a class's stack: one cache line.
#[repr(C, align(64))]
struct Head {
    /// The place of the slot that is handed out next; the floor when there is none.
    top: Cell<*const Place>,
    /// From where on nothing is pushed.
    full: Cell<*const Place>,
    /// The quarantine's turns: secret bits that go round, of which the low ones are the next turn.
    turns: Cell<u64>,
    /// The quarantine's places, less one; they are a power of two.
    kept_mask: Cell<usize>,
    kept: [Place; KEPT_MAX],
}

const _: () = assert!(size_of::<Head>() == KEY_STEP_BYTES);

/// What lies on top of a stack.
#[derive(Clone, Copy)]
pub(crate) struct Top {
    place: *const Place,
    /// The slot, which is not null.
    pub(crate) slot: *mut u8,
}

/// So many allocations before a slot is handed out its first bytes are fetched.
const AHEAD: usize = 3;
/// A turn's distance from the next one; odd, so that all of them differ.
const TURN_STEP: u32 = 7;

/// Where each class's floor is among the places. As many as are looked at below it come first.
const FLOORS: [u32; CLASS_COUNT + 1] = {
    let mut floors = [AHEAD as u32; CLASS_COUNT + 1];
    let mut class_index = 0;
    while class_index < CLASS_COUNT {
        floors[class_index + 1] = floors[class_index] + 1 + Cut::of(class_index).stack_count;
        class_index += 1;
    }
    floors
};
const PLACE_COUNT: usize = FLOORS[CLASS_COUNT] as usize;

/// The places of a row around `place`, one of it.
///
/// # Safety
/// - `place` comes from the head of a row's class (C2), and `distance` places from it are in the
///   row.
#[inline(always)]
unsafe fn beside<'a>(place: *const Place, distance: isize) -> &'a Place {
    // SAFETY: in the row (the caller's); caches live for ever.
    unsafe { &*place.wrapping_offset(distance) }
}

impl Cache {
    /// Makes fresh zeroed memory a cache without slots; it stays where it is.
    pub(crate) fn begin(&'static self, random: u64) {
        self.random.set(random);
        for (class_index, (head, cut)) in self.heads.iter().zip(&CUTS).enumerate() {
            let floor = self.floor(class_index);
            head.top.set(floor);
            head.full.set(floor);
            head.kept_mask.set(cut.kept_count as usize - 1);
            self.stir(class_index);
        }
    }

    /// The place below a stack's first; all places are reached from here.
    fn floor(&self, class_index: usize) -> *const Place {
        self.places.as_ptr().wrapping_add(FLOORS[class_index] as usize)
    }

    /// The places of a stack.
    fn stack(&self, class_index: usize) -> &[Place] {
        &self.places[FLOORS[class_index] as usize + 1..FLOORS[class_index + 1] as usize]
    }

    /// Gives a quarantine other turns: who has seen them go round knows nothing any more.
    pub(crate) fn stir(&self, class_index: usize) {
        let turns = self.random() ^ self.random().rotate_left(u64::BITS / 2);
        self.head(Key::of(class_index)).turns.set(turns);
    }

    /// 64 bits of which the high ones are good.
    #[inline(always)]
    pub(crate) fn random(&self) -> u64 {
        let value = step(self.random.get());
        self.random.set(value);
        value
    }

    #[inline(always)]
    fn head(&self, key: Key) -> &Head {
        let first = core::ptr::from_ref(self).cast::<Head>();
        // SAFETY: the heads come first in a cache, and a key leads to one of them (K1).
        unsafe { &*first.wrapping_byte_add(key.offset()) }
    }

    /// Slots of a stack.
    #[inline]
    pub(crate) fn length(&self, class_index: usize) -> usize {
        let top = self.head(Key::of(class_index)).top.get();
        (top.addr() - self.floor(class_index).addr()) / size_of::<Place>()
    }

    /// Makes the lowest `length` places of a stack all that it has.
    fn set_length(&self, class_index: usize, length: usize) {
        debug_assert!(length <= self.stack(class_index).len(), "C2");
        let top = self.floor(class_index).wrapping_add(length);
        self.head(Key::of(class_index)).top.set(top);
    }

    /// The slot on top of the stack, which stays there until [`take`](Self::take).
    #[inline(always)]
    pub(crate) fn top(&self, key: Key) -> Option<Top> {
        let place = self.head(key).top.get();
        // SAFETY: `top` itself (C2).
        let slot = unsafe { beside(place, 0) }.get();
        // Null is the floor.
        (!slot.is_null()).then_some(Top { place, slot })
    }

    /// Takes the slot that [`top`](Self::top) told of just now off the stack.
    #[inline(always)]
    pub(crate) fn take(&self, key: Key, top: Top) -> *mut u8 {
        let head = self.head(key);
        debug_assert_eq!(top.place, head.top.get());
        head.top.set(top.place.wrapping_sub(1));
        // The slot that is handed out a few allocations from now is looked at then, and the
        // program writes to it, and both would wait.
        // SAFETY: it is above a floor, and the first one has as many places below it.
        prefetch_read(unsafe { beside(top.place, -(AHEAD as isize)) }.get());
        top.slot
    }

    /// Takes the slot on top of the stack off it.
    #[inline(always)]
    pub(crate) fn pop(&self, key: Key) -> Option<*mut u8> {
        self.top(key).map(|top| self.take(key, top))
    }

    /// Puts a slot into the quarantine, and the slot that was there onto the stack. False when the
    /// stack is full or the quarantine is not: nothing is done then.
    #[inline(always)]
    pub(crate) fn push(&self, key: Key, slot: *mut u8) -> bool {
        let head = self.head(key);
        let top = head.top.get();
        if top >= head.full.get() {
            return false;
        }
        let old = if cfg!(heapwright_hardened_without = "quarantine") {
            slot
        } else {
            // A multiplication would be waited for.
            let turns = head.turns.get().rotate_left(TURN_STEP);
            head.turns.set(turns);
            let turn = turns as usize & head.kept_mask.get();
            // SAFETY: the quarantine has more places than its mask says (C3).
            unsafe { head.kept.get_unchecked(turn) }.replace(slot)
        };
        debug_assert!(!old.is_null(), "C3");
        // SAFETY: `top` is below the place where the stack is full.
        unsafe { beside(top, 1) }.set(old);
        head.top.set(top.wrapping_add(1));
        true
    }

    /// Keeps a slot in a free place of the quarantine, if there is one; false, and then slots can be
    /// pushed, when there is none.
    pub(crate) fn keep(&self, key: Key, slot: *mut u8) -> bool {
        let head = self.head(key);
        let kept = &head.kept[..=head.kept_mask.get()];
        if let Some(place) = kept.iter().find(|place| place.get().is_null())
            && cfg!(not(heapwright_hardened_without = "quarantine"))
        {
            place.set(slot);
            return true;
        }
        let (floor, stack) = (self.floor(key.index()), self.stack(key.index()));
        head.full.set(floor.wrapping_add(stack.len()));
        false
    }

    /// Puts a slot onto the stack, which is not full, anywhere above the first `since`.
    pub(crate) fn put_above(&self, class_index: usize, slot: *mut u8, since: usize) {
        let stack = self.stack(class_index);
        let above = self.length(class_index);
        debug_assert!(above < stack.len() && since <= above, "C2");
        let choices = (above - since + 1) as u64;
        let number = since + (((self.random() >> 32) * choices) >> 32) as usize;
        // The new place itself is one of them: then nothing changes places.
        stack[above].set(slot);
        stack[above].swap(&stack[number]);
        self.set_length(class_index, above + 1);
    }

    /// Takes any slot out, also of the quarantine.
    pub(crate) fn pop_any(&self, class_index: usize) -> Option<*mut u8> {
        let key = Key::of(class_index);
        self.pop(key).or_else(|| {
            let head = self.head(key);
            head.full.set(self.floor(class_index));
            head.kept.iter().map(|place| place.replace(null_mut())).find(|slot| !slot.is_null())
        })
    }

    /// Slots of a class, those of the quarantine too.
    pub(crate) fn held_count(&self, class_index: usize) -> usize {
        let kept = &self.head(Key::of(class_index)).kept;
        let kept = kept.iter().filter(|place| !place.get().is_null()).count();
        self.length(class_index) + kept
    }

    /// Leaves the lowest `batch` slots of a stack that has as many in `depot`, which has room, and
    /// moves the others down.
    pub(crate) fn leave_lowest(&self, class_index: usize, batch: usize, depot: &mut Depot) {
        let stack = self.stack(class_index);
        let length = self.length(class_index);
        depot.put(&stack[..batch]);
        for number in batch..length {
            stack[number - batch].set(stack[number].get());
        }
        self.set_length(class_index, length - batch);
    }

    /// Fills an empty stack with `batch` slots of `depot`; whether it had them.
    pub(crate) fn take_batch(&self, class_index: usize, batch: usize, depot: &mut Depot) -> bool {
        debug_assert_eq!(self.length(class_index), 0);
        let is_taken = depot.take(&self.stack(class_index)[..batch]);
        if is_taken {
            self.set_length(class_index, batch);
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
    use crate::geometry::{CUTS, Cut, KEPT_MAX, Key};

    #[test]
    fn a_freed_slot_waits_and_none_is_lost() {
        let layout = Layout::new::<Cache>();
        // SAFETY: the layout is not empty.
        let place = unsafe { alloc_zeroed(layout) }.cast::<Cache>();
        // SAFETY: zeroed memory is a cache, which is used until the end of the test only.
        let cache: &'static Cache = unsafe { &*place };
        cache.begin(42);
        let slot = |number: usize| core::ptr::without_provenance_mut::<u8>(16 * (number + 1));
        for number in 0..16 {
            cache.put_above(3, slot(number), 0);
        }
        assert_eq!((cache.length(3), cache.length(4)), (16, 0));
        let key = Key::of(3);
        let push = |slot| {
            assert!(cache.push(key, slot) || cache.keep(key, slot) || cache.push(key, slot));
        };
        let mut waits = Vec::new();
        for _ in 0..400 {
            let first = cache.pop(Key::of(3)).expect("there are more than are kept");
            push(first);
            let mut waited = 0;
            loop {
                let other = cache.pop(Key::of(3)).expect("there are more than are kept");
                push(other);
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
        let room = CUTS[3].stack_count as usize;
        for number in 0..room {
            cache.put_above(3, slot(number), 0);
        }
        assert!(!cache.push(key, slot(99)), "nothing is kept");
        while cache.keep(key, slot(99)) {}
        assert!(!cache.push(key, slot(99)), "full");
        assert_eq!((cache.length(2), cache.length(3), cache.length(4)), (0, room, 0));
        let mut places = std::vec![core::ptr::null_mut::<u8>(); 2 * room];
        let cut = Cut { depot_count: 2 * room as u32, ..CUTS[3] };
        let mut depot = Depot::at(NonNull::from(places.as_mut_slice()).cast(), &cut);
        cache.leave_lowest(3, room / 2, &mut depot);
        assert_eq!((depot.len(), cache.length(3)), (room / 2, room / 2));
        while cache.pop(Key::of(3)).is_some() {}
        assert!(cache.take_batch(3, room / 2, &mut depot));
        assert_eq!((depot.len(), cache.length(3)), (0, room / 2));
        // SAFETY: allocated above with this layout; not used any more.
        unsafe { dealloc(place.cast(), layout) };
    }
}

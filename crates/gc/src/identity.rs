//! Identity: a number for an object that stays when the object moves. Only objects that are asked
//! cost something: an entry in a hash table by address, which collections keep up to date.
//!
//! # Invariants
//! - N1: an object has at most one entry, in `old` or in `young`; those of `young` were asked for
//!   since the last collection.

use crate::gc::Gc;
use crate::memory::Table;
use crate::mutation::Mutation;
use crate::object::ObjectRef;
use crate::plan::Plan;
use crate::weak::Reach;
use crate::{HeapError, LimitReached};

#[derive(Clone, Copy, Debug)]
struct Entry {
    object: ObjectRef,
    number: u64,
}

/// A hash table with open addressing, at most half full.
#[derive(Debug)]
struct Map {
    slots: Table<Option<Entry>>,
    len: usize,
}

impl Map {
    const LEN_MIN: usize = 64;

    const fn new() -> Self {
        Self { slots: Table::new(), len: 0 }
    }

    /// Where the search for `object` begins.
    fn home(object: ObjectRef, mask: usize) -> usize {
        object.address().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & mask
    }

    /// The slot of `object`, or the empty one where it would be. The table is not empty.
    fn index(&self, object: ObjectRef) -> usize {
        let slots = self.slots.as_slice();
        let mask = slots.len() - 1;
        let mut index = Self::home(object, mask);
        while slots[index].is_some_and(|entry| entry.object != object) {
            index = (index + 1) & mask;
        }
        index
    }

    fn get(&self, object: ObjectRef) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        self.slots.as_slice()[self.index(object)].map(|entry| entry.number)
    }

    fn insert(&mut self, entry: Entry) -> Result<(), HeapError> {
        if 2 * (self.len + 1) > self.slots.as_slice().len() {
            let mut larger = Self::new();
            for _ in 0..(self.slots.as_slice().len() * 2).max(Self::LEN_MIN) {
                larger.slots.try_push(None)?;
            }
            for old in self.slots.as_slice().iter().flatten() {
                larger.insert(*old)?;
            }
            *self = larger;
        }
        let index = self.index(entry.object);
        debug_assert!(self.slots.as_slice()[index].is_none(), "N1");
        self.slots.as_mut_slice()[index] = Some(entry);
        self.len += 1;
        Ok(())
    }

    /// Takes out the entry at `index`, and closes the gap: of those behind it, which are as many as
    /// share its run, some move up. None of those that lie behind `index` comes to lie before it.
    fn remove_at(&mut self, index: usize) {
        let slots = self.slots.as_mut_slice();
        let mask = slots.len() - 1;
        let (mut gap, mut at) = (index, index);
        loop {
            at = (at + 1) & mask;
            let Some(entry) = slots[at] else { break };
            let home = Self::home(entry.object, mask);
            // It may move to the gap unless its home lies behind that.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                slots[gap] = Some(entry);
                gap = at;
            }
        }
        slots[gap] = None;
        self.len -= 1;
    }

    /// Forgets the dead among the entries of up to `count` slots from `from` on, in place. Returns
    /// the slot to go on from, if there are more.
    fn settle_some(
        &mut self,
        from: usize,
        count: usize,
        fate: impl Fn(ObjectRef) -> Option<ObjectRef>,
    ) -> Option<usize> {
        let end = self.slots.as_slice().len().min(from + count);
        for index in from..end {
            while let Some(entry) = self.slots.as_slice()[index] {
                if fate(entry.object).is_some() {
                    break;
                }
                self.remove_at(index);
            }
        }
        (end < self.slots.as_slice().len()).then_some(end)
    }

    /// Takes all entries out.
    fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }

    fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.slots.as_slice().iter().flatten().copied()
    }
}

/// The numbers that were given out.
#[derive(Debug)]
pub(crate) struct Identities {
    old: Map,
    young: Map,
    next: u64,
    /// In a cycle in slices: the slot to look at next, of the old ones first, and how many slots the
    /// table had.
    slot: usize,
    slots: usize,
    is_old_settled: bool,
}

impl Identities {
    pub(crate) const fn new() -> Self {
        Self {
            old: Map::new(),
            young: Map::new(),
            next: 1,
            slot: 0,
            slots: 0,
            is_old_settled: false,
        }
    }

    fn number(&mut self, object: ObjectRef) -> Result<u64, HeapError> {
        if let Some(number) = self.old.get(object).or_else(|| self.young.get(object)) {
            return Ok(number);
        }
        self.young.insert(Entry { object, number: self.next })?;
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Forgets the dead and takes over where the others are. O(entries), or O(young ones).
    pub(crate) fn settle<V: Reach>(&mut self, all: bool, visitor: &V) {
        self.rebuild(all, |object| visitor.settled(object));
    }

    /// Begins what [`Identities::settle_some`] does.
    pub(crate) fn begin_settle(&mut self) {
        (self.slot, self.slots, self.is_old_settled) = (0, 0, false);
    }

    /// Forgets the dead where nothing has moved, for up to `count` slots; returns whether these were
    /// the last. Entries stay in their tables.
    pub(crate) fn settle_some<V: Reach>(&mut self, count: usize, visitor: &V) -> bool {
        let map = if self.is_old_settled { &mut self.young } else { &mut self.old };
        if self.slots != map.slots.as_slice().len() {
            // The program has made it larger, and everything has another slot.
            self.slots = map.slots.as_slice().len();
            self.slot = 0;
        }
        match map.settle_some(self.slot, count, |object| visitor.settled(object)) {
            Some(slot) => self.slot = slot,
            None if self.is_old_settled => return true,
            None => (self.slot, self.slots, self.is_old_settled) = (0, 0, true),
        }
        false
    }

    /// Replaces every reference by its target.
    pub(crate) fn slide(&mut self, mut target: impl FnMut(ObjectRef) -> ObjectRef) {
        self.rebuild(true, |object| Some(target(object)));
    }

    fn rebuild(&mut self, all: bool, mut fate: impl FnMut(ObjectRef) -> Option<ObjectRef>) {
        let old = if all { self.old.take() } else { Map::new() };
        let young = self.young.take();
        for Entry { object, number } in old.iter().chain(young.iter()) {
            if let Some(object) = fate(object) {
                let inserted = self.old.insert(Entry { object, number });
                assert!(inserted.is_ok(), "no memory for a table of the collector");
            }
        }
    }
}

impl<'gc> Mutation<'gc> {
    /// A number that no other object of this heap has or had, and that stays with `object` when
    /// it moves: for hash tables keyed by identity. O(1); from the first call on, an entry of a
    /// table until the object dies.
    ///
    /// ```
    /// use heapwright_gc::{Collector, Config, Gc, Heap, rootable};
    ///
    /// type Number = rootable!['gc => Option<Gc<'gc, u64>>];
    /// let config = Config::with(Collector::Semispace);
    /// let mut heap = Heap::<Number>::new(config, |mu| mu.alloc(7).ok())?;
    /// let before = heap.mutate(|mu, root| mu.identity(root.unwrap()).unwrap());
    /// heap.collect(); // the object moves
    /// assert_eq!(heap.mutate(|mu, root| mu.identity(root.unwrap()).unwrap()), before);
    /// # Ok::<(), heapwright_gc::HeapError>(())
    /// ```
    ///
    /// # Errors
    /// [`LimitReached`] if there is no memory for the entry.
    pub fn identity<T: ?Sized>(&self, object: Gc<'gc, T>) -> Result<u64, LimitReached> {
        let state = &mut *self.state().borrow_mut();
        state.plan.pin(object.object());
        let number = state.common.identities.number(object.object());
        number.map_err(|HeapError::Reserve { .. }| LimitReached)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::num::NonZero;
    use core::ptr::NonNull;

    use heapwright_testkit::Random;

    use super::{Entry, Map};
    use crate::object::ObjectRef;

    #[test]
    fn what_lives_is_found_however_the_dead_are_taken_out_from_before_it() {
        let mut random = Random::new(3);
        for round in 0..200 {
            let mut map = Map::new();
            // As many as a table of 64 takes, so that many share a run.
            let objects: Vec<ObjectRef> = (0..32)
                .map(|index| {
                    let address = (round * 32 + index + 1) * 4096 + 8 * random.below(512) as usize;
                    let payload = NonNull::without_provenance(NonZero::new(address).expect("some"));
                    // SAFETY: only the address is used, as a key.
                    unsafe { ObjectRef::new(payload) }
                })
                .collect();
            let entries = objects.iter().zip(0..);
            entries
                .for_each(|(&object, number)| map.insert(Entry { object, number }).expect("room"));
            let lives: Vec<bool> = objects.iter().map(|_| random.below(2) == 0).collect();
            let number_of = |object| objects.iter().position(|&one| one == object);
            let fate = |object| number_of(object).filter(|&at| lives[at]).map(|_| object);
            let mut from = Some(0);
            while let Some(slot) = from {
                from = map.settle_some(slot, 1 + random.below(5) as usize, fate);
            }
            assert_eq!(map.len, lives.iter().filter(|lives| **lives).count());
            for (number, &object) in objects.iter().enumerate() {
                assert_eq!(
                    map.get(object),
                    lives[number].then_some(number as u64),
                    "round {round}"
                );
            }
        }
    }
}

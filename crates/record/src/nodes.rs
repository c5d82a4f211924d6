//! The calling-context tree of a thread: (outer node, return address) to node number.
//!
//! An open-addressed table in memory of its own; it doubles when three quarters full. Losing
//! the race against exhausted memory is not an error: [`Nodes::child`] then has no answer, and
//! the stack is recorded as truncated.
//!
//! # Invariants
//! - I1: `capacity` is zero or a power of two, `count * 4 <= capacity * 3`, and an empty entry
//!   has `id == 0`: so a probe always ends.
//! - I2: ids are 1, 2, 3, ... in order of insertion, as the stream defines them.

use core::mem::size_of;
use core::ptr::NonNull;

use heapwright_format::NodeId;
use heapwright_os::{Protection, release, reserve};

/// Entries at first: 64 KiB, of which a small thread touches little.
const CAPACITY_AT_FIRST: usize = 4096;

#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    word: u64,
    parent: NodeId,
    id: NodeId,
}

/// The table. All zero: empty, with no memory yet.
pub(crate) struct Nodes {
    entries: Option<NonNull<Entry>>,
    capacity: usize,
    count: u32,
}

/// Answer of [`Nodes::child`].
pub(crate) enum Child {
    /// The node is known.
    Known(NodeId),
    /// The node is new and must be defined in the stream.
    New(NodeId),
    /// No memory for it.
    Refused,
}

impl Nodes {
    pub(crate) const fn new() -> Self {
        Self { entries: None, capacity: 0, count: 0 }
    }

    /// The number the next new node gets.
    pub(crate) fn next_id(&self) -> NodeId {
        self.count + 1
    }

    /// The node `word` below `parent`.
    #[inline]
    pub(crate) fn child(&mut self, parent: NodeId, word: u64) -> Child {
        if (self.count as usize + 1) * 4 > self.capacity * 3 && !self.grow() {
            return Child::Refused;
        }
        let entry = self.find(parent, word);
        // SAFETY: `find` gives an entry of the table, which only this thread uses.
        let found = unsafe { entry.read() };
        if found.id != 0 {
            return Child::Known(found.id);
        }
        self.count += 1;
        let id = self.count;
        // SAFETY: as above.
        unsafe { entry.write(Entry { word, parent, id }) };
        Child::New(id)
    }

    /// The entry of (`parent`, `word`), or the empty one where it belongs. The table has memory.
    #[inline]
    fn find(&self, parent: NodeId, word: u64) -> NonNull<Entry> {
        let entries = self.entries.expect("grown before the first search");
        let mask = self.capacity - 1;
        let mut index = first_index(parent, word) & mask;
        loop {
            // SAFETY: the masked index is below the capacity.
            let place = unsafe { entries.add(index) };
            // SAFETY: entries are plain words, zero when new, and only this thread's.
            let entry = unsafe { place.read() };
            if entry.id == 0 || (entry.word == word && entry.parent == parent) {
                return place;
            }
            index = (index + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let capacity = (self.capacity * 2).max(CAPACITY_AT_FIRST);
        let Ok(memory) = reserve(capacity * size_of::<Entry>(), Protection::ReadWrite) else {
            return false;
        };
        let old = core::mem::replace(
            self,
            Self { entries: Some(memory.cast()), capacity, count: self.count },
        );
        if let Some(entries) = old.entries {
            for index in 0..old.capacity {
                // SAFETY: below the old capacity.
                let place = unsafe { entries.add(index) };
                // SAFETY: the old table is still there, and only this thread's.
                let entry = unsafe { place.read() };
                if entry.id != 0 {
                    let new = self.find(entry.parent, entry.word);
                    // SAFETY: an empty entry of the new table.
                    unsafe { new.write(entry) };
                }
            }
            old.give_back();
        }
        debug_assert!(self.count as usize * 4 <= self.capacity * 3, "I1");
        true
    }

    /// Gives the memory back.
    pub(crate) fn give_back(self) {
        if let Some(entries) = self.entries {
            let bytes = self.capacity * size_of::<Entry>();
            // SAFETY: the whole mapping made by `grow`; the table is gone with `self`.
            let _ = unsafe { release(entries.cast(), bytes) };
        }
    }
}

/// Where a search begins, before it is cut to the capacity. Both keys are spread over all bits
/// first: numbers of nodes and return addresses are small, dense numbers.
#[inline(always)]
fn first_index(parent: NodeId, word: u64) -> usize {
    let parent = u64::from(parent).wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((word ^ parent).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 36) as usize
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::HashMap;

    use super::{Child, Nodes, first_index};

    #[test]
    fn a_real_tree_spreads_over_the_table() {
        // Shaped like a program's: chains of nodes, each below one of its recent neighbours,
        // return addresses from a few modules.
        let mask = (1 << 15) - 1;
        let mut used = std::collections::HashSet::new();
        let mut collisions = 0;
        for id in 1..20_000u32 {
            let word = 0x7f00_1234_5000 + u64::from(id % 1700) * 13;
            let parent = id - 1 - (id * 7 % 20).min(id - 1);
            collisions += u32::from(!used.insert(first_index(parent, word) & mask));
        }
        // 20,000 balls in 32,768 boxes: 5,000 meet another one by chance.
        assert!(collisions < 6_000, "{collisions}");
    }

    #[test]
    fn numbers_are_dense_and_stable_across_growth() {
        let mut nodes = Nodes::new();
        let mut model = HashMap::new();
        let mut seed = 1u64;
        for _ in 0..40_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let parent = (seed >> 50) as u32;
            let word = 0x7fff_0000_0000 | (seed >> 33) % 500;
            let next = model.len() as u32 + 1;
            let expected = *model.entry((parent, word)).or_insert(next);
            match nodes.child(parent, word) {
                Child::Known(id) => assert!(id == expected && id != next),
                Child::New(id) => assert!(id == expected && id == next),
                Child::Refused => panic!("memory"),
            }
        }
        assert_eq!(nodes.next_id() as usize, model.len() + 1);
        nodes.give_back();
    }
}

//! The calling-context tree of a thread: from a path (the words of a stack, outermost first) to
//! the number of its node.
//!
//! The key is a 64-bit hash of the whole path, so that a stack is looked up by its innermost
//! frame alone: one place of a large table, not one for each frame, and the hash is known
//! before memory is asked. An entry also keeps 32 bits of a second hash: two of a million paths
//! are taken for one with probability 2^-57.
//!
//! An open-addressed table in memory of its own; it doubles when three quarters full. Losing
//! the race against exhausted memory is not an error: [`Nodes::insert`] then refuses, and the
//! stack is recorded as truncated.
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

/// Hash of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathHash {
    place: u64,
    check: u32,
}

impl PathHash {
    /// The path without frames.
    pub(crate) const ROOT: Self = Self { place: 0x243f_6a88_85a3_08d3, check: 0x1319_8a2e };

    /// The path with `word` added inside.
    #[inline(always)]
    pub(crate) fn child(self, word: u64) -> Self {
        // The product of a 64-bit multiplication folded by its high half: every bit of both
        // inputs reaches every bit (Moremur, wyhash).
        let product = u128::from(self.place ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            * 0xa076_1d64_78bd_642f;
        let place = product as u64 ^ (product >> 64) as u64;
        let check = self.check.rotate_left(7).wrapping_add((word as u32).wrapping_mul(0x85eb_ca6b));
        Self { place, check }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    place: u64,
    check: u32,
    id: NodeId,
}

/// The table. All zero: empty, with no memory yet.
pub(crate) struct Nodes {
    entries: Option<NonNull<Entry>>,
    capacity: usize,
    count: u32,
}

impl Nodes {
    pub(crate) const fn new() -> Self {
        Self { entries: None, capacity: 0, count: 0 }
    }

    /// The number the next new node gets.
    pub(crate) fn next_id(&self) -> NodeId {
        self.count + 1
    }

    /// The node of the path with this hash, if it is known.
    #[inline(always)]
    pub(crate) fn get(&self, path: PathHash) -> Option<NodeId> {
        let entries = self.entries?;
        let place = self.find(entries, path);
        // SAFETY: `find` gives an entry of the table, which only this thread uses.
        let id = unsafe { place.read() }.id;
        (id != 0).then_some(id)
    }

    /// Gives the path, which is not known yet, the next number; none without memory.
    pub(crate) fn insert(&mut self, path: PathHash) -> Option<NodeId> {
        debug_assert_eq!(self.get(path), None, "I2: a path is inserted once");
        if (self.count as usize + 1) * 4 > self.capacity * 3 && !self.grow() {
            return None;
        }
        let place = self.find(self.entries?, path);
        self.count += 1;
        let id = self.count;
        // SAFETY: the empty entry where the path belongs.
        unsafe { place.write(Entry { place: path.place, check: path.check, id }) };
        Some(id)
    }

    /// The entry of `path`, or the empty one where it belongs.
    #[inline(always)]
    fn find(&self, entries: NonNull<Entry>, path: PathHash) -> NonNull<Entry> {
        let mask = self.capacity - 1;
        let mut index = (path.place >> 20) as usize & mask;
        loop {
            // SAFETY: the masked index is below the capacity.
            let place = unsafe { entries.add(index) };
            // SAFETY: entries are plain words, zero when new, and only this thread's.
            let entry = unsafe { place.read() };
            let same = entry.place == path.place && entry.check == path.check;
            if same || entry.id == 0 {
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
        let new_entries = memory.cast();
        let old = core::mem::replace(
            self,
            Self { entries: Some(new_entries), capacity, count: self.count },
        );
        if let Some(entries) = old.entries {
            for index in 0..old.capacity {
                // SAFETY: below the old capacity.
                let place = unsafe { entries.add(index) };
                // SAFETY: the old table is still there, and only this thread's.
                let entry = unsafe { place.read() };
                if entry.id != 0 {
                    let path = PathHash { place: entry.place, check: entry.check };
                    let new = self.find(new_entries, path);
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

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::{HashMap, HashSet};
    use std::vec::Vec;

    use super::{Nodes, PathHash};

    #[test]
    fn numbers_are_dense_and_stable_across_growth() {
        let mut nodes = Nodes::new();
        let mut model: HashMap<Vec<u64>, u32> = HashMap::new();
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut path = Vec::new();
            let mut hash = PathHash::ROOT;
            for _ in 0..6 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let word = 0x7fff_0000_0000 | ((seed >> 33) % 7);
                path.push(word);
                hash = hash.child(word);
                let next = model.len() as u32 + 1;
                match model.get(&path) {
                    Some(&id) => assert_eq!(nodes.get(hash), Some(id)),
                    None => {
                        assert_eq!(nodes.get(hash), None);
                        assert_eq!(nodes.insert(hash), Some(next));
                        model.insert(path.clone(), next);
                    }
                }
            }
        }
        assert_eq!(nodes.next_id() as usize, model.len() + 1);
        assert!(model.len() > 8192, "the table grew");
        nodes.give_back();
    }

    #[test]
    fn paths_spread_over_the_table_and_order_matters() {
        let mask = (1 << 15) - 1;
        let mut used = HashSet::new();
        let mut collisions = 0;
        for id in 0..20_000u64 {
            let path = PathHash::ROOT.child(0x5555_1234 + id / 100 * 16).child(0x7f00 + id % 100);
            collisions += u32::from(!used.insert((path.place >> 20) & mask));
        }
        // 20,000 balls in 32,768 boxes: 5,000 meet another one by chance.
        assert!(collisions < 6_000, "{collisions}");
        assert_ne!(PathHash::ROOT.child(1).child(2), PathHash::ROOT.child(2).child(1));
    }
}

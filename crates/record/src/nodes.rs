//! The calling-context tree of a thread: from a path (the words of a stack, outermost first) to
//! the number of its node.
//!
//! The key is a 64-bit hash of the whole path, so that a stack is looked up by its innermost
//! frame alone: one place of a large table, not one for each frame, and the hash is known
//! before memory is asked. An entry is one word: 40 bits of the hash that do not choose its
//! place, and the number. A new path is taken for a known one when it meets, at its place, an
//! entry with the same 40 bits: once in a million recordings of half a million paths.
//!
//! A thread keeps two: one of whole stacks, which every allocation asks and which stays small,
//! and one of all paths, asked when a stack is new.
//!
//! Since an entry does not hold the bits that chose its place, a log of all paths is kept beside
//! the table, written once and read only when the table grows.
//!
//! An open-addressed table in memory of its own; it doubles when three quarters full. Losing
//! the race against exhausted memory is not an error: [`Nodes::insert`] then refuses, and the
//! stack is recorded as truncated.
//!
//! # Invariants
//! - I1: `capacity` is zero or a power of two, `count * 4 <= capacity * 3`, and an empty entry
//!   has `id == 0`: so a probe always ends.
//! - I2: ids are below [`ID_LIMIT`] and not 0.

use core::mem::size_of;
use core::ptr::NonNull;

use heapwright_format::NodeId;
use heapwright_os::{Protection, release, reserve};
use heapwright_unwind::PathHash;

/// Entries at first: 64 KiB, of which a small thread touches little.
const CAPACITY_AT_FIRST: usize = 4096;

/// Numbers are below this: 24 bits. A thread with more paths has the others cut short.
const ID_LIMIT: NodeId = 1 << 24;

/// The bits that an entry keeps: not those that choose its place in any table of up to 2^24
/// entries.
#[inline(always)]
fn tag(path: PathHash) -> u64 {
    path.bits() >> 24 << 24
}

#[inline(always)]
fn index(path: PathHash, mask: usize) -> usize {
    path.bits() as usize & mask
}

/// Tag in the high 40 bits, number in the low 24; 0 when empty.
type Entry = u64;

/// A path in the log.
#[repr(C)]
#[derive(Clone, Copy)]
struct Logged {
    path: PathHash,
    id: NodeId,
}

/// Bytes of memory behind a table of `capacity` entries: the entries, then the log of at most
/// three quarters as many paths (I1).
const fn memory_bytes(capacity: usize) -> usize {
    capacity * size_of::<Entry>() + capacity / 4 * 3 * size_of::<Logged>()
}

/// The table. All zero: empty, with no memory yet.
pub(crate) struct Nodes {
    entries: Option<NonNull<Entry>>,
    capacity: usize,
    count: u32,
}

impl Nodes {
    /// The place of path number `index` in the log behind `entries`.
    fn logged(entries: NonNull<Entry>, capacity: usize, index: usize) -> NonNull<Logged> {
        debug_assert!(index < capacity / 4 * 3, "I1");
        // SAFETY: the log begins behind the entries, inside the same mapping.
        let log = unsafe { entries.add(capacity) }.cast::<Logged>();
        // SAFETY: the log has three quarters of `capacity` places.
        unsafe { log.add(index) }
    }
}

impl Nodes {
    pub(crate) const fn new() -> Self {
        Self { entries: None, capacity: 0, count: 0 }
    }

    /// The number that [`Nodes::insert_next`] gives next.
    pub(crate) fn next_id(&self) -> NodeId {
        self.count + 1
    }

    /// Gives the path, which is not known yet, the number after that of the path before: 1, 2,
    /// 3, ... in a table that is only filled by this. None without memory.
    pub(crate) fn insert_next(&mut self, path: PathHash) -> Option<NodeId> {
        let id = self.next_id();
        self.insert(path, id).then_some(id)
    }

    /// The node of the path with this hash, if it is known.
    #[inline(always)]
    pub(crate) fn get(&self, path: PathHash) -> Option<NodeId> {
        let entries = self.entries?;
        let place = self.find(entries, path);
        // SAFETY: `find` gives an entry of the table, which only this thread uses.
        let id = unsafe { place.read() } as NodeId & (ID_LIMIT - 1);
        (id != 0).then_some(id)
    }

    /// Gives the path, which is not known yet, the number `id`; false without memory, or when
    /// the numbers are used up.
    pub(crate) fn insert(&mut self, path: PathHash, id: NodeId) -> bool {
        debug_assert_eq!(self.get(path), None, "a path is inserted once");
        if id >= ID_LIMIT || ((self.count as usize + 1) * 4 > self.capacity * 3 && !self.grow()) {
            return false;
        }
        let Some(entries) = self.entries else { return false };
        let place = self.find(entries, path);
        self.count += 1;
        // SAFETY: the empty entry where the path belongs.
        unsafe { place.write(tag(path) | Entry::from(id)) };
        let logged = Self::logged(entries, self.capacity, self.count as usize - 1);
        // SAFETY: a place of the log, which only this thread uses.
        unsafe { logged.write(Logged { path, id }) };
        true
    }

    /// The entry of `path`, or the empty one where it belongs.
    #[inline(always)]
    fn find(&self, entries: NonNull<Entry>, path: PathHash) -> NonNull<Entry> {
        let mask = self.capacity - 1;
        let mut index = index(path, mask);
        loop {
            // SAFETY: the masked index is below the capacity.
            let place = unsafe { entries.add(index) };
            // SAFETY: entries are plain words, zero when new, and only this thread's.
            let entry = unsafe { place.read() };
            if entry == 0 || (entry ^ path.bits()) >> 24 == 0 {
                return place;
            }
            index = (index + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let capacity = (self.capacity * 2).max(CAPACITY_AT_FIRST);
        let Ok(memory) = reserve(memory_bytes(capacity), Protection::ReadWrite) else {
            return false;
        };
        let entries = memory.cast();
        let old =
            core::mem::replace(self, Self { entries: Some(entries), capacity, count: self.count });
        if let Some(old_entries) = old.entries {
            for index in 0..old.count as usize {
                // SAFETY: the old log is still there, and only this thread's.
                let logged = unsafe { Self::logged(old_entries, old.capacity, index).read() };
                let place = self.find(entries, logged.path);
                // SAFETY: an empty entry of the new table.
                unsafe { place.write(tag(logged.path) | Entry::from(logged.id)) };
                let copy = Self::logged(entries, capacity, index);
                // SAFETY: a place of the new log.
                unsafe { copy.write(logged) };
            }
            old.give_back();
        }
        debug_assert!(self.count as usize * 4 <= self.capacity * 3, "I1");
        true
    }

    /// Gives the memory back.
    pub(crate) fn give_back(self) {
        if let Some(entries) = self.entries {
            let bytes = memory_bytes(self.capacity);
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

    use super::{Nodes, PathHash, index};

    #[test]
    fn numbers_are_kept_across_growth() {
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
                match model.get(&path) {
                    Some(&id) => assert_eq!(nodes.get(hash), Some(id)),
                    None => {
                        let id = model.len() as u32 * 3 + 1;
                        assert_eq!(nodes.get(hash), None);
                        assert!(nodes.insert(hash, id));
                        model.insert(path.clone(), id);
                    }
                }
            }
        }
        assert_eq!(nodes.next_id() as usize, model.len() + 1);
        assert!(model.len() > 8192, "the table grew");
        assert!(!nodes.insert(PathHash::ROOT.child(99), 1 << 24), "numbers have 24 bits");
        nodes.give_back();
    }

    #[test]
    fn paths_spread_over_the_table_and_order_matters() {
        let mask = (1 << 15) - 1;
        let mut used = HashSet::new();
        let mut collisions = 0;
        for id in 0..20_000u64 {
            let path = PathHash::ROOT.child(0x5555_1234 + id / 100 * 16).child(0x7f00 + id % 100);
            collisions += u32::from(!used.insert(index(path, mask)));
        }
        // 20,000 balls in 32,768 boxes: 5,000 meet another one by chance.
        assert!(collisions < 6_000, "{collisions}");
        assert_ne!(PathHash::ROOT.child(1).child(2), PathHash::ROOT.child(2).child(1));
    }
}

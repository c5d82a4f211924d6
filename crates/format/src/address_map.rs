//! A map from addresses of live blocks to the blocks, made for the order in which programs
//! allocate: blocks of one OS page lie side by side in the table, so that runs of neighbours,
//! which are the rule, stay in the cache.
//!
//! Open addressing, linear probing, deletion by shifting back (no tombstones). A page's place is
//! random; within it the place is the address's, in steps of 16 bytes.
//!
//! # Invariants
//! - I1: `entries.len()` is a power of two and at least twice `count`, so a probe always ends.
//! - I2: between an entry's home place and its place no entry is empty.
//! - I3: address 0 marks an empty entry and is never a key.

use crate::objects::ObjectId;

/// A live block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) object: ObjectId,
    pub(crate) size: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    live: Live,
}

const EMPTY: Entry = Entry { address: 0, live: Live { object: ObjectId(0), size: 0 } };
const CAPACITY_AT_FIRST: usize = 1024;

/// The map.
pub(crate) struct AddressMap {
    entries: Vec<Entry>,
    count: usize,
}

impl Default for AddressMap {
    fn default() -> Self {
        Self { entries: vec![EMPTY; CAPACITY_AT_FIRST], count: 0 }
    }
}

impl std::fmt::Debug for AddressMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AddressMap of {}", self.count)
    }
}

impl AddressMap {
    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    fn home(&self, address: u64) -> usize {
        let page = (address >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
        (page as usize).wrapping_add((address >> 4) as usize & 0xff) & self.mask()
    }

    /// Where `address` is, or the empty entry where it would be.
    fn find(&self, address: u64) -> usize {
        let mask = self.mask();
        let mut index = self.home(address);
        while self.entries[index].address != address && self.entries[index].address != 0 {
            index = (index + 1) & mask;
        }
        index
    }

    /// The block at `address`.
    pub(crate) fn get(&self, address: u64) -> Option<Live> {
        let entry = &self.entries[self.find(address)];
        (entry.address != 0).then_some(entry.live)
    }

    /// Enters a block; gives back the one that was at `address` before. An `address` of 0, which
    /// no block has, is not entered.
    pub(crate) fn insert(&mut self, address: u64, live: Live) -> Option<Live> {
        if address == 0 {
            return None;
        }
        if (self.count + 1) * 2 > self.entries.len() {
            self.grow();
        }
        let index = self.find(address);
        let before = std::mem::replace(&mut self.entries[index], Entry { address, live });
        if before.address != 0 {
            return Some(before.live);
        }
        self.count += 1;
        None
    }

    /// Takes the block at `address` out.
    pub(crate) fn remove(&mut self, address: u64) -> Option<Live> {
        let mask = self.mask();
        let mut hole = self.find(address);
        let found = self.entries[hole];
        if found.address == 0 {
            return None;
        }
        // Shift back what stands behind, as far as it does not stand at home (I2).
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let entry = self.entries[next];
            if entry.address == 0 {
                break;
            }
            let from_home = next.wrapping_sub(self.home(entry.address)) & mask;
            if from_home >= next.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = next;
            }
        }
        self.entries[hole] = EMPTY;
        self.count -= 1;
        Some(found.live)
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![EMPTY; self.entries.len() * 2];
        let old = std::mem::replace(&mut self.entries, larger);
        for entry in old.into_iter().filter(|entry| entry.address != 0) {
            let index = self.find(entry.address);
            self.entries[index] = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{AddressMap, Live};
    use crate::objects::ObjectId;

    #[test]
    fn random_programs_agree_with_a_plain_map() {
        let mut seed = 99u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            seed >> 33
        };
        for address_bits in [6, 9, 14, 40] {
            let mut map = AddressMap::default();
            let mut model: HashMap<u64, Live> = HashMap::new();
            for step in 0..60_000u32 {
                let address = ((random() << 20 ^ random()) % (1 << address_bits)) << 3;
                let live = Live { object: ObjectId(step), size: random() };
                if random() % 5 < 3 {
                    let expected = if address == 0 { None } else { model.insert(address, live) };
                    assert_eq!(map.insert(address, live), expected);
                } else {
                    assert_eq!(map.remove(address), model.remove(&address));
                }
                let other = ((random() << 20 ^ random()) % (1 << address_bits)) << 3;
                assert_eq!(map.get(other), model.get(&other).copied());
                assert_eq!(map.count, model.len());
            }
            model.iter().for_each(|(&address, &live)| assert_eq!(map.get(address), Some(live)));
        }
    }
}

//! What is known of large blocks: a table by address, far from the blocks.
//!
//! Open addressing with steps of one; what is removed closes its gap, so there are no tombs.
//!
//! # Invariants
//! - T1: at most half of the places are taken, so a search ends.
//! - T2: between a block's home place and its own there is no free one.

use core::ptr::{NonNull, null_mut};

use heapwright_core::family::Family;
use heapwright_os::{Protection, release, reserve};

/// A large block.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Record {
    /// Its first byte; 0 in a free place.
    pub(crate) start: usize,
    /// Bytes that were asked for.
    pub(crate) bytes: usize,
    /// Bytes from its first that may be touched: whole OS pages.
    pub(crate) room_bytes: usize,
    /// Bytes from its first whose pages were moved here from another mapping: the kernel keeps
    /// them apart from the others. Whole OS pages.
    pub(crate) moved_bytes: usize,
    /// Whether its pages are kept for others when it is free: not those of tables of zeroes, which
    /// were perhaps never made.
    pub(crate) is_kept: bool,
    /// Start of its mapping, guards included.
    pub(crate) mapping: *mut u8,
    /// Length of its mapping.
    pub(crate) mapping_bytes: usize,
    /// Its functions.
    pub(crate) family: Family,
}

/// Places of the first table.
const PLACES_FIRST: usize = 256;

/// The table; under the lock of `large`.
#[derive(Debug)]
pub(crate) struct LargeTable {
    places: *mut Record,
    place_count: usize,
    taken_count: usize,
}

// SAFETY: the mapping is the table's alone.
unsafe impl Send for LargeTable {}

impl LargeTable {
    pub(crate) const fn new() -> Self {
        Self { places: null_mut(), place_count: 0, taken_count: 0 }
    }

    /// Blocks in it.
    pub(crate) fn len(&self) -> usize {
        self.taken_count
    }

    fn place(&self, number: usize) -> *mut Record {
        debug_assert!(number < self.place_count);
        self.places.wrapping_add(number)
    }

    fn home(start: usize, place_count: usize) -> usize {
        // Fibonacci hashing of the page number.
        let hash = (start >> 12).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 20) & (place_count - 1)
    }

    /// Makes room for one more; whether there is.
    fn grow(&mut self) -> bool {
        if (self.taken_count + 1) * 2 <= self.place_count {
            return true;
        }
        let place_count = (self.place_count * 2).max(PLACES_FIRST);
        let Ok(fresh) = reserve(place_count * size_of::<Record>(), Protection::ReadWrite) else {
            return false;
        };
        let old = core::mem::replace(
            self,
            Self { places: fresh.as_ptr().cast(), place_count, taken_count: 0 },
        );
        for number in 0..old.place_count {
            if old.start_at(number) != 0 {
                // SAFETY: as above; the place is taken, so it was written whole.
                let record = unsafe { old.place(number).read() };
                self.put(record);
            }
        }
        if let Some(places) = NonNull::new(old.places.cast::<u8>()) {
            // SAFETY: the old mapping, unused from here on. A refusal leaves it mapped.
            let _ = unsafe { release(places, old.place_count * size_of::<Record>()) };
        }
        true
    }

    fn put(&mut self, record: Record) {
        let mask = self.place_count - 1;
        let mut number = Self::home(record.start, self.place_count);
        while self.start_at(number) != 0 {
            number = (number + 1) & mask;
        }
        // SAFETY: a place of ours.
        unsafe { self.place(number).write(record) };
        self.taken_count += 1;
    }

    fn start_at(&self, number: usize) -> usize {
        let place = self.place(number).cast::<usize>();
        // SAFETY: a place of ours, whose first field is `start`, a number whatever is there.
        unsafe { place.read() }
    }

    /// Puts a block in; whether there was room.
    pub(crate) fn insert(&mut self, record: Record) -> bool {
        debug_assert_ne!(record.start, 0);
        if !self.grow() {
            return false;
        }
        self.put(record);
        true
    }

    fn find(&self, start: usize) -> Option<usize> {
        if self.place_count == 0 || start == 0 {
            return None;
        }
        let mask = self.place_count - 1;
        let mut number = Self::home(start, self.place_count);
        loop {
            match self.start_at(number) {
                0 => return None,
                found if found == start => return Some(number),
                _ => number = (number + 1) & mask,
            }
        }
    }

    /// The block that starts at `start`, to look at or change.
    pub(crate) fn get(&mut self, start: usize) -> Option<&mut Record> {
        let number = self.find(start)?;
        // SAFETY: a taken place, written whole; borrowed with the table.
        Some(unsafe { &mut *self.place(number) })
    }

    /// Takes a block out.
    pub(crate) fn remove(&mut self, start: usize) -> Option<Record> {
        let mut hole = self.find(start)?;
        // SAFETY: a taken place, written whole.
        let record = unsafe { self.place(hole).read() };
        let mask = self.place_count - 1;
        let mut number = hole;
        loop {
            number = (number + 1) & mask;
            let start = self.start_at(number);
            if start == 0 {
                break;
            }
            let home = Self::home(start, self.place_count);
            // Whether the hole lies between its home and its place (T2).
            if number.wrapping_sub(home) & mask >= number.wrapping_sub(hole) & mask {
                // SAFETY: two different places of ours, the first one taken.
                let moved = unsafe { self.place(number).read() };
                // SAFETY: a place of ours.
                unsafe { self.place(hole).write(moved) };
                hole = number;
            }
        }
        // SAFETY: a place of ours, whose first field is `start`.
        unsafe { self.place(hole).cast::<usize>().write(0) };
        self.taken_count -= 1;
        Some(record)
    }

    /// The block whose room holds `address`. O(places).
    pub(crate) fn around(&self, address: usize) -> Option<Record> {
        self.iter().find(|record| address.wrapping_sub(record.start) < record.room_bytes)
    }

    /// All blocks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Record> + '_ {
        (0..self.place_count).filter(|number| self.start_at(*number) != 0).map(|number| {
            // SAFETY: a taken place, written whole.
            unsafe { self.place(number).read() }
        })
    }
}

#[cfg(test)]
mod tests {
    use core::ptr::null_mut;
    use std::vec::Vec;

    use super::{LargeTable, Record};
    use heapwright_core::family::Family;

    fn record(start: usize) -> Record {
        Record {
            start,
            bytes: start + 1,
            room_bytes: 4096,
            moved_bytes: 0,
            is_kept: true,
            mapping: null_mut(),
            mapping_bytes: 0,
            family: Family::Malloc,
        }
    }

    #[test]
    fn what_is_put_in_is_found_until_it_is_taken_out() {
        let mut table = LargeTable::new();
        assert!(table.get(4096).is_none() && table.remove(4096).is_none());
        let mut inside = Vec::new();
        let mut state = 7u64;
        for round in 0..5000usize {
            state = crate::random::step(state);
            if !inside.is_empty() && state >> 63 == 1 {
                let start = inside.swap_remove((state >> 33) as usize % inside.len());
                assert_eq!(table.remove(start).map(|record| record.bytes), Some(start + 1));
                assert!(table.get(start).is_none());
            } else {
                // Few pages, so that places meet.
                let start = 4096 * (1 + (state >> 40) as usize % 3000);
                if !inside.contains(&start) {
                    assert!(table.insert(record(start)));
                    inside.push(start);
                }
            }
            assert_eq!(table.len(), inside.len());
            if round % 64 == 0 {
                for start in &inside {
                    assert_eq!(table.get(*start).map(|record| record.bytes), Some(start + 1));
                }
                assert_eq!(table.iter().count(), inside.len());
            }
        }
        assert_eq!(table.around(inside[0] + 4095).map(|record| record.start), Some(inside[0]));
    }
}

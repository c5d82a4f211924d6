//! Blocks with a mapping of their own, for when the region cannot be had or is used up (a tight
//! `RLIMIT_AS`, a small address space). Slow and page-grained, but correct.
//!
//! A hash table of the blocks' addresses tells them from other allocators' pointers.

use core::ptr::NonNull;

use heapwright_os::{Protection, page_bytes, release, reserve};

use crate::region::{release_metadata, reserve_metadata};

/// One block; `block` is null in a free place of the table.
#[derive(Clone, Copy)]
struct Entry {
    block: *mut u8,
    start: *mut u8,
    mapped_bytes: usize,
}

impl Entry {
    fn usable_bytes(&self) -> usize {
        self.start.addr() + self.mapped_bytes - self.block.addr()
    }
}

const ENTRY_COUNT_MIN: usize = 512;

/// All such blocks. Under the pool's lock.
pub(crate) struct DirectMappings {
    table: *mut Entry,
    /// A power of two, or 0.
    capacity: usize,
    /// How many there are.
    pub(crate) count: usize,
    /// Usable bytes of all.
    pub(crate) usable_bytes: usize,
}

impl DirectMappings {
    pub(crate) const fn new() -> Self {
        Self { table: core::ptr::null_mut(), capacity: 0, count: 0, usable_bytes: 0 }
    }

    /// A zeroed block of at least `bytes` at a multiple of `align_bytes`; null when there is no
    /// memory.
    pub(crate) fn alloc(&mut self, bytes: usize, align_bytes: usize) -> *mut u8 {
        let page = page_bytes();
        let slack = if align_bytes > page { align_bytes } else { 0 };
        let mapped_bytes =
            bytes.max(1).checked_add(slack).and_then(|wide| wide.checked_next_multiple_of(page));
        let Some(mapped_bytes) = mapped_bytes else { return core::ptr::null_mut() };
        if !self.make_room() {
            return core::ptr::null_mut();
        }
        let Ok(start) = reserve(mapped_bytes, Protection::ReadWrite) else {
            return core::ptr::null_mut();
        };
        let start = start.as_ptr();
        let block = start.map_addr(|address| address.next_multiple_of(align_bytes));
        self.insert(Entry { block, start, mapped_bytes });
        block
    }

    /// Bytes from `block` to the end of its mapping; none when it is no such block.
    pub(crate) fn usable_bytes(&self, block: *mut u8) -> Option<usize> {
        Some(self.entry(self.find(block)?).usable_bytes())
    }

    /// Unmaps `block`; whether it was such a block.
    pub(crate) fn free(&mut self, block: *mut u8) -> bool {
        let Some(place) = self.find(block) else { return false };
        let entry = self.entry(place);
        self.remove(place);
        if let Some(start) = NonNull::new(entry.start) {
            // SAFETY: the whole mapping of a block that the program gave up. A refusal leaves it
            // mapped, which is harmless.
            let _ = unsafe { release(start, entry.mapped_bytes) };
        }
        true
    }

    /// Calls `each` with every block and its usable bytes.
    pub(crate) fn for_each(&self, mut each: impl FnMut(*mut u8, usize)) {
        for place in 0..self.capacity {
            let entry = self.entry(place);
            if !entry.block.is_null() {
                each(entry.block, entry.usable_bytes());
            }
        }
    }

    fn entry(&self, place: usize) -> Entry {
        debug_assert!(place < self.capacity);
        // SAFETY: inside the table, whose zeroed places are valid entries.
        unsafe { self.table.wrapping_add(place).read() }
    }

    fn set(&mut self, place: usize, entry: Entry) {
        debug_assert!(place < self.capacity);
        // SAFETY: inside the table, which is ours under the lock.
        unsafe { self.table.wrapping_add(place).write(entry) };
    }

    fn home(&self, block: *mut u8) -> usize {
        // Fibonacci hashing of the page number; the high bits are the good ones.
        let mixed = (block.addr() >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) & (self.capacity - 1)
    }

    fn find(&self, block: *mut u8) -> Option<usize> {
        if self.count == 0 || block.is_null() {
            return None;
        }
        let mut place = self.home(block);
        loop {
            let found = self.entry(place).block;
            if found.is_null() {
                return None;
            }
            if found == block {
                return Some(place);
            }
            place = (place + 1) & (self.capacity - 1);
        }
    }

    fn insert(&mut self, entry: Entry) {
        let mut place = self.home(entry.block);
        while !self.entry(place).block.is_null() {
            place = (place + 1) & (self.capacity - 1);
        }
        self.set(place, entry);
        self.count += 1;
        self.usable_bytes += entry.usable_bytes();
    }

    /// Empties `place` and moves later entries up, so that searches need no tombstones
    /// (Knuth, The Art of Computer Programming 3, 6.4 algorithm R).
    fn remove(&mut self, mut place: usize) {
        self.count -= 1;
        self.usable_bytes -= self.entry(place).usable_bytes();
        let mask = self.capacity - 1;
        let mut scan = place;
        loop {
            scan = (scan + 1) & mask;
            let entry = self.entry(scan);
            if entry.block.is_null() {
                break;
            }
            let distance = scan.wrapping_sub(self.home(entry.block)) & mask;
            if distance >= (scan.wrapping_sub(place) & mask) {
                self.set(place, entry);
                place = scan;
            }
        }
        let free =
            Entry { block: core::ptr::null_mut(), start: core::ptr::null_mut(), mapped_bytes: 0 };
        self.set(place, free);
    }

    /// Makes sure that one more entry leaves the table at most half full.
    fn make_room(&mut self) -> bool {
        if (self.count + 1) * 2 <= self.capacity {
            return true;
        }
        let old_table = self.table;
        let old_capacity = self.capacity;
        let capacity = (old_capacity * 2).max(ENTRY_COUNT_MIN);
        let table = reserve_metadata(capacity * size_of::<Entry>()).cast::<Entry>();
        if table.is_null() {
            return false;
        }
        self.table = table;
        self.capacity = capacity;
        self.count = 0;
        self.usable_bytes = 0;
        for place in 0..old_capacity {
            // SAFETY: inside the old table.
            let entry = unsafe { old_table.wrapping_add(place).read() };
            if !entry.block.is_null() {
                self.insert(entry);
            }
        }
        if old_capacity > 0 {
            // SAFETY: the old table is a whole mapping, copied above.
            unsafe { release_metadata(old_table.cast(), old_capacity * size_of::<Entry>()) };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::DirectMappings;

    #[test]
    fn blocks_are_found_until_they_are_freed() {
        let mut direct = DirectMappings::new();
        let mut blocks = Vec::new();
        for step in 0..1500usize {
            let block = direct.alloc(step * 3, 1 << (step % 18));
            assert!(!block.is_null() && block.addr().is_multiple_of(1 << (step % 18)));
            assert!(direct.usable_bytes(block).expect("there") >= step * 3);
            blocks.push(block);
            if step % 3 == 2 {
                let freed = blocks.remove(step * 7 % blocks.len());
                assert!(direct.free(freed));
                assert!(!direct.free(freed));
            }
        }
        for block in blocks {
            assert!(direct.usable_bytes(block).is_some());
            assert!(direct.free(block));
        }
        assert_eq!((direct.count, direct.usable_bytes), (0, 0));
    }
}

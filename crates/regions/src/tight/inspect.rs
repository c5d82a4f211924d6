//! What a tight heap says of itself, and the walk over its invariants.

use heapwright_core::backing::Backing;
use heapwright_core::region_statistics::{Counts, Figure, RegionStatistics};

use super::Tight;
use super::ground::{LENGTH, LENGTH_AT_END, NEXT, PREV};
use super::lists::{GRANULE_BYTES, List, STEPS, list_of};

impl<B: Backing, C: Counts> Tight<B, C> {
    /// The longest free piece. Reads one list.
    pub fn largest_free_bytes(&self) -> usize {
        let Some(row) = self.lists.iter().rposition(|row| row.get() != 0) else { return 0 };
        let step = STEPS + self.lists[row].get().ilog2() as usize;
        let head = self.ground.head(List { row, step });
        let mut longest = 0;
        self.for_each_of(head, |block| longest = longest.max(self.ground.word(block, LENGTH)));
        longest as usize
    }

    /// Calls `visit` with each block of the list of `head`.
    fn for_each_of(&self, head: u32, mut visit: impl FnMut(u32)) {
        let mut next = self.ground.word(head, NEXT);
        while next != head {
            visit(next);
            next = self.ground.word(next, NEXT);
        }
    }

    /// What the heap holds now. O(1) but for [`Self::largest_free_bytes`], and the kernel is
    /// asked.
    pub fn statistics(&self) -> RegionStatistics {
        self.check();
        let free_bytes = self.free_bytes.get();
        // SAFETY: our live extent.
        let resident =
            unsafe { self.backing.resident_bytes(&self.extent, 0..self.extent.committed_bytes) };
        let mut seen = RegionStatistics {
            live_bytes: Figure::Exact(self.ground.memory_bytes as usize - free_bytes),
            reserved_bytes: self.extent.reserved_bytes,
            committed_bytes: self.extent.committed_bytes,
            resident_bytes: resident.into(),
            free_bytes: Figure::Exact(free_bytes),
            largest_free_bytes: self.largest_free_bytes(),
            ..RegionStatistics::default()
        };
        self.counts.report(&mut seen);
        seen
    }

    /// Walks T1 to T4; empty in release builds.
    pub(super) fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let ground = self.ground;
        let (mut free, mut marks) = (0, 0);
        let (longest, _) = list_of(ground.memory_bytes as usize);
        for number in 0..=longest.number() {
            let list = List::of_number(number);
            let head = ground.head(list);
            let noted = self.row(list.row).get() & list.bit() != 0;
            assert_eq!(noted, ground.word(head, NEXT) != head, "T3: {list:?}");
            let mut prev = head;
            self.for_each_of(head, |block| {
                let length = ground.word(block, LENGTH);
                assert_eq!(list_of(length as usize).0, list, "T3: {length} bytes at {block}");
                assert_eq!(ground.word(block, PREV), prev, "T3: at {block}");
                let end = block + length;
                let last = end - GRANULE_BYTES as u32;
                assert_eq!(ground.word(last, LENGTH_AT_END), length, "T2: at {block}");
                assert!(ground.bit(block) && ground.bit_before(end), "T2: at {block}");
                assert!(!ground.bit(end), "T4: {block} to {end}");
                assert!(!ground.bit_before(block), "T4: before {block}");
                free += length as usize;
                marks += if last == block { 1 } else { 2 };
                prev = block;
            });
            assert_eq!(ground.word(head, PREV), prev, "T3: {list:?}");
        }
        assert_eq!(free, self.free_bytes.get(), "T1");
        let granules = (0..ground.memory_bytes).step_by(GRANULE_BYTES);
        let set = granules.filter(|granule| ground.bit(*granule)).count();
        assert_eq!(set, marks, "T2: bits without a free block");
        assert!(
            !ground.bit_before(0) && !ground.bit(ground.memory_bytes),
            "T2: bits of no granule"
        );
        for (row, lists) in self.lists.iter().enumerate() {
            let noted = self.rows.get() >> row & 1 == 1;
            assert!(noted || lists.get() == 0, "T3: row {row}");
        }
    }
}

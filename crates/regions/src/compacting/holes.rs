//! Lists of holes by their length.

use core::cell::Cell;

use heapwright_core::backing::Backing;
use heapwright_core::run_bins::{BIN_COUNT, bin_of, first_occupied};

use super::header::{Header, NONE};
use super::memory::Memory;

/// Holes of a bin of several lengths that are looked at before a longer bin is.
const LOOKS_MAX: usize = 8;

/// Singly linked lists through the holes' headers: nothing is ever taken from the middle but by
/// who walks there.
#[derive(Debug)]
pub(super) struct Holes {
    heads: [Cell<u32>; BIN_COUNT],
    /// Bit `b`: bin `b` has holes.
    occupied: Cell<u128>,
}

impl Holes {
    pub(super) const fn new() -> Self {
        Self { heads: [const { Cell::new(NONE) }; BIN_COUNT], occupied: Cell::new(0) }
    }

    /// Forgets all holes.
    pub(super) fn clear(&self) {
        let mut occupied = self.occupied.replace(0);
        while occupied != 0 {
            self.heads[occupied.trailing_zeros() as usize].set(NONE);
            occupied &= occupied - 1;
        }
    }

    /// Makes `granules` at `place` a hole and lists it.
    ///
    /// # Safety
    /// - The range is nobody's, inside the committed blocks.
    #[inline(always)]
    pub(super) unsafe fn put<B: Backing>(&self, memory: &Memory<B>, place: u32, granules: u32) {
        debug_assert!(granules > 0);
        let bin = bin_of(granules);
        let head = self.heads[bin].replace(place);
        // SAFETY: the caller's promise: nobody's, committed.
        unsafe { memory.write_header(place, Header::hole(granules, head)) };
        if head == NONE {
            self.occupied.set(self.occupied.get() | 1 << bin);
        }
    }

    /// A hole of at least `granules`, taken off its list, with its length.
    #[inline(always)]
    pub(super) fn take<B: Backing>(&self, memory: &Memory<B>, granules: u32) -> Option<(u32, u32)> {
        let bin = bin_of(granules);
        let head = self.heads[bin].get();
        if head != NONE {
            // SAFETY: a listed hole.
            let header = unsafe { memory.header(head) };
            // In a bin of one length always.
            if header.length.get() >= granules {
                self.pop(bin, header.owner.get());
                return Some((head, header.length.get()));
            }
        }
        self.take_other(memory, granules, bin)
    }

    #[inline(always)]
    fn pop(&self, bin: usize, next: u32) {
        self.heads[bin].set(next);
        if next == NONE {
            self.occupied.set(self.occupied.get() & !(1 << bin));
        }
    }

    #[inline(never)]
    fn take_other<B: Backing>(
        &self,
        memory: &Memory<B>,
        granules: u32,
        bin: usize,
    ) -> Option<(u32, u32)> {
        if let Some(longer) = first_occupied(self.occupied.get(), bin + 1) {
            let place = self.heads[longer].get();
            // SAFETY: a listed hole.
            let header = unsafe { memory.header(place) };
            // Only the last bin, which has no end, is not a bin of longer ones.
            debug_assert!(header.length.get() >= granules);
            self.pop(longer, header.owner.get());
            return Some((place, header.length.get()));
        }
        // Not the first of its own bin: a few others.
        let mut before = NONE;
        let mut place = self.heads[bin].get();
        for _ in 0..LOOKS_MAX {
            if place == NONE {
                return None;
            }
            // SAFETY: a listed hole.
            let header = unsafe { memory.header(place) };
            let next = header.owner.get();
            if header.length.get() >= granules {
                if before == NONE {
                    self.pop(bin, next);
                } else {
                    // SAFETY: a listed hole.
                    unsafe { memory.header(before) }.owner.set(next);
                }
                return Some((place, header.length.get()));
            }
            (before, place) = (place, next);
        }
        None
    }

    /// The longest listed hole. O(holes of the longest bin).
    pub(super) fn longest<B: Backing>(&self, memory: &Memory<B>) -> u32 {
        let occupied = self.occupied.get();
        if occupied == 0 {
            return 0;
        }
        let mut longest = 0;
        let mut place = self.heads[occupied.ilog2() as usize].get();
        while place != NONE {
            // SAFETY: a listed hole.
            let header = unsafe { memory.header(place) };
            longest = longest.max(header.length.get());
            place = header.owner.get();
        }
        longest
    }

    /// Each listed hole, for checks.
    pub(super) fn each<B: Backing>(&self, memory: &Memory<B>, mut visit: impl FnMut(u32, u32)) {
        for (bin, head) in self.heads.iter().enumerate() {
            let mut place = head.get();
            assert_eq!(place != NONE, self.occupied.get() >> bin & 1 == 1, "bin {bin}");
            while place != NONE {
                // SAFETY: a listed hole.
                let header = unsafe { memory.header(place) };
                assert_eq!(bin_of(header.length.get()), bin);
                visit(place, header.length.get());
                place = header.owner.get();
            }
        }
    }
}

//! A heap that wastes next to nothing: no headers, exact lengths, free neighbours joined at once.
//!
//! Free blocks lie in lists by length, in 32 steps per doubling; whether a neighbour is free is
//! told by one bit for each 16 bytes, out of band. A block in use has no bookkeeping at all.
//!
//! # Invariants
//! design/regions.md#T1 to design/regions.md#T4.
//! Source: Masmano et al., "TLSF: A New Dynamic Memory Allocator for Real-Time Systems", 2004; the
//! look into the request's own list, the bits instead of headers are ours.

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, Extent};
use heapwright_core::region_error::{AllocError, FreeError};
use heapwright_core::region_statistics::{Counts, Figure, NoCounts, RegionStatistics};

use crate::buddy::take;

/// What lengths are multiples of, and blocks aligned to at least.
const GRANULE_BYTES: usize = 16;
/// What the first granule is aligned to, and so the largest alignment.
const BASE_ALIGN: usize = 4096;
const STEPS_LOG2: u32 = 5;
const STEPS: usize = 1 << STEPS_LOG2;
/// Doublings of the length that have lists, after the first 31 lengths.
const DOUBLING_COUNT: usize = 24;
const LIST_COUNT: usize = STEPS * (DOUBLING_COUNT + 1);
/// The longest heap: 4 GiB.
const GRANULES_MAX: usize = 1 << (STEPS_LOG2 as usize + DOUBLING_COUNT - 1);
/// Blocks of a request's own list that are looked at.
const LOOKS_MAX: usize = 8;
const NIL: u32 = u32::MAX;
/// What is before the first block of a list: the list, marked so. No granule has that number.
const HEAD: u32 = 1 << 31;
const _: () = assert!(LIST_COUNT < GRANULES_MAX && GRANULES_MAX < HEAD as usize);
/// Words of a free block's first granule, and of its last one.
const NEXT: usize = 0;
const PREV: usize = 1;
const LENGTH: usize = 2;
const LENGTH_AT_END: usize = 3;

/// A fixed range of memory in blocks of any size with the least waste, for one thread.
///
/// Fresh, 98 % of the memory is payload for sizes from 16 bytes to 4 KiB, bookkeeping included;
/// after long use still more than 95 %. `alloc` and `free` take a bounded number of steps. For
/// small memories that must not be exceeded; [`Slab`](crate::Slab) is faster.
///
/// ```
/// use core::alloc::Layout;
/// use core::mem::MaybeUninit;
/// use heapwright_regions::{Buffer, Tight};
///
/// let mut memory = [MaybeUninit::uninit(); 16 << 10];
/// let heap: Tight<_> = Tight::new_in(Buffer::new(&mut memory), 8 << 10)?;
/// let layout = Layout::new::<[u8; 100]>();
/// let block = heap.try_alloc(layout)?;
/// assert_eq!(heap.statistics().live_bytes.value(), Some(112));
/// // SAFETY: live, unused from here.
/// unsafe { heap.free(block, layout) }?;
/// assert_eq!(heap.largest_free_bytes(), 8 << 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tight<B: Backing, C: Counts = NoCounts> {
    base: NonNull<u8>,
    bits: NonNull<u64>,
    granule_count: u32,
    free_granules: Cell<u32>,
    /// Bit `d`: a list of doubling `d` has blocks.
    doublings: Cell<u32>,
    /// Bit `s` of `[d]`: list `d * 32 + s` has blocks.
    steps: [Cell<u32>; DOUBLING_COUNT + 1],
    lists: [Cell<u32>; LIST_COUNT],
    /// Written instead of a block that is not there, never read.
    nowhere: Cell<u32>,
    memory: Extent,
    table: Extent,
    counts: C,
    backing: B,
}

// SAFETY: both extents belong to this value alone; blocks are raw pointers.
unsafe impl<B: Backing + Send, C: Counts + Send> Send for Tight<B, C> {}

/// The list for a length, and the first list all of whose blocks are at least that long.
#[inline]
const fn lists_of(length: u32) -> (usize, usize) {
    if length < STEPS as u32 {
        return (length as usize, length as usize);
    }
    let log2 = length.ilog2();
    let step = (length >> (log2 - STEPS_LOG2)) as usize;
    let list = (((log2 - STEPS_LOG2) as usize) << STEPS_LOG2) + step;
    let exact = length & ((1 << (log2 - STEPS_LOG2)) - 1) == 0;
    (list, if exact { list } else { list + 1 })
}

impl<B: Backing> Tight<B, NoCounts> {
    /// A heap of `bytes`, all taken now; the table beside it takes 0.8 % more.
    ///
    /// # Errors
    /// What the backing says; [`AllocError::Unfit`] for less than 16 bytes or more than 4 GiB.
    pub fn new_in(backing: B, bytes: usize) -> Result<Self, AllocError> {
        Self::counted_in(backing, bytes, NoCounts)
    }
}

impl<B: Backing, C: Counts> Tight<B, C> {
    /// As [`Tight::new_in`], counting in `counts`.
    ///
    /// # Errors
    /// As there.
    pub fn counted_in(backing: B, bytes: usize, counts: C) -> Result<Self, AllocError> {
        let granule_count = bytes / GRANULE_BYTES;
        if granule_count == 0 || granule_count > GRANULES_MAX {
            return Err(AllocError::Unfit {
                requested_bytes: bytes,
                align_bytes: GRANULE_BYTES,
                largest_bytes: GRANULES_MAX * GRANULE_BYTES,
            });
        }
        let words = granule_count.div_ceil(64);
        let table = take(&backing, words * size_of::<u64>(), align_of::<u64>())?;
        // A heap of less than a page is aligned to what it can hold.
        let align = BASE_ALIGN.min(bytes.next_power_of_two()).max(GRANULE_BYTES);
        let memory = match take(&backing, granule_count * GRANULE_BYTES, align) {
            Ok(memory) => memory,
            Err(error) => {
                // SAFETY: taken above, unused.
                unsafe { backing.release(table) };
                return Err(error);
            }
        };
        let bits = table.start.cast::<u64>();
        // SAFETY: that many words were committed, aligned for them.
        unsafe { bits.write_bytes(0, words) };
        let heap = Self {
            base: memory.start,
            bits,
            granule_count: granule_count as u32,
            free_granules: Cell::new(0),
            doublings: Cell::new(0),
            steps: [const { Cell::new(0) }; DOUBLING_COUNT + 1],
            lists: [const { Cell::new(NIL) }; LIST_COUNT],
            nowhere: Cell::new(0),
            memory,
            table,
            counts,
            backing,
        };
        heap.link(0, granule_count as u32);
        heap.set_bit(0, true);
        heap.set_bit(granule_count as u32 - 1, true);
        heap.check();
        Ok(heap)
    }

    /// Where memory comes from.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    /// A block of `layout`, uninitialised; also for no bytes. A bounded number of steps.
    ///
    /// # Errors
    /// [`AllocError::Full`] with the largest block there is; [`AllocError::Unfit`] for alignments
    /// above 4096.
    #[inline]
    pub fn try_alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let length = length_of(layout);
        match self.place(layout, length) {
            Some(start) => {
                self.counts.on_alloc(layout.size(), length * GRANULE_BYTES);
                Ok(self.at(start))
            }
            None => Err(self.refusal(layout)),
        }
    }

    #[inline]
    fn place(&self, layout: Layout, length: usize) -> Option<u32> {
        if layout.align() > GRANULE_BYTES {
            return self.alloc_aligned(layout, length);
        }
        self.find(length).map(|(start, has)| self.cut(start, has, start, length))
    }

    #[inline(never)]
    fn alloc_aligned(&self, layout: Layout, length: usize) -> Option<u32> {
        if layout.align() > BASE_ALIGN {
            return None;
        }
        let unit = layout.align() / GRANULE_BYTES;
        let (start, has) = self.find(length.checked_add(unit - 1)?)?;
        let address = self.at(start).as_ptr().addr();
        let skip = (address.wrapping_neg() & (layout.align() - 1)) / GRANULE_BYTES;
        Some(self.cut(start, has, start + skip as u32, length))
    }

    #[cold]
    fn refusal(&self, layout: Layout) -> AllocError {
        self.counts.on_failure();
        let capacity_bytes = self.granule_count as usize * GRANULE_BYTES;
        AllocError::of_heap(layout, BASE_ALIGN, capacity_bytes, || self.largest_free_bytes())
    }

    /// A free block of at least `length` granules, off its list but with its bits; and how long it
    /// is.
    #[inline]
    fn find(&self, length: usize) -> Option<(u32, u32)> {
        let length = u32::try_from(length).ok().filter(|length| *length <= self.granule_count)?;
        let (own, least) = lists_of(length);
        if own != least {
            // Blocks of this list may be too short; a block that just fits is worth some looks.
            let mut next = self.lists[own].get();
            for _ in 0..LOOKS_MAX {
                if next == NIL {
                    break;
                }
                let has = self.word(next, LENGTH);
                if has >= length {
                    self.unlink(next, has);
                    return Some((next, has));
                }
                next = self.word(next, NEXT);
            }
        }
        let (doubling, step) = (least / STEPS, least % STEPS);
        let here = self.steps.get(doubling)?.get() & (u32::MAX << step);
        let list = if here != 0 {
            doubling * STEPS + here.trailing_zeros() as usize
        } else {
            let above = self.doublings.get() & (u32::MAX << (doubling + 1));
            if above == 0 {
                return None;
            }
            let doubling = above.trailing_zeros() as usize;
            doubling * STEPS + self.steps[doubling].get().trailing_zeros() as usize
        };
        let start = self.lists[list].get();
        let has = self.word(start, LENGTH);
        debug_assert!(has >= length, "T3: a list has a block that is too short");
        self.unlink(start, has);
        Some((start, has))
    }

    /// Takes `length` granules from `at` of the unlinked free block of `has` from `start`.
    #[inline]
    fn cut(&self, start: u32, has: u32, at: u32, length: usize) -> u32 {
        let (end, has_end) = (at + length as u32, start + has);
        debug_assert!(at >= start && end <= has_end);
        if at > start {
            self.link(start, at - start);
            self.set_bit(at - 1, true);
        } else {
            self.set_bit(start, false);
        }
        if end < has_end {
            self.link(end, has_end - end);
            self.set_bit(end, true);
        } else {
            self.set_bit(has_end - 1, false);
        }
        at
    }

    /// Gives a block back. A bounded number of steps.
    ///
    /// # Errors
    /// [`FreeError`] for what is not in this heap, not at a granule, or free and at the start or
    /// end of a free piece. Nothing has changed then.
    ///
    /// # Safety
    /// - If `block` is in the heap's memory, it is a live block of this heap with that layout, or
    ///   one that was just freed; nobody uses it any more.
    #[inline]
    pub unsafe fn free(&self, block: NonNull<u8>, layout: Layout) -> Result<(), FreeError> {
        let length = length_of(layout);
        let address = block.as_ptr().addr();
        let offset = address.wrapping_sub(self.base.as_ptr().addr());
        let start = offset / GRANULE_BYTES;
        if start >= self.granule_count as usize || length > self.granule_count as usize - start {
            return Err(FreeError::NotOwned { address });
        }
        let distance_bytes = offset % GRANULE_BYTES;
        if distance_bytes != 0 {
            return Err(FreeError::NotBlockStart { address, distance_bytes });
        }
        let start = start as u32;
        if self.bit(start) {
            return Err(FreeError::AlreadyFree { address });
        }
        self.counts.on_free(layout.size(), length * GRANULE_BYTES);
        self.join(start, length as u32);
        Ok(())
    }

    /// Makes a block free together with its free neighbours. Of their bits, those where they touched
    /// it go; of a neighbour of one granule, the bit is the new end's.
    #[inline(never)]
    fn join(&self, mut start: u32, mut length: u32) {
        let end = start + length;
        if end < self.granule_count && self.bit(end) {
            let more = self.word(end, LENGTH);
            self.unlink(end, more);
            self.set_bit(end, more == 1);
            length += more;
        } else {
            self.set_bit(end - 1, true);
        }
        if start > 0 && self.bit(start - 1) {
            let more = self.word(start - 1, LENGTH_AT_END);
            self.unlink(start - more, more);
            self.set_bit(start - 1, more == 1);
            start -= more;
            length += more;
        } else {
            self.set_bit(start, true);
        }
        self.link(start, length);
    }

    /// Puts a free block onto the list of its length; its bits are the caller's business.
    #[inline]
    fn link(&self, start: u32, length: u32) {
        let (list, _) = lists_of(length);
        let next = self.lists[list].replace(start);
        self.set_word(start, NEXT, next);
        self.set_word(start, PREV, HEAD | list as u32);
        self.set_word(start, LENGTH, length);
        self.set_word(start + length - 1, LENGTH_AT_END, length);
        self.set_prev(next, start);
        if next == NIL {
            let (doubling, step) = (list / STEPS, list % STEPS);
            self.steps[doubling].set(self.steps[doubling].get() | 1 << step);
            self.doublings.set(self.doublings.get() | 1 << doubling);
        }
        self.free_granules.set(self.free_granules.get() + length);
    }

    /// Takes a free block off its list; its bits are the caller's business.
    #[inline]
    fn unlink(&self, start: u32, length: u32) {
        let (next, prev) = (self.word(start, NEXT), self.word(start, PREV));
        self.set_prev(next, prev);
        if prev & HEAD == 0 {
            self.set_word(prev, NEXT, next);
        } else {
            let list = (prev & !HEAD) as usize;
            self.lists[list].set(next);
            if next == NIL {
                let (doubling, step) = (list / STEPS, list % STEPS);
                let left = self.steps[doubling].get() & !(1 << step);
                self.steps[doubling].set(left);
                if left == 0 {
                    self.doublings.set(self.doublings.get() & !(1 << doubling));
                }
            }
        }
        self.free_granules.set(self.free_granules.get() - length);
    }

    /// Notes in `block`, if it is one, what is before it. Whether there is a block is as good as
    /// random: a store to nowhere costs less than a branch.
    #[inline(always)]
    fn set_prev(&self, block: u32, prev: u32) {
        let nowhere = NonNull::from(&self.nowhere).cast::<u32>();
        let offset = if block == NIL { 0 } else { block as usize * GRANULE_BYTES };
        // SAFETY: 0, or a granule of our memory.
        let granule = unsafe { self.base.add(offset) }.cast::<u32>();
        // SAFETY: one of the four words of a granule.
        let place = unsafe { granule.add(PREV) };
        let place = core::hint::select_unpredictable(block == NIL, nowhere, place);
        // SAFETY: a cell of ours, or in our memory, aligned, of a block that nobody uses.
        unsafe { place.write(prev) };
    }

    #[inline]
    fn at(&self, granule: u32) -> NonNull<u8> {
        debug_assert!(granule < self.granule_count);
        // SAFETY: a granule of our memory.
        unsafe { self.base.add(granule as usize * GRANULE_BYTES) }
    }

    /// Word `index` of a granule of a free block.
    #[inline]
    fn word(&self, granule: u32, index: usize) -> u32 {
        // SAFETY: one of the four words of a granule.
        let place = unsafe { self.at(granule).cast::<u32>().add(index) };
        // SAFETY: in our memory, aligned; written when the free block was linked (T2), and nobody
        // else uses free blocks.
        unsafe { place.read() }
    }

    #[inline]
    fn set_word(&self, granule: u32, index: usize, value: u32) {
        // SAFETY: one of the four words of a granule.
        let place = unsafe { self.at(granule).cast::<u32>().add(index) };
        // SAFETY: in our memory, aligned, of a block that nobody uses.
        unsafe { place.write(value) };
    }

    /// The word of the table with the bit of `granule`.
    #[inline]
    fn bit_word(&self, granule: u32) -> NonNull<u64> {
        debug_assert!(granule < self.granule_count);
        // SAFETY: the table has a bit for each granule.
        unsafe { self.bits.add(granule as usize / 64) }
    }

    /// Whether a free block begins or ends at `granule`.
    #[inline]
    fn bit(&self, granule: u32) -> bool {
        // SAFETY: a word of our table, which was zeroed and that only this thread uses.
        let word = unsafe { self.bit_word(granule).read() };
        word >> (granule % 64) & 1 == 1
    }

    #[inline]
    fn set_bit(&self, granule: u32, to: bool) {
        let place = self.bit_word(granule);
        // SAFETY: as in `bit`.
        let word = unsafe { place.read() };
        let (off, on) = (1 << (granule % 64), u64::from(to) << (granule % 64));
        let word = word & !off | on;
        // SAFETY: as in `bit`.
        unsafe { place.write(word) };
    }

    /// The longest free piece. Reads one list.
    pub fn largest_free_bytes(&self) -> usize {
        let doublings = self.doublings.get();
        if doublings == 0 {
            return 0;
        }
        let doubling = doublings.ilog2() as usize;
        let list = doubling * STEPS + self.steps[doubling].get().ilog2() as usize;
        let mut next = self.lists[list].get();
        let mut longest = 0;
        while next != NIL {
            longest = longest.max(self.word(next, LENGTH));
            next = self.word(next, NEXT);
        }
        longest as usize * GRANULE_BYTES
    }

    /// What the heap holds now. O(1) but for [`Self::largest_free_bytes`], and the kernel is
    /// asked.
    pub fn statistics(&self) -> RegionStatistics {
        self.check();
        let free_bytes = self.free_granules.get() as usize * GRANULE_BYTES;
        let all_bytes = self.granule_count as usize * GRANULE_BYTES;
        let committed = 0..self.memory.committed_bytes;
        // SAFETY: our live extent.
        let resident = unsafe { self.backing.resident_bytes(&self.memory, committed) };
        let mut seen = RegionStatistics {
            live_bytes: Figure::Exact(all_bytes - free_bytes),
            reserved_bytes: self.memory.reserved_bytes + self.table.reserved_bytes,
            committed_bytes: self.memory.committed_bytes + self.table.committed_bytes,
            resident_bytes: resident.into(),
            free_bytes: Figure::Exact(free_bytes),
            largest_free_bytes: self.largest_free_bytes(),
            ..RegionStatistics::default()
        };
        self.counts.report(&mut seen);
        seen
    }

    /// Walks T1 to T4; empty in release builds.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let (mut free, mut marks) = (0, 0);
        for (list, head) in self.lists.iter().enumerate() {
            let (doubling, step) = (list / STEPS, list % STEPS);
            let noted = self.steps[doubling].get() >> step & 1 == 1;
            assert_eq!(noted, head.get() != NIL, "T3: list {list}");
            let mut prev = HEAD | list as u32;
            let mut next = head.get();
            while next != NIL {
                let length = self.word(next, LENGTH);
                assert_eq!(lists_of(length).0, list, "T3: {length} granules at {next}");
                assert_eq!(self.word(next, PREV), prev, "T3: at {next}");
                let last = next + length - 1;
                assert_eq!(self.word(last, LENGTH_AT_END), length, "T2: at {next}");
                assert!(self.bit(next) && self.bit(last), "T2: at {next}");
                let end = next + length;
                assert!(end >= self.granule_count || !self.bit(end), "T4: {next} to {end}");
                assert!(next == 0 || !self.bit(next - 1), "T4: before {next}");
                free += length;
                marks += if length == 1 { 1 } else { 2 };
                prev = next;
                next = self.word(next, NEXT);
            }
        }
        assert_eq!(free, self.free_granules.get(), "T1");
        let set = (0..self.granule_count).filter(|granule| self.bit(*granule)).count();
        assert_eq!(set, marks, "T2: bits without a free block");
        for (doubling, steps) in self.steps.iter().enumerate() {
            let noted = self.doublings.get() >> doubling & 1 == 1;
            assert_eq!(noted, steps.get() != 0, "T3: doubling {doubling}");
        }
    }
}

/// How many granules a block of `layout` takes: at least one.
#[inline(always)]
const fn length_of(layout: Layout) -> usize {
    let granules = layout.size().div_ceil(GRANULE_BYTES);
    if granules == 0 { 1 } else { granules }
}

impl<B: Backing, C: Counts> Drop for Tight<B, C> {
    /// Gives all memory back; blocks still live end with it.
    fn drop(&mut self) {
        // SAFETY: our extent, once; nothing of it is read again. Likewise below.
        unsafe { self.backing.release(self.memory) };
        // SAFETY: as above.
        unsafe { self.backing.release(self.table) };
    }
}

impl<B: Backing, C: Counts> fmt::Debug for Tight<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tight").field("granules", &self.granule_count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{LIST_COUNT, lists_of};

    #[test]
    fn lists_grow_with_the_length_and_the_second_is_long_enough() {
        let mut last = 0;
        let mut shortest = [u32::MAX; LIST_COUNT + 1];
        for length in 1..1 << 20 {
            let (own, least) = lists_of(length);
            assert!(own >= last && own - last <= 1, "{length}");
            assert!(least == own || least == own + 1);
            shortest[own] = shortest[own].min(length);
            last = own;
        }
        for length in 1..1 << 19 {
            assert!(shortest[lists_of(length).1] >= length, "{length}");
        }
        assert!(lists_of(super::GRANULES_MAX as u32).1 < LIST_COUNT);
    }
}

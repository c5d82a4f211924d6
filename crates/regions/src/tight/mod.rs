//! A heap that wastes next to nothing: no headers, exact lengths, free neighbours joined at once.
//!
//! Free blocks lie in lists by length, in 64 steps per doubling; whether a neighbour is free is
//! told by one bit for each 16 bytes, out of band. A block in use has no bookkeeping at all.
//!
//! Offsets are bytes from the heap's start. The lists' heads lie behind the memory, so that a head
//! is named like a block, and a block is put in and taken out without asking what is beside it.
//!
//! # Invariants
//! design/regions.md#T1 to design/regions.md#T4.
//! Source: Masmano et al., "TLSF: A New Dynamic Memory Allocator for Real-Time Systems", 2004; the
//! look into the request's own list, the bits instead of headers are ours.

mod ground;
mod inspect;
mod lists;

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, Extent};
use heapwright_core::region_error::{AllocError, FreeError};
use heapwright_core::region_statistics::{Counts, NoCounts};

use crate::growth::{Use, take};
use ground::{Ground, LENGTH, LENGTH_AT_END, NEXT, PREV};
use lists::{
    FIRST_HEAD_BYTES, GRANULE_BYTES, HEAD_BYTES, HEAP_BYTES_MAX, List, ROW_END, STEPS, list_of,
};

/// What the first granule is aligned to, and so the largest alignment.
const BASE_ALIGN: usize = 4096;
/// Blocks of a request's own list that are looked at.
const LOOKS_MAX: usize = 8;
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
    ground: Ground,
    free_bytes: Cell<usize>,
    /// Bit `r`: a list of row `r` may have blocks. Where none has, a search takes the bit away.
    rows: Cell<u32>,
    /// Bit `s` of `[r]`: the list of row `r` and step `64 + s` has blocks.
    lists: [Cell<u64>; ROW_END],
    extent: Extent,
    counts: C,
    backing: B,
}

// SAFETY: the extent belongs to this value alone; blocks are raw pointers.
unsafe impl<B: Backing + Send, C: Counts + Send> Send for Tight<B, C> {}

impl<B: Backing> Tight<B, NoCounts> {
    /// A heap of `bytes`, all taken now; the tables behind it take 0.8 % more, and 8 bytes a list:
    /// some 500 for each doubling of the length above 1 KiB.
    ///
    /// # Errors
    /// What the backing says; [`AllocError::Unfit`] for less than 16 bytes or more than 4 GiB less
    /// 16 KiB.
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
        let memory_bytes = bytes & !(GRANULE_BYTES - 1);
        if memory_bytes == 0 || memory_bytes > HEAP_BYTES_MAX {
            return Err(AllocError::Unfit {
                requested_bytes: bytes,
                align_bytes: GRANULE_BYTES,
                largest_bytes: HEAP_BYTES_MAX,
            });
        }
        let heads_bytes = (list_of(memory_bytes).0.number() + 1) * HEAD_BYTES;
        let word_count = (memory_bytes / GRANULE_BYTES) / u64::BITS as usize + 2;
        let bits_at = memory_bytes + heads_bytes;
        // A heap of less than a page is aligned to what it can hold.
        let align = BASE_ALIGN.min(bytes.next_power_of_two()).max(GRANULE_BYTES);
        let extent = take(&backing, bits_at + word_count * size_of::<u64>(), align, Use::Anywhere)?;
        // SAFETY: inside the extent, which was made that long.
        let bits = unsafe { extent.start.add(bits_at) }.cast::<u64>();
        // SAFETY: that many words are committed there, aligned like heads.
        unsafe { bits.write_bytes(0, word_count) };
        let head_zero = (memory_bytes as u32).wrapping_sub(FIRST_HEAD_BYTES);
        let ground =
            Ground { base: extent.start, bits, memory_bytes: memory_bytes as u32, head_zero };
        let heap = Self {
            ground,
            free_bytes: Cell::new(memory_bytes),
            rows: Cell::new(0),
            lists: [const { Cell::new(0) }; ROW_END],
            extent,
            counts,
            backing,
        };
        for head in (memory_bytes..bits_at).step_by(HEAD_BYTES) {
            ground.set_word(head as u32, NEXT, head as u32);
            ground.set_word(head as u32, PREV, head as u32);
        }
        heap.link(ground, 0, ground.memory_bytes);
        ground.set_bit(0, true);
        ground.set_bit_before(ground.memory_bytes, true);
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
        let block = match layout.align() <= GRANULE_BYTES {
            true => self.alloc(length),
            false => self.alloc_aligned(layout, length),
        };
        match block {
            Some(block) => {
                self.counts.on_alloc(layout.size(), length);
                Ok(block)
            }
            None => Err(self.refusal(layout)),
        }
    }

    #[inline(never)]
    fn alloc(&self, length: usize) -> Option<NonNull<u8>> {
        let ground = self.ground;
        let (start, has) = self.find(ground, length)?;
        Some(self.cut(ground, start, has, length as u32))
    }

    #[inline(never)]
    fn alloc_aligned(&self, layout: Layout, length: usize) -> Option<NonNull<u8>> {
        if layout.align() > BASE_ALIGN {
            return None;
        }
        let ground = self.ground;
        let (start, has) =
            self.find(ground, length.checked_add(layout.align() - GRANULE_BYTES)?)?;
        // The last place that is aligned; what is behind it is free again.
        let last = ground.base.as_ptr().addr() + (start + has) as usize - length;
        let behind = (last & (layout.align() - 1)) as u32;
        if behind > 0 {
            let end = start + has - behind;
            self.link(ground, end, behind);
            ground.set_bit(end, true);
        }
        Some(self.cut(ground, start, has - behind, length as u32))
    }

    #[cold]
    #[inline(never)]
    fn refusal(&self, layout: Layout) -> AllocError {
        self.counts.on_failure();
        let capacity_bytes = self.ground.memory_bytes as usize;
        AllocError::of_heap(layout, BASE_ALIGN, capacity_bytes, || self.largest_free_bytes())
    }

    /// A free block of at least `length` bytes, off its list but with its bits; and how long it is.
    #[inline(always)]
    fn find(&self, ground: Ground, length: usize) -> Option<(u32, u32)> {
        if length > ground.memory_bytes as usize {
            return None;
        }
        let (own, above) = list_of(length);
        let mut long_enough = u64::MAX.wrapping_shl(own.step as u32);
        if above != 0 {
            // Blocks of this list may be too short; a block that just fits is worth some looks.
            let head = ground.head(own);
            let mut next = ground.word(head, NEXT);
            for _ in 0..LOOKS_MAX {
                if next == head {
                    break;
                }
                let has = ground.word(next, LENGTH);
                if has as usize >= length {
                    self.unlink(ground, next, own);
                    return Some((next, has));
                }
                next = ground.word(next, NEXT);
            }
            long_enough <<= 1;
        }
        let here = self.row(own.row).get() & long_enough;
        let list = match here {
            0 => self.first_list_above(own.row)?,
            here => List { step: STEPS + here.trailing_zeros() as usize, ..own },
        };
        let start = ground.word(ground.head(list), NEXT);
        let has = ground.word(start, LENGTH);
        debug_assert!(has as usize >= length, "T3: a list has a block that is too short");
        self.unlink(ground, start, list);
        Some((start, has))
    }

    /// The first list with blocks in a row above `row`.
    #[inline]
    fn first_list_above(&self, row: usize) -> Option<List> {
        loop {
            let above = self.rows.get() & (u32::MAX << (row + 1));
            if above == 0 {
                return None;
            }
            let row = above.trailing_zeros() as usize;
            let lists = self.row(row).get();
            if lists != 0 {
                return Some(List { row, step: STEPS + lists.trailing_zeros() as usize });
            }
            self.rows.set(self.rows.get() & !(1 << row));
        }
    }

    /// Takes the last `length` bytes of the unlinked free block of `has` from `start`. What is left
    /// keeps its start, which was just read.
    #[inline]
    fn cut(&self, ground: Ground, start: u32, has: u32, length: u32) -> NonNull<u8> {
        debug_assert!(length <= has);
        let at = start + (has - length);
        if at > start {
            self.link(ground, start, has - length);
            ground.set_bit_before(at, true);
        } else {
            ground.set_bit(start, false);
        }
        ground.set_bit_before(start + has, false);
        self.free_bytes.set(self.free_bytes.get() - length as usize);
        // SAFETY: inside a block of our memory.
        unsafe { ground.base.add(at as usize) }
    }

    /// Gives a block back. A bounded number of steps.
    ///
    /// # Errors
    /// [`FreeError`] for what is not in this heap, not at a granule, or free and with an end of a
    /// free piece at its first or last granule. Nothing has changed then.
    ///
    /// # Safety
    /// - If `block` is in the heap's memory, it is a live block of this heap with that layout, or
    ///   one that was just freed; nobody uses it any more.
    #[inline]
    pub unsafe fn free(&self, block: NonNull<u8>, layout: Layout) -> Result<(), FreeError> {
        let ground = self.ground;
        let length = length_of(layout);
        let address = block.as_ptr().addr();
        let start = address.wrapping_sub(ground.base.as_ptr().addr());
        let memory_bytes = ground.memory_bytes as usize;
        let distance_bytes = start % GRANULE_BYTES;
        if start < memory_bytes && distance_bytes != 0 {
            return Err(FreeError::NotBlockStart { address, distance_bytes });
        }
        if start >= memory_bytes || length > memory_bytes - start {
            return Err(FreeError::NotOwned { address });
        }
        let (start, length) = (start as u32, length as u32);
        // Neither end of a live block has a bit (T2).
        if ground.bit(start) || ground.bit_before(start + length) {
            return Err(FreeError::AlreadyFree { address });
        }
        self.counts.on_free(layout.size(), length as usize);
        self.join(start, length);
        Ok(())
    }

    /// Makes a block free together with its free neighbours. Of their bits, those where they touched
    /// it go; of a neighbour of one granule, the bit is the new end's.
    #[inline(never)]
    fn join(&self, mut start: u32, mut length: u32) {
        let ground = self.ground;
        self.free_bytes.set(self.free_bytes.get() + length as usize);
        let end = start + length;
        if ground.bit(end) {
            let more = ground.word(end, LENGTH);
            self.unlink(ground, end, list_of(more as usize).0);
            ground.set_bit(end, more == GRANULE_BYTES as u32);
            length += more;
        } else {
            ground.set_bit_before(end, true);
        }
        if ground.bit_before(start) {
            let more = ground.word(start - GRANULE_BYTES as u32, LENGTH_AT_END);
            self.unlink(ground, start - more, list_of(more as usize).0);
            ground.set_bit_before(start, more == GRANULE_BYTES as u32);
            start -= more;
            length += more;
        } else {
            ground.set_bit(start, true);
        }
        self.link(ground, start, length);
    }

    /// Puts a free block onto the list of its length; its bits are the caller's business.
    #[inline]
    fn link(&self, ground: Ground, start: u32, length: u32) {
        let (list, _) = list_of(length as usize);
        let head = ground.head(list);
        let next = ground.word(head, NEXT);
        ground.set_word(start, NEXT, next);
        ground.set_word(start, PREV, head);
        ground.set_word(start, LENGTH, length);
        ground.set_word(start + length - GRANULE_BYTES as u32, LENGTH_AT_END, length);
        ground.set_word(next, PREV, start);
        ground.set_word(head, NEXT, start);
        let row = self.row(list.row);
        let lists = row.get();
        row.set(lists | list.bit());
        if lists == 0 {
            self.rows.set(self.rows.get() | 1 << list.row);
        }
    }

    /// Takes a free block off `list`; its bits are the caller's business. Whether it was the only
    /// one is as good as random, so it is not branched on.
    #[inline]
    fn unlink(&self, ground: Ground, start: u32, list: List) {
        let (next, prev) = (ground.word(start, NEXT), ground.word(start, PREV));
        ground.set_word(next, PREV, prev);
        ground.set_word(prev, NEXT, next);
        // Only the head can be on both sides.
        let emptied = u64::from(next == prev);
        let row = self.row(list.row);
        row.set(row.get() & !emptied.wrapping_shl(list.step as u32));
    }

    /// Which lists of a row have blocks.
    #[inline]
    fn row(&self, row: usize) -> &Cell<u64> {
        debug_assert!(row < ROW_END);
        // SAFETY: lengths have 32 bits, so the row of one is below the count.
        unsafe { self.lists.get_unchecked(row) }
    }
}

/// How many bytes a block of `layout` takes: whole granules, at least one.
#[inline(always)]
const fn length_of(layout: Layout) -> usize {
    // A size of none goes to one granule.
    (layout.size() + (layout.size() == 0) as usize + (GRANULE_BYTES - 1)) & !(GRANULE_BYTES - 1)
}

impl<B: Backing, C: Counts> Drop for Tight<B, C> {
    /// Gives all memory back; blocks still live end with it.
    fn drop(&mut self) {
        // SAFETY: our extent, once; nothing of it is read again.
        unsafe { self.backing.release(self.extent) };
    }
}

impl<B: Backing, C: Counts> fmt::Debug for Tight<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tight").field("bytes", &self.ground.memory_bytes).finish_non_exhaustive()
    }
}

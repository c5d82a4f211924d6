//! Blocks of powers of two, or cut to their length, that coalesce with their buddies.
//!
//! The arithmetic is `heapwright_core::buddy`; this gives it memory.

use core::alloc::Layout;
use core::cell::RefCell;
use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, Extent};
use heapwright_core::buddy::{Buddy as Offsets, LEAVES_MAX, table_words};
use heapwright_core::recent::Recent;
use heapwright_core::region_error::{AllocError, FreeError};
use heapwright_core::region_statistics::{Counts, Figure, NoCounts, RegionStatistics};

use crate::growth::{Use, take};

/// What the first leaf is aligned to, and so the largest alignment of a block: a small page.
const BASE_ALIGN: usize = 4096;

/// The bits, in an extent of their own: out of reach of what overflows a block.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) start: NonNull<u64>,
    pub(crate) words: usize,
}

impl AsRef<[u64]> for Table {
    #[inline]
    fn as_ref(&self) -> &[u64] {
        let words = NonNull::slice_from_raw_parts(self.start, self.words);
        // SAFETY: `words` words of an extent that is ours alone, zeroed in `Buddy::new_in`, and
        // released after the last use of this.
        unsafe { words.as_ref() }
    }
}

impl AsMut<[u64]> for Table {
    #[inline]
    fn as_mut(&mut self) -> &mut [u64] {
        let mut words = NonNull::slice_from_raw_parts(self.start, self.words);
        // SAFETY: as in `as_ref`, borrowed exclusively.
        unsafe { words.as_mut() }
    }
}

/// Blocks of one length that are kept as they came back. A length's count walks at random between
/// none and all; one request in `RECENT_COUNT` + 1 finds none.
const RECENT_COUNT: usize = 16;
/// Lengths below, in leaves with trimming, else orders, have such blocks.
const RECENT_SETS: usize = 64;

/// What is free, and where blocks begin.
#[derive(Debug)]
pub(crate) struct State<T> {
    /// Free blocks that have not been joined with their buddies (design/regions.md#B6).
    recent: Recent<RECENT_SETS, RECENT_COUNT>,
    recent_leaves: u32,
    pub(crate) offsets: Offsets<T>,
    /// A bit for each leaf: a live block begins there (design/regions.md#B5).
    pub(crate) starts: T,
}

impl<T: AsRef<[u64]> + AsMut<[u64]>> State<T> {
    /// Nothing came back yet.
    pub(crate) const fn new(offsets: Offsets<T>, starts: T) -> Self {
        Self { recent: Recent::new(), recent_leaves: 0, offsets, starts }
    }

    /// Joins the blocks that came back lately; `trim` says what their sets mean.
    fn settle(&mut self, trim: bool) {
        let Self { recent, offsets, .. } = self;
        recent.drain(|set, start| {
            offsets.free(start, if trim { set as u32 } else { 1 << set });
        });
        self.recent_leaves = 0;
    }

    /// The word and the bit of `leaf` in `starts`.
    #[inline]
    pub(crate) fn start_bit(&mut self, leaf: u32) -> (&mut u64, u64) {
        (&mut self.starts.as_mut()[leaf as usize / 64], 1 << (leaf % 64))
    }

    /// A block from the orders; what came back lately is joined if there is none.
    #[inline(never)]
    fn place(&mut self, leaves: u32, align: u32, trim: bool) -> Option<u32> {
        // A trimmed block may lie across blocks that are no buddies: better than to split another
        // one.
        let joined = if trim && !self.offsets.has_exact(leaves.max(align)) {
            self.offsets.alloc_joined(leaves, align)
        } else {
            None
        };
        if let Some(start) = joined.or_else(|| self.offsets.alloc_aligned(leaves, align, trim)) {
            return Some(start);
        }
        self.settle(trim);
        let whole = self.offsets.alloc_aligned(leaves, align, trim);
        whole.or_else(|| if trim { self.offsets.alloc_joined(leaves, align) } else { None })
    }

    /// Walks B6; empty in release builds.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let mut count = 0;
        let recent = self.recent.clone();
        recent.drain(|_, start| {
            count += 1;
            assert!(!self.offsets.is_free(start), "B6: {start} is free twice");
            let begins = self.starts.as_ref()[start as usize / 64] >> (start % 64) & 1 == 1;
            assert!(!begins, "B6: {start} is free and live");
        });
        assert_eq!(count == 0, self.recent_leaves == 0, "B6");
    }

    /// What `leaf`, which no live block begins at, is.
    #[cold]
    pub(crate) fn no_start(&self, leaf: u32, leaf_bytes: usize, address: usize) -> FreeError {
        if self.offsets.is_free(leaf) {
            return FreeError::AlreadyFree { address };
        }
        let starts = self.starts.as_ref();
        let begins = |one: &u32| starts[*one as usize / 64] >> (one % 64) & 1 == 1;
        let before = (0..leaf).rev().find(begins).unwrap_or(0);
        FreeError::NotBlockStart { address, distance_bytes: (leaf - before) as usize * leaf_bytes }
    }
}

/// How much of a power of two a block takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tails {
    /// All of it: fastest; 72 % of it is used when the logarithms of sizes are even.
    Keep,
    /// Whole leaves as asked for; the rest is free for others at once.
    Trim,
}

/// A fixed range of memory in blocks of any size, with little fragmentation for sizes near powers
/// of two, for one thread.
///
/// `alloc` and `free` take O(log n) steps at worst. Nothing is written into free blocks. All
/// memory is committed when the heap is made; the kernel gives pages as they are touched.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{AnonymousPages, Buddy, Tails};
///
/// let heap: Buddy<_> = Buddy::new_in(AnonymousPages, 1 << 20, 64, Tails::Trim)?;
/// let layout = Layout::new::<[u8; 5000]>();
/// let block = heap.try_alloc(layout)?;
/// assert_eq!(heap.statistics().live_bytes.value(), Some(5056), "79 leaves of 64 bytes");
/// // SAFETY: live, unused from here.
/// unsafe { heap.free(block, layout) }?;
/// assert_eq!(heap.statistics().largest_free_bytes, 1 << 20);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Buddy<B: Backing, C: Counts = NoCounts> {
    state: RefCell<State<Table>>,
    leaf_bytes: usize,
    trim: bool,
    memory: Extent,
    table: Extent,
    counts: C,
    backing: B,
}

// SAFETY: both extents belong to this value alone; blocks are raw pointers.
unsafe impl<B: Backing + Send, C: Counts + Send> Send for Buddy<B, C> {}

impl<B: Backing> Buddy<B, NoCounts> {
    /// A heap of `bytes` (rounded down to whole leaves of `leaf_bytes`, a power of two from 16 to
    /// 4096).
    ///
    /// # Errors
    /// What the backing says; [`AllocError::Unfit`] for a leaf that is none or more than 2^31
    /// leaves.
    pub fn new_in(
        backing: B,
        bytes: usize,
        leaf_bytes: usize,
        tails: Tails,
    ) -> Result<Self, AllocError> {
        Self::counted_in(backing, bytes, leaf_bytes, tails, NoCounts)
    }
}

impl<B: Backing, C: Counts> Buddy<B, C> {
    /// As [`Buddy::new_in`], counting in `counts`.
    ///
    /// # Errors
    /// As there.
    pub fn counted_in(
        backing: B,
        bytes: usize,
        leaf_bytes: usize,
        tails: Tails,
        counts: C,
    ) -> Result<Self, AllocError> {
        let leaf_fits = leaf_bytes.is_power_of_two() && (16..=BASE_ALIGN).contains(&leaf_bytes);
        let leaf_count = bytes.checked_div(leaf_bytes).and_then(|count| u32::try_from(count).ok());
        let leaf_count = match leaf_count {
            Some(count) if leaf_fits && count <= LEAVES_MAX => count,
            _ => {
                return Err(AllocError::Unfit {
                    requested_bytes: bytes,
                    align_bytes: leaf_bytes,
                    largest_bytes: (LEAVES_MAX as usize).saturating_mul(leaf_bytes),
                });
            }
        };
        let words = table_words(leaf_count);
        let start_words = (leaf_count as usize).div_ceil(64);
        let all_words = words + start_words;
        let table = take(&backing, all_words * size_of::<u64>(), align_of::<u64>(), Use::Anywhere)?;
        let memory = match take(&backing, leaf_count as usize * leaf_bytes, BASE_ALIGN, Use::Sparse)
        {
            Ok(memory) => memory,
            Err(error) => {
                // SAFETY: taken above, unused.
                unsafe { backing.release(table) };
                return Err(error);
            }
        };
        let start = table.start.cast::<u64>();
        // SAFETY: that many words were committed, aligned for them.
        unsafe { start.write_bytes(0, all_words) };
        let offsets = Offsets::new(Table { start, words }, leaf_count);
        // SAFETY: `start_words` more were committed behind them.
        let starts = Table { start: unsafe { start.add(words) }, words: start_words };
        Ok(Self {
            state: RefCell::new(State::new(offsets, starts)),
            leaf_bytes,
            trim: tails == Tails::Trim,
            memory,
            table,
            counts,
            backing,
        })
    }

    /// Where memory comes from.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    /// How many leaves a block of `layout` takes, and what it is aligned to, in leaves.
    #[inline]
    fn leaves(&self, layout: Layout) -> Option<(u32, u32)> {
        let shift = self.leaf_bytes.trailing_zeros();
        let leaves = (layout.size() + (self.leaf_bytes - 1)) >> shift;
        let align = (layout.align() >> shift).max(1);
        let fits = layout.align() <= BASE_ALIGN;
        fits.then_some((u32::try_from(leaves).ok()?, align as u32))
    }

    /// A block of `layout`, uninitialised; also for no bytes. O(log n).
    ///
    /// # Errors
    /// [`AllocError::Full`] with the largest block there is; [`AllocError::Unfit`] for alignments
    /// above 4096.
    #[inline]
    pub fn try_alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let Some((leaves, align)) = self.leaves(layout) else { return self.refuse(layout) };
        let taken = Offsets::<Table>::taken_leaves(leaves, align, self.trim);
        let mut state = self.state.borrow_mut();
        let start = match self.recent_set(taken, align).and_then(|set| state.recent.take(set)) {
            Some(start) => {
                state.recent_leaves -= taken;
                start
            }
            None => match state.place(leaves, align, self.trim) {
                Some(start) => start,
                None => {
                    drop(state);
                    return self.refuse(layout);
                }
            },
        };
        let (word, bit) = state.start_bit(start);
        *word |= bit;
        drop(state);
        self.counts.on_alloc(layout.size(), taken as usize * self.leaf_bytes);
        // SAFETY: the leaves from `start` are inside the memory.
        Ok(unsafe { self.memory.start.add(start as usize * self.leaf_bytes) })
    }

    /// The set of blocks that `taken` leaves, aligned to `align`, may come from.
    #[inline]
    fn recent_set(&self, taken: u32, align: u32) -> Option<usize> {
        if !self.trim {
            return Some(taken.trailing_zeros() as usize);
        }
        // A trimmed block that was joined is aligned to a leaf only.
        (align == 1).then_some(taken as usize)
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.counts.on_failure();
        Err(self.refusal(layout))
    }

    fn refusal(&self, layout: Layout) -> AllocError {
        let capacity_bytes = self.state.borrow().offsets.leaf_count() as usize * self.leaf_bytes;
        AllocError::of_heap(layout, BASE_ALIGN, capacity_bytes, || self.largest_free_bytes())
    }

    /// Gives a block back. O(log n).
    ///
    /// # Errors
    /// [`FreeError`] for an address where no live block begins. Nothing has changed then.
    ///
    /// # Safety
    /// - If `block` is a live block of this heap, it has that layout and nobody uses it any more.
    ///   It may be anything.
    #[inline]
    pub unsafe fn free(&self, block: NonNull<u8>, layout: Layout) -> Result<(), FreeError> {
        let address = block.as_ptr().addr();
        let not_owned = FreeError::NotOwned { address };
        let offset = address.wrapping_sub(self.memory.start.as_ptr().addr());
        let start = offset >> self.leaf_bytes.trailing_zeros();
        let mut state = self.state.borrow_mut();
        let (leaves, align) = self.leaves(layout).ok_or(not_owned)?;
        let taken = Offsets::<Table>::taken_leaves(leaves, align, self.trim);
        if start + taken as usize > state.offsets.leaf_count() as usize {
            return Err(not_owned);
        }
        let distance_bytes = offset & (self.leaf_bytes - 1);
        if distance_bytes != 0 {
            return Err(FreeError::NotBlockStart { address, distance_bytes });
        }
        let (word, bit) = state.start_bit(start as u32);
        if *word & bit == 0 {
            state.settle(self.trim);
            return Err(state.no_start(start as u32, self.leaf_bytes, address));
        }
        *word &= !bit;
        let kept = match self.recent_set(taken, align) {
            Some(set) => state.recent.put(set, start as u32),
            None => false,
        };
        if kept {
            state.recent_leaves += taken;
        } else {
            state.offsets.free(start as u32, taken);
        }
        self.counts.on_free(layout.size(), taken as usize * self.leaf_bytes);
        Ok(())
    }

    /// The largest block that could be had now. A bounded number of steps: blocks that came back
    /// lately are joined first.
    pub fn largest_free_bytes(&self) -> usize {
        let mut state = self.state.borrow_mut();
        state.settle(self.trim);
        state.offsets.largest_free_leaves() as usize * self.leaf_bytes
    }

    /// What the heap holds now. As [`Self::largest_free_bytes`], and the kernel is asked about its
    /// memory.
    pub fn statistics(&self) -> RegionStatistics {
        let mut state = self.state.borrow_mut();
        state.check();
        state.settle(self.trim);
        let offsets = &state.offsets;
        let free_bytes = offsets.free_leaves() as usize * self.leaf_bytes;
        let all_bytes = offsets.leaf_count() as usize * self.leaf_bytes;
        let committed = 0..self.memory.committed_bytes;
        // SAFETY: our live extent.
        let resident = unsafe { self.backing.resident_bytes(&self.memory, committed) };
        let mut seen = RegionStatistics {
            live_bytes: Figure::Exact(all_bytes - free_bytes),
            reserved_bytes: self.memory.reserved_bytes + self.table.reserved_bytes,
            committed_bytes: self.memory.committed_bytes + self.table.committed_bytes,
            resident_bytes: resident.into(),
            free_bytes: Figure::Exact(free_bytes),
            largest_free_bytes: offsets.largest_free_leaves() as usize * self.leaf_bytes,
            ..RegionStatistics::default()
        };
        self.counts.report(&mut seen);
        offsets.check();
        seen
    }
}

impl<B: Backing, C: Counts> Drop for Buddy<B, C> {
    /// Gives all memory back; blocks still live end with it.
    fn drop(&mut self) {
        // SAFETY: our extent, once; the table is not read again.
        unsafe { self.backing.release(self.memory) };
        // SAFETY: as above.
        unsafe { self.backing.release(self.table) };
    }
}

impl<B: Backing, C: Counts> fmt::Debug for Buddy<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaf_bytes = self.leaf_bytes;
        f.debug_struct("Buddy").field("leaf_bytes", &leaf_bytes).finish_non_exhaustive()
    }
}

//! Blocks that end in the opposite order of their making, from both ends of one range.
//!
//! # Invariants
//! design/regions.md#S1 and design/regions.md#S2.

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::bump::bump;
use heapwright_core::region_error::{AllocError, FreeError};
use heapwright_core::region_statistics::{Counts, Figure, NoCounts, RegionStatistics};

use crate::chunk::Chunk;
use crate::growth::Use;

/// Offsets are 32 bits wide, so that a header is as small as a block's alignment.
const BYTES_MAX: usize = u32::MAX as usize;
/// No block before this one.
const NONE: u32 = u32::MAX;

/// In front of every block.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
struct Header {
    /// Offset of the block made before, at the same end.
    previous: u32,
    /// The end's cursor before this block.
    restore: u32,
    /// Given back while a newer block was live.
    freed: bool,
}

const HEADER_BYTES: usize = size_of::<Header>();
const _: () = assert!(HEADER_BYTES == 16 && align_of::<Header>() == 16);

/// An end of a [`Stack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Grows upwards.
    Low,
    /// Grows downwards.
    High,
}

/// What happens to a block that is given back before a newer one of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfOrder {
    /// [`FreeError::OutOfOrder`], nothing changes.
    Refuse,
    /// Its memory comes back with the newer ones.
    Defer,
}

/// Where both ends are; of [`Stack::mark`].
#[derive(Clone, Copy, Debug)]
pub struct StackMark {
    low: Side,
    high: Side,
}

/// One end: its cursor and its newest block, as offsets.
#[derive(Clone, Copy, Debug)]
struct Side {
    cursor: u32,
    newest: u32,
}

/// A fixed range of memory with blocks at both ends, for one thread: last in, first out, each
/// block freed alone or all down to a mark. A block costs 16 bytes more.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{AnonymousPages, End, FreeError, OutOfOrder, Stack};
///
/// let stack: Stack<_> = Stack::new_in(AnonymousPages, 1 << 16, OutOfOrder::Refuse)?;
/// let layout = Layout::new::<[u8; 100]>();
/// let level = stack.try_alloc(End::Low, layout)?;
/// let frame = stack.try_alloc(End::Low, layout)?;
/// let other_end = stack.try_alloc(End::High, layout)?;
/// // SAFETY: a live block, unused from here; likewise below.
/// let refused = unsafe { stack.free(level) };
/// assert!(matches!(refused, Err(FreeError::OutOfOrder { .. })));
/// for block in [frame, level, other_end] {
///     // SAFETY: as above.
///     unsafe { stack.free(block) }?;
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stack<B: Backing, C: Counts = NoCounts> {
    low: Cell<Side>,
    high: Cell<Side>,
    /// Bytes of the range; it starts behind the chunk's header.
    bytes: u32,
    out_of_order: OutOfOrder,
    start: NonNull<u8>,
    chunk: NonNull<Chunk>,
    counts: C,
    backing: B,
}

// SAFETY: the chunk belongs to this value alone; blocks are raw pointers.
unsafe impl<B: Backing + Send, C: Counts + Send> Send for Stack<B, C> {}

impl<B: Backing> Stack<B, NoCounts> {
    /// A stack of `bytes` (rounded down to 16; below 4 GiB), committed now.
    ///
    /// # Errors
    /// What the backing says; [`AllocError::Unfit`] for 4 GiB and more.
    pub fn new_in(backing: B, bytes: usize, out_of_order: OutOfOrder) -> Result<Self, AllocError> {
        Self::counted_in(backing, bytes, out_of_order, NoCounts)
    }
}

impl<B: Backing, C: Counts> Stack<B, C> {
    /// As [`Stack::new_in`], counting in `counts`: what a rewind ends stays counted.
    ///
    /// # Errors
    /// As there.
    pub fn counted_in(
        backing: B,
        bytes: usize,
        out_of_order: OutOfOrder,
        counts: C,
    ) -> Result<Self, AllocError> {
        let bytes = bytes & !(HEADER_BYTES - 1);
        let unfit = AllocError::Unfit {
            requested_bytes: bytes,
            align_bytes: HEADER_BYTES,
            largest_bytes: BYTES_MAX,
        };
        let length = u32::try_from(bytes).map_err(|_| unfit)?;
        let header_bytes = Chunk::header_bytes(HEADER_BYTES);
        let all = bytes + header_bytes;
        let chunk = Chunk::make(&backing, all, all, HEADER_BYTES, Use::InOrder)?;
        // SAFETY: written by `Chunk::make`.
        let start = unsafe { chunk.as_ref() }.at(header_bytes);
        Ok(Self {
            low: Cell::new(Side { cursor: 0, newest: NONE }),
            high: Cell::new(Side { cursor: length, newest: NONE }),
            bytes: length,
            out_of_order,
            start,
            chunk,
            counts,
            backing,
        })
    }

    fn side(&self, end: End) -> &Cell<Side> {
        match end {
            End::Low => &self.low,
            End::High => &self.high,
        }
    }

    /// A block of `layout` at `end`, uninitialised; also for no bytes. O(1).
    ///
    /// # Errors
    /// [`AllocError::Full`] with the bytes between the ends.
    #[inline]
    pub fn try_alloc(&self, end: End, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let (low, high) = (self.low.get(), self.high.get());
        let align = layout.align().max(HEADER_BYTES);
        let placed = match end {
            End::Low => self.place_low(low.cursor, high.cursor, layout.size(), align),
            End::High => self.place_high(low.cursor, high.cursor, layout.size(), align),
        };
        let Some((block, cursor)) = placed else {
            self.counts.on_failure();
            return Err(AllocError::Full {
                requested_bytes: layout.size(),
                largest_free_bytes: self.largest_free_bytes(),
                capacity_bytes: self.bytes as usize,
            });
        };
        let side = self.side(end);
        let Side { cursor: restore, newest: previous } = side.get();
        side.set(Side { cursor, newest: block });
        self.set_header(block, Header { previous, restore, freed: false });
        self.counts.on_alloc(layout.size(), layout.size());
        self.check();
        Ok(self.at(block))
    }

    /// Offsets of a block and of the new cursor at the low end.
    fn place_low(&self, low: u32, high: u32, size: usize, align: usize) -> Option<(u32, u32)> {
        let base = self.start.as_ptr().addr();
        let layout = Layout::from_size_align(size, align).ok()?;
        let from = base + low as usize + HEADER_BYTES;
        let end = base + high as usize;
        if from > end {
            return None;
        }
        let placed = bump(from, end, layout, HEADER_BYTES)?;
        let block = from + placed.skip_bytes - base;
        Some((block as u32, (from + placed.advance_bytes - base) as u32))
    }

    /// Offsets of a block and of the new cursor at the high end.
    fn place_high(&self, low: u32, high: u32, size: usize, align: usize) -> Option<(u32, u32)> {
        let base = self.start.as_ptr().addr();
        let address = (base + high as usize).checked_sub(size)? & !(align - 1);
        let block = address.checked_sub(base)?;
        let cursor = block.checked_sub(HEADER_BYTES)?;
        (cursor >= low as usize).then_some((block as u32, cursor as u32))
    }

    /// Gives a block back. O(1); with [`OutOfOrder::Defer`] also the blocks given back before it.
    ///
    /// # Errors
    /// [`FreeError`]; nothing has changed then.
    ///
    /// # Safety
    /// - `block` was returned by this stack. If it is live, nobody uses it any more; if not,
    ///   no live block lies where it was.
    pub unsafe fn free(&self, block: NonNull<u8>) -> Result<(), FreeError> {
        let address = block.as_ptr().addr();
        let offset = address.wrapping_sub(self.start.as_ptr().addr());
        let Ok(offset) = u32::try_from(offset) else {
            return Err(FreeError::NotOwned { address });
        };
        // A block of no bytes at the low end may begin where the cursor is.
        let end = if self.low.get().newest != NONE && offset <= self.low.get().newest {
            End::Low
        } else if self.high.get().newest != NONE
            && (self.high.get().newest..=self.bytes).contains(&offset)
        {
            End::High
        } else {
            return Err(FreeError::NotOwned { address });
        };
        let side = self.side(end);
        let header = self.header(offset);
        if header.freed {
            return Err(FreeError::AlreadyFree { address });
        }
        if side.get().newest == offset {
            side.set(Side { cursor: header.restore, newest: header.previous });
            self.pop_freed(side);
        } else if self.out_of_order == OutOfOrder::Refuse {
            let newest_address = self.at(side.get().newest).as_ptr().addr();
            return Err(FreeError::OutOfOrder { address, newest_address });
        } else {
            self.set_header(offset, Header { freed: true, ..header });
        }
        self.check();
        Ok(())
    }

    /// Takes off blocks that were given back before (S2).
    fn pop_freed(&self, side: &Cell<Side>) {
        while side.get().newest != NONE {
            let header = self.header(side.get().newest);
            if !header.freed {
                return;
            }
            side.set(Side { cursor: header.restore, newest: header.previous });
        }
    }

    /// Where both ends are now.
    pub fn mark(&self) -> StackMark {
        StackMark { low: self.low.get(), high: self.high.get() }
    }

    /// Ends all blocks, of both ends, made since `mark`. O(1), and what was deferred.
    ///
    /// # Errors
    /// [`FreeError::NotOwned`] if an end is behind the mark already; nothing has changed then.
    ///
    /// # Safety
    /// - Nobody uses a block made since the mark. The mark is this stack's, and neither end has
    ///   been behind it since.
    pub unsafe fn rewind(&self, mark: StackMark) -> Result<(), FreeError> {
        let (low, high) = (self.low.get(), self.high.get());
        if mark.low.cursor > low.cursor || mark.high.cursor < high.cursor {
            let address = self.start.as_ptr().addr() + mark.low.cursor as usize;
            return Err(FreeError::NotOwned { address });
        }
        self.low.set(mark.low);
        self.high.set(mark.high);
        self.pop_freed(&self.low);
        self.pop_freed(&self.high);
        self.check();
        Ok(())
    }

    fn at(&self, offset: u32) -> NonNull<u8> {
        debug_assert!(offset <= self.bytes);
        // SAFETY: inside the range or one past it.
        unsafe { self.start.add(offset as usize) }
    }

    fn header_at(&self, block: u32) -> NonNull<Header> {
        debug_assert!(block as usize >= HEADER_BYTES);
        self.at(block - HEADER_BYTES as u32).cast()
    }

    fn header(&self, block: u32) -> Header {
        // SAFETY: in front of a block of ours, aligned to 16, written when it was made; or, by
        // the promise made to `free`, of a block that was, whose header nothing overwrote.
        unsafe { self.header_at(block).read() }
    }

    fn set_header(&self, block: u32, header: Header) {
        // SAFETY: between the cursor that was and the block, so of no other block; aligned to 16.
        unsafe { self.header_at(block).write(header) }
    }

    /// The bytes of the largest block aligned to 16 that there is room for. O(1).
    pub fn largest_free_bytes(&self) -> usize {
        let room = self.high.get().cursor - self.low.get().cursor;
        (room as usize).saturating_sub(HEADER_BYTES)
    }

    /// What the stack holds now. O(1), and the kernel is asked about its memory.
    pub fn statistics(&self) -> RegionStatistics {
        // SAFETY: written by `Chunk::make`, there until the stack is dropped.
        let extent = unsafe { self.chunk.as_ref() }.extent.get();
        let committed = 0..extent.committed_bytes;
        // SAFETY: our live extent.
        let resident = unsafe { self.backing.resident_bytes(&extent, committed) };
        let room = (self.high.get().cursor - self.low.get().cursor) as usize;
        let mut seen = RegionStatistics {
            live_bytes: Figure::AtMost(self.bytes as usize - room),
            reserved_bytes: extent.reserved_bytes,
            committed_bytes: extent.committed_bytes,
            resident_bytes: resident.into(),
            free_bytes: Figure::Exact(room),
            largest_free_bytes: self.largest_free_bytes(),
            ..RegionStatistics::default()
        };
        self.counts.report(&mut seen);
        seen
    }

    /// Walks the invariants; empty in release builds.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let (low, high) = (self.low.get(), self.high.get());
        assert!(low.cursor <= high.cursor && high.cursor <= self.bytes, "S1");
        for (side, end) in [(low, End::Low), (high, End::High)] {
            let (mut block, mut cursor) = (side.newest, side.cursor);
            while block != NONE {
                let header = self.header(block);
                assert!(block != side.newest || !header.freed, "S2: the newest block is freed");
                let ordered = match end {
                    End::Low => header.restore < block && block <= cursor,
                    End::High => cursor < block && block <= header.restore,
                };
                assert!(ordered, "S2: {block} between {cursor} and {}", header.restore);
                (block, cursor) = (header.previous, header.restore);
            }
        }
    }
}

impl<B: Backing, C: Counts> Drop for Stack<B, C> {
    /// Gives all memory back; blocks still live end with it.
    fn drop(&mut self) {
        // SAFETY: as in `statistics`; read for the last time.
        let extent = unsafe { self.chunk.as_ref() }.extent.get();
        // SAFETY: our only extent, once.
        unsafe { self.backing.release(extent) };
    }
}

impl<B: Backing, C: Counts> fmt::Debug for Stack<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

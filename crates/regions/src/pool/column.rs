//! The rows that pools with handles are made of: items of one type, within addresses of their own: memory comes as they do, and none
//! of them moves when it does.

use core::ptr::NonNull;

use heapwright_core::backing::{Backing, Extent};
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};

use crate::chunk::Chunk;
use crate::growth::Use;

const LINE_BYTES: usize = 64;

/// A row of `T`. It knows how many have room, not how many there are: its owner does.
#[derive(Debug)]
pub(super) struct Column<T> {
    /// The first item; dangling before there is room for one.
    start: NonNull<T>,
    chunk: Option<NonNull<Chunk>>,
}

impl<T> Column<T> {
    /// Items start at a line, so that those of a line's size do not straddle two.
    const ALIGN: usize = if align_of::<T>() > LINE_BYTES { align_of::<T>() } else { LINE_BYTES };

    /// Bytes of a row beside its items.
    pub(super) const HEADER_BYTES: usize = Chunk::header_bytes(Self::ALIGN);

    pub(super) const fn new() -> Self {
        Self { start: NonNull::dangling(), chunk: None }
    }

    /// Bytes of a row of `count` items.
    pub(super) fn bytes(count: usize) -> Result<usize, AllocError> {
        let bytes = count.checked_mul(size_of::<T>());
        let bytes = bytes.and_then(|bytes| bytes.checked_add(Self::HEADER_BYTES));
        bytes.ok_or(AllocError::TooLarge { requested_bytes: usize::MAX })
    }

    /// Items of a row of `bytes`.
    pub(super) fn count_in(bytes: usize) -> usize {
        let bytes = bytes.saturating_sub(Self::HEADER_BYTES);
        bytes.checked_div(size_of::<T>()).unwrap_or(usize::MAX)
    }

    /// Whether [`Self::reserve`] has been.
    pub(super) const fn is_reserved(&self) -> bool {
        self.chunk.is_some()
    }

    /// Takes addresses for `count` items, or for as many as there are, `count_min` at least. Once.
    pub(super) fn reserve<B: Backing>(
        &mut self,
        backing: &B,
        count: usize,
        count_min: usize,
    ) -> Result<(), AllocError> {
        if self.chunk.is_none() {
            let (bytes, least) = (Self::bytes(count)?, Self::bytes(count_min)?);
            let chunk = Chunk::make(
                backing,
                bytes.max(least),
                least,
                Self::ALIGN,
                Use::of_blocks(size_of::<T>()),
            )?;
            self.chunk = Some(chunk);
            // SAFETY: written by `Chunk::make`, there until `release`.
            self.start = unsafe { chunk.as_ref() }.at(Self::HEADER_BYTES).cast();
        }
        Ok(())
    }

    /// Takes memory for `count` items; for how many there is room then. None beyond the addresses.
    ///
    /// # Errors
    /// What the backing says.
    pub(super) fn commit<B: Backing>(
        &mut self,
        backing: &B,
        count: usize,
    ) -> Result<Option<usize>, AllocError> {
        let bytes = Self::bytes(count)?;
        let Some(chunk) = self.chunk else { return Ok(None) };
        // SAFETY: as in `reserve`; items do not overlap it, and it changes through cells.
        let chunk = unsafe { chunk.as_ref() };
        let has_room = chunk.extend(backing, bytes)?;
        Ok(has_room.then(|| Self::count_in(chunk.extent.get().committed_bytes)))
    }

    /// What it holds of the backing.
    pub(super) fn extent(&self) -> Option<Extent> {
        // SAFETY: as in `reserve`; only read.
        self.chunk.map(|chunk| unsafe { chunk.as_ref() }.extent.get())
    }

    /// The item at `index`.
    ///
    /// # Safety
    /// - There is room for it.
    #[inline(always)]
    pub(super) const unsafe fn at(&self, index: usize) -> NonNull<T> {
        // SAFETY: the caller's: inside the committed row.
        unsafe { self.start.add(index) }
    }

    /// Gives the row back.
    ///
    /// # Safety
    /// - `backing` is the one it was reserved from.
    /// - No item is used any more.
    pub(super) unsafe fn release<B: Backing>(&mut self, backing: &B) {
        if let Some(extent) = self.extent() {
            (self.chunk, self.start) = (None, NonNull::dangling());
            // SAFETY: an extent of that backing, once; nobody uses it.
            unsafe { backing.release(extent) };
        }
    }
}

/// What a pool of `rows` and `live_count` values of `value_bytes` holds. O(1), and the kernel is
/// asked about its memory.
pub(super) fn statistics<B: Backing, const N: usize>(
    backing: &B,
    rows: [Option<Extent>; N],
    live_count: usize,
    value_bytes: usize,
    has_free: bool,
) -> RegionStatistics {
    let mut seen = RegionStatistics::default();
    let live_bytes = live_count * value_bytes;
    let mut all = Some(0);
    for extent in rows.into_iter().flatten() {
        // SAFETY: a live extent of this backing.
        let resident = unsafe { backing.resident_bytes(&extent, 0..extent.committed_bytes) };
        seen.reserved_bytes += extent.reserved_bytes;
        seen.committed_bytes += extent.committed_bytes;
        all = all.zip(resident).map(|(sum, here)| sum + here);
    }
    seen.resident_bytes = all.into();
    seen.live_count = Figure::Exact(live_count);
    seen.live_bytes = Figure::Exact(live_bytes);
    seen.requested_bytes = seen.live_bytes;
    seen.free_bytes = Figure::Exact(seen.committed_bytes - live_bytes);
    seen.largest_free_bytes = if has_free { value_bytes } else { 0 };
    seen
}

//! One extent, used from both ends: blocks upwards, the directory of names downwards.

use core::cell::Cell;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, BackingError, Extent};
use heapwright_core::bump::align_up;
use heapwright_core::region_error::AllocError;

use super::addresses::Wanted;
use super::header::{GRANULE_BYTES, Header};
use crate::growth::{Use, commit_to};

/// Places are 31 bits of granules.
const EXTENT_BYTES_MAX: usize = GRANULE_BYTES << 31;

/// The memory of a compacting heap. Places are counted in granules from its start.
#[derive(Debug)]
pub(super) struct Memory<B: Backing> {
    /// The extent's start; dangling before the first use.
    start: Cell<NonNull<u8>>,
    /// One past the extent, as far as it is used.
    end: Cell<NonNull<u8>>,
    extent: Cell<Option<Extent>>,
    bytes_max: usize,
    /// Committed from the start.
    low_bytes: Cell<usize>,
    /// Committed from this offset to the end.
    high_from: Cell<usize>,
    /// Offset of the directory: blocks end below.
    ceiling: Cell<usize>,
    /// The backing takes nothing back before the end.
    keeps: Cell<bool>,
    pub(super) backing: B,
}

impl<B: Backing> Memory<B> {
    pub(super) const fn new(backing: B, bytes_max: usize) -> Self {
        Self {
            start: Cell::new(NonNull::dangling()),
            end: Cell::new(NonNull::dangling()),
            extent: Cell::new(None),
            bytes_max,
            low_bytes: Cell::new(0),
            high_from: Cell::new(0),
            ceiling: Cell::new(0),
            keeps: Cell::new(false),
            backing,
        }
    }

    /// Takes the addresses, if that was not done.
    pub(super) fn ensure(&self) -> Result<(), AllocError> {
        if self.extent.get().is_some() {
            return Ok(());
        }
        let least = 4 * GRANULE_BYTES;
        let bytes_max = self.bytes_max.max(least);
        let wanted = Wanted { bytes_max, least, most: EXTENT_BYTES_MAX };
        let (extent, bytes) = wanted.reserve(&self.backing)?;
        let whole = extent.reserved_bytes.min(bytes.max(extent.step_bytes)).min(EXTENT_BYTES_MAX);
        let whole = whole & !(extent.step_bytes.max(GRANULE_BYTES) - 1);
        self.start.set(extent.start);
        // SAFETY: at most the extent's length.
        self.end.set(unsafe { extent.start.add(whole) });
        self.low_bytes.set(extent.committed_bytes.min(whole));
        self.high_from.set(whole);
        self.ceiling.set(whole);
        self.extent.set(Some(extent));
        Ok(())
    }

    /// Commits a range, of which parts may be committed; by a step more if that is to be had.
    fn commit(&self, from: usize, to: usize) -> Result<(), BackingError> {
        if from >= to {
            return Ok(());
        }
        let Some(extent) = self.extent.get() else {
            return Err(BackingError::Exhausted { requested_bytes: to, available_bytes: 0 });
        };
        // SAFETY: a live extent of this backing, whole steps inside it.
        unsafe { self.backing.commit(&extent, from..to) }
    }

    fn step_bytes(&self) -> usize {
        self.extent.get().map_or(1, |extent| extent.step_bytes)
    }

    /// Makes blocks usable up to `bytes` from the start.
    ///
    /// # Errors
    /// Full, if the directory is in the way; the backing's.
    pub(super) fn commit_low(&self, bytes: usize) -> Result<(), AllocError> {
        let low = self.low_bytes.get();
        if bytes <= low.min(self.ceiling.get()) {
            return Ok(());
        }
        let high = self.high_from.get();
        if bytes > self.ceiling.get() {
            return Err(AllocError::Full {
                requested_bytes: bytes - low.min(bytes),
                largest_free_bytes: 0,
                capacity_bytes: self.whole_bytes(),
            });
        }
        let Some(extent) = self.extent.get() else {
            return Err(
                BackingError::Exhausted { requested_bytes: bytes, available_bytes: 0 }.into()
            );
        };
        let extent = Extent { committed_bytes: low, ..extent };
        let reached = commit_to(&self.backing, &extent, bytes, high.max(low), Use::Anywhere)?;
        self.low_bytes.set(reached.max(low));
        Ok(())
    }

    /// Makes the directory `bytes` longer; `top_bytes` of blocks are in use.
    ///
    /// # Errors
    /// Full, if blocks are in the way; the backing's.
    pub(super) fn grow_high(&self, bytes: usize, top_bytes: usize) -> Result<(), AllocError> {
        let ceiling = self.ceiling.get();
        let full = AllocError::Full {
            requested_bytes: bytes,
            largest_free_bytes: ceiling - top_bytes,
            capacity_bytes: self.whole_bytes(),
        };
        let ceiling = ceiling.checked_sub(bytes).filter(|at| *at >= top_bytes).ok_or(full)?;
        let from = ceiling & !(self.step_bytes() - 1);
        let from = from.max(self.low_bytes.get());
        if from < self.high_from.get() {
            self.commit(from, self.high_from.get())?;
            self.high_from.set(from);
        }
        self.ceiling.set(ceiling);
        Ok(())
    }

    /// Makes the directory `bytes` shorter; its pages stay.
    pub(super) fn shrink_high(&self, bytes: usize) {
        debug_assert!(self.ceiling.get() + bytes <= self.whole_bytes());
        self.ceiling.set(self.ceiling.get() + bytes);
    }

    /// Where the last whole step of blocks' memory ends: above it are records of the directory,
    /// also in memory that was committed for blocks.
    fn spare_end(&self) -> usize {
        self.low_bytes.get().min(self.ceiling.get()) & !(self.step_bytes() - 1)
    }

    /// Whether a step or more is committed above `top_bytes` that may go back.
    pub(super) fn has_spare(&self, top_bytes: usize) -> bool {
        let keep = align_up(top_bytes, self.step_bytes());
        !self.keeps.get() && keep.is_some_and(|keep| keep < self.spare_end())
    }

    /// Gives up to `bytes_max` of committed memory above `top_bytes` back, from the far end.
    /// None if there is none or the backing keeps what it gave.
    pub(super) fn give_back(&self, top_bytes: usize, bytes_max: usize) -> Option<usize> {
        let extent = self.extent.get()?;
        if !self.has_spare(top_bytes) {
            return None;
        }
        let (step, end) = (extent.step_bytes, self.spare_end());
        let keep = align_up(top_bytes, step)?;
        let from = keep.max(end.saturating_sub(bytes_max.max(step)) & !(step - 1));
        // SAFETY: a live extent; whole steps above all blocks and below the directory, committed.
        if unsafe { self.backing.decommit(&extent, from..end) }.is_err() {
            self.keeps.set(true);
            return None;
        }
        if self.low_bytes.get() > end {
            // What is left of it has the directory: it is committed from the other end now.
            self.high_from.set(end);
        }
        self.low_bytes.set(from);
        Some(end - from)
    }

    /// The header of the block at `place`.
    ///
    /// # Safety
    /// - A block begins at `place`, and its header was written.
    #[inline(always)]
    pub(super) unsafe fn header(&self, place: u32) -> &Header {
        let at = self.at(place).cast::<Header>();
        // SAFETY: the caller's promise: a header, aligned as the extent is to granules. It is
        // changed through cells, and moved only by `compaction`, which holds no reference.
        unsafe { at.as_ref() }
    }

    /// Begins a block or a hole at `place`.
    ///
    /// # Safety
    /// - The header's granule there is committed and nobody's.
    #[inline(always)]
    pub(super) unsafe fn write_header(&self, place: u32, header: Header) {
        // SAFETY: the caller's promise; aligned to a granule.
        unsafe { self.at(place).cast::<Header>().write(header) };
    }

    /// The byte where the block at `place` has its header.
    #[inline(always)]
    pub(super) fn at(&self, place: u32) -> NonNull<u8> {
        debug_assert!((place as usize) * GRANULE_BYTES <= self.whole_bytes());
        // SAFETY: places are inside the extent, or one past it.
        unsafe { self.start.get().add(place as usize * GRANULE_BYTES) }
    }

    /// The first byte of the block at `place`.
    #[inline(always)]
    pub(super) fn data(&self, place: u32) -> NonNull<u8> {
        self.at(place + 1)
    }

    /// The record `index` of the directory, which is one granule long.
    ///
    /// # Safety
    /// - `index` is below the directory's count.
    #[inline(always)]
    pub(super) unsafe fn record<R>(&self, index: u32) -> &R {
        const { assert!(size_of::<R>() == GRANULE_BYTES && align_of::<R>() <= GRANULE_BYTES) };
        debug_assert!((index as usize + 1) * GRANULE_BYTES <= self.directory_bytes());
        let back = (index as usize + 1) * GRANULE_BYTES;
        // SAFETY: the directory reaches that far down from the end.
        let at = unsafe { self.end.get().sub(back) }.cast::<R>();
        // SAFETY: written when the directory grew over it; changed through cells only.
        unsafe { at.as_ref() }
    }

    /// Writes the record `index` for the first time.
    pub(super) fn write_record<R>(&self, index: u32, record: R) {
        let back = (index as usize + 1) * GRANULE_BYTES;
        assert!(back <= self.directory_bytes() && size_of::<R>() == GRANULE_BYTES);
        // SAFETY: the directory reaches that far down from the end.
        let at = unsafe { self.end.get().sub(back) }.cast::<R>();
        // SAFETY: inside the directory, committed, aligned to a granule.
        unsafe { at.write(record) };
    }

    fn directory_bytes(&self) -> usize {
        self.whole_bytes() - self.ceiling.get()
    }

    /// Bytes of the extent that are used.
    pub(super) fn whole_bytes(&self) -> usize {
        self.end.get().as_ptr().addr() - self.start.get().as_ptr().addr()
    }

    /// Bytes between the start and the directory.
    pub(super) fn ceiling_bytes(&self) -> usize {
        self.ceiling.get()
    }

    /// Bytes that may be touched below the directory.
    pub(super) fn low_bytes(&self) -> usize {
        self.low_bytes.get()
    }

    /// Addresses taken.
    pub(super) fn reserved_bytes(&self) -> usize {
        self.extent.get().map_or(0, |extent| extent.reserved_bytes)
    }

    /// Bytes that may be touched.
    pub(super) fn committed_bytes(&self) -> usize {
        self.low_bytes.get() + (self.whole_bytes() - self.high_from.get())
    }

    /// Bytes that are there, as far as the backing can tell.
    pub(super) fn resident_bytes(&self) -> Option<usize> {
        let extent = self.extent.get()?;
        let mut sum = 0;
        for range in [0..self.low_bytes.get(), self.high_from.get()..self.whole_bytes()] {
            if !range.is_empty() {
                // SAFETY: a live extent of this backing, and a range of it.
                sum += unsafe { self.backing.resident_bytes(&extent, range) }?;
            }
        }
        Some(sum)
    }
}

impl<B: Backing> Drop for Memory<B> {
    fn drop(&mut self) {
        if let Some(extent) = self.extent.get() {
            let committed_bytes = self.committed_bytes().max(
                // What came committed and is beyond the granules that are used.
                if self.low_bytes.get() == self.whole_bytes() { extent.committed_bytes } else { 0 },
            );
            // SAFETY: the extent, once; nothing of it is used any more.
            unsafe { self.backing.release(Extent { committed_bytes, ..extent }) };
        }
    }
}

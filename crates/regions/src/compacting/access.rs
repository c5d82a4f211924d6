//! Reaching blocks, and why one cannot be reached.

use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;

use super::guard::{PinnedBlock, PinnedBlockMut};
use super::header::{MOVING, PINS_MAX, WRITER};
use super::heap::CompactingHeap;
use crate::pool::Handle;

/// Why a block or value cannot be had. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessError {
    /// The handle names nothing: what it named was removed.
    Stale,
    /// It is pinned by somebody else, who writes, or in whose way this would be.
    InUse,
    /// It has as many pins as there may be: a block 65,535, a value of a pool 62.
    TooManyPins,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "the handle names nothing any more",
            Self::InUse => "it is pinned",
            Self::TooManyPins => "it has as many pins as there may be",
        })
    }
}

impl core::error::Error for AccessError {}

/// Why a block was not resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResizeError {
    /// The handle names nothing, or the block is pinned.
    Access(AccessError),
    /// There is no memory for the longer one.
    Alloc(AllocError),
}

impl From<AccessError> for ResizeError {
    fn from(error: AccessError) -> Self {
        Self::Access(error)
    }
}

impl From<AllocError> for ResizeError {
    fn from(error: AllocError) -> Self {
        Self::Alloc(error)
    }
}

impl fmt::Display for ResizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Access(error) => error.fmt(f),
            Self::Alloc(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ResizeError {}

impl<B: Backing> CompactingHeap<B> {
    /// The block's bytes, which stay where they are while the guard lives. Any number of guards
    /// may. O(1); O(bytes) if a step of compaction ended in the middle of a long block.
    ///
    /// # Errors
    /// [`AccessError`]; [`AccessError::InUse`] if it is pinned for writing.
    #[inline]
    pub fn pin(&self, handle: Handle<[u8]>) -> Result<PinnedBlock<'_, B>, AccessError> {
        let (place, bytes) = self.pin_raw(handle.parts())?;
        Ok(PinnedBlock::new(self, place, bytes))
    }

    /// The block's bytes for one who writes.
    ///
    /// # Errors
    /// [`AccessError`]; [`AccessError::InUse`] if it is pinned.
    #[inline]
    pub fn pin_mut(&self, handle: Handle<[u8]>) -> Result<PinnedBlockMut<'_, B>, AccessError> {
        let (place, bytes) = self.pin_mut_raw(handle.parts())?;
        Ok(PinnedBlockMut::new(self, place, bytes))
    }

    /// Whether `handle` names a block.
    pub fn contains(&self, handle: Handle<[u8]>) -> bool {
        let (index, generation) = handle.parts();
        self.find(index, generation).is_some()
    }

    /// Pins without a guard, for those who count themselves: a C program, another language. The
    /// bytes may be read, and written by whoever knows that nobody else has them.
    ///
    /// # Errors
    /// As [`pin`](Self::pin).
    pub fn pin_unguarded(&self, handle: Handle<[u8]>) -> Result<NonNull<[u8]>, AccessError> {
        let (place, bytes) = self.pin_raw(handle.parts())?;
        Ok(NonNull::slice_from_raw_parts(self.memory.data(place), bytes))
    }

    /// Takes back one [`pin_unguarded`](Self::pin_unguarded).
    ///
    /// # Errors
    /// [`AccessError::Stale`] if the handle names nothing, [`AccessError::InUse`] if it has no
    /// such pin.
    ///
    /// # Safety
    /// - The pin to be taken back is one without a guard, and its pointer is used no more.
    pub unsafe fn unpin(&self, handle: Handle<[u8]>) -> Result<(), AccessError> {
        let (index, generation) = handle.parts();
        let place = self.find(index, generation).ok_or(AccessError::Stale)?;
        // SAFETY: found, so a live block.
        let state = unsafe { self.memory.header(place) }.state.get();
        if state == 0 || state > PINS_MAX {
            return Err(AccessError::InUse);
        }
        self.unpin_at(place);
        Ok(())
    }

    /// Place and length of a block that has one more pin now.
    #[inline(always)]
    pub(super) fn pin_raw(&self, name: (u32, u32)) -> Result<(u32, usize), AccessError> {
        let place = self.find(name.0, name.1).ok_or(AccessError::Stale)?;
        self.pin_at(place)
    }

    /// As [`Self::pin_raw`], by the place of a live block.
    #[inline(always)]
    pub(super) fn pin_at(&self, place: u32) -> Result<(u32, usize), AccessError> {
        // SAFETY: a live block.
        let header = unsafe { self.memory.header(place) };
        let state = header.state.get();
        if state >= PINS_MAX {
            self.settle(state)?;
        }
        header.state.set(header.state.get() + 1);
        Ok((place, header.length.get() as usize))
    }

    #[inline(always)]
    pub(super) fn pin_mut_raw(&self, name: (u32, u32)) -> Result<(u32, usize), AccessError> {
        let place = self.find(name.0, name.1).ok_or(AccessError::Stale)?;
        // SAFETY: a live block.
        let header = unsafe { self.memory.header(place) };
        let state = header.state.get();
        if state != 0 {
            if state <= PINS_MAX {
                return Err(AccessError::InUse);
            }
            self.settle(state)?;
        }
        header.state.set(WRITER | 1);
        Ok((place, header.length.get() as usize))
    }

    /// Ends a move that is under way; refuses what is not that.
    #[cold]
    fn settle(&self, state: u32) -> Result<(), AccessError> {
        match state {
            MOVING => {
                self.finish_move();
                Ok(())
            }
            PINS_MAX => Err(AccessError::TooManyPins),
            _ => Err(AccessError::InUse),
        }
    }

    /// Takes one pin back, of a reader or the writer.
    #[inline(always)]
    pub(super) fn unpin_at(&self, place: u32) {
        // SAFETY: a pinned block, which is live and in place.
        let header = unsafe { self.memory.header(place) };
        let state = header.state.get() & !WRITER;
        debug_assert!(state > 0 && state <= PINS_MAX, "M7: an unpinned block is unpinned");
        header.state.set(state - 1);
    }
}

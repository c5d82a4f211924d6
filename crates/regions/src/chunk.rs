//! Chunks of arenas and pools: extents with a header at their start.
//!
//! # Not here
//! The cursor: `linear`. Free slots: `pool`. How far memory is committed: `growth`.

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, BackingError, Extent};

use crate::growth::{Use, commit_to};

/// Header of an extent. It lies at the extent's start, before all blocks.
#[repr(C, align(16))]
#[derive(Debug)]
pub(crate) struct Chunk {
    /// `committed_bytes` is kept up to date.
    pub(crate) extent: Cell<Extent>,
    pub(crate) next: Cell<Option<NonNull<Chunk>>>,
    /// Where the cursor was when the chunk was left, as an offset.
    pub(crate) used_bytes: Cell<usize>,
    /// Bytes from this offset on were never written.
    pub(crate) high_bytes: Cell<usize>,
    usage: Use,
}

impl Chunk {
    /// Offset of the first block when blocks are aligned to `align`.
    pub(crate) const fn header_bytes(align: usize) -> usize {
        size_of::<Self>().next_multiple_of(align)
    }

    /// Takes an extent of at least `bytes_min` bytes, better `bytes`, commits `bytes_min` of it
    /// and writes the header.
    pub(crate) fn make<B: Backing>(
        backing: &B,
        bytes: usize,
        bytes_min: usize,
        align: usize,
        usage: Use,
    ) -> Result<NonNull<Self>, BackingError> {
        debug_assert!(bytes >= bytes_min && bytes_min >= size_of::<Self>());
        let align = align.max(align_of::<Self>());
        let mut bytes = bytes;
        let extent = loop {
            let exhausted = BackingError::Exhausted { requested_bytes: bytes, available_bytes: 0 };
            let layout = Layout::from_size_align(bytes, align).map_err(|_| exhausted)?;
            match backing.reserve(layout) {
                Ok(extent) => break extent,
                Err(error) if bytes == bytes_min => return Err(error),
                Err(_) => bytes = (bytes / 2).max(bytes_min),
            }
        };
        let chunk = extent.start.cast::<Self>();
        let committed = commit_to(backing, &extent, bytes_min, extent.reserved_bytes, usage);
        let extent = match committed {
            Ok(committed_bytes) => Extent { committed_bytes, ..extent },
            Err(error) => {
                // SAFETY: reserved above, unused.
                unsafe { backing.release(extent) };
                return Err(error);
            }
        };
        let header = Self {
            extent: Cell::new(extent),
            next: Cell::new(None),
            used_bytes: Cell::new(size_of::<Self>()),
            high_bytes: Cell::new(size_of::<Self>()),
            usage,
        };
        // SAFETY: the start of an extent of ours, aligned for a header, with at least the
        // header's bytes committed.
        unsafe { chunk.write(header) };
        Ok(chunk)
    }

    /// Commits at least up to `bytes` from the start, some more if that is to be had.
    ///
    /// Returns false if the reservation is too short.
    pub(crate) fn extend<B: Backing>(
        &self,
        backing: &B,
        bytes: usize,
    ) -> Result<bool, BackingError> {
        let extent = self.extent.get();
        if bytes > extent.reserved_bytes {
            return Ok(false);
        }
        if bytes > extent.committed_bytes {
            let committed_bytes =
                commit_to(backing, &extent, bytes, extent.reserved_bytes, self.usage)?;
            self.extent.set(Extent { committed_bytes, ..extent });
        }
        Ok(true)
    }

    /// The address one past the committed bytes, with the extent's provenance.
    pub(crate) fn end(&self) -> NonNull<u8> {
        let extent = self.extent.get();
        // SAFETY: at most one past the extent.
        unsafe { extent.start.add(extent.committed_bytes) }
    }

    /// The address `bytes` from the start, which are at most the reserved ones.
    pub(crate) fn at(&self, bytes: usize) -> NonNull<u8> {
        let extent = self.extent.get();
        debug_assert!(bytes <= extent.reserved_bytes);
        // SAFETY: inside the extent or one past it.
        unsafe { extent.start.add(bytes) }
    }

    /// How far `address` is from the start, if it is in the chunk or one past it.
    pub(crate) fn offset_of(&self, address: usize) -> Option<usize> {
        let extent = self.extent.get();
        let offset = address.checked_sub(extent.start.as_ptr().addr())?;
        (offset <= extent.reserved_bytes).then_some(offset)
    }
}

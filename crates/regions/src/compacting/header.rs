//! What stands in front of each block, live or not.

use core::cell::Cell;

/// Blocks are cut in units of this many bytes; a header is one.
pub(super) const GRANULE_BYTES: usize = 16;
/// No block, no group.
pub(super) const NONE: u32 = u32::MAX;

/// The most pins of one block.
pub(super) const PINS_MAX: u32 = 0xffff;
/// Pinned by one who may write; the count is then 1.
pub(super) const WRITER: u32 = 1 << 28;
/// The block's contents are on their way: `Transit` says how far.
pub(super) const MOVING: u32 = 1 << 29;
/// The block holds the places of a group's blocks. The low 16 bits are the pass in which the group
/// was listed.
pub(super) const NAMES: u32 = 1 << 30;
/// Nobody's: a hole.
pub(super) const DEAD: u32 = 1 << 31;

/// In front of each block. The heap is walked from header to header.
#[repr(C, align(16))]
#[derive(Debug)]
pub(super) struct Header {
    /// Live: the index of the name. Names: the group. Dead and listed: the next hole.
    pub(super) owner: Cell<u32>,
    /// Live: the generation of the name. Names: the next group with room.
    pub(super) generation: Cell<u32>,
    /// Live: bytes asked for. Dead: granules, header included.
    pub(super) length: Cell<u32>,
    /// Flags above, and the count of pins.
    pub(super) state: Cell<u32>,
}

const _: () = assert!(size_of::<Header>() == GRANULE_BYTES);

impl Header {
    /// Of a live block, or of the places of a group.
    #[inline(always)]
    pub(super) const fn block(owner: u32, generation: u32, length: u32, state: u32) -> Self {
        Self {
            owner: Cell::new(owner),
            generation: Cell::new(generation),
            length: Cell::new(length),
            state: Cell::new(state),
        }
    }

    /// Of a hole.
    #[inline(always)]
    pub(super) const fn hole(granules: u32, next: u32) -> Self {
        Self::block(next, 0, granules, DEAD)
    }

    /// Granules from this header to the next.
    #[inline]
    pub(super) fn granules(&self) -> u32 {
        if self.state.get() & DEAD == 0 {
            granules_of(self.length.get())
        } else {
            self.length.get()
        }
    }
}

/// Granules of a block of `bytes`, header included.
#[inline]
pub(super) const fn granules_of(bytes: u32) -> u32 {
    bytes.div_ceil(GRANULE_BYTES as u32) + 1
}

//! What an index names: a place, and how often it was used.

use core::cell::Cell;

/// No index, no place, no run.
pub(super) const NONE: u32 = u32::MAX;

/// The low bits of a tag: how many readers have the value pinned, or [`WRITER`].
pub(super) const PIN_MASK: u32 = LIVE - 1;
/// Pinned by one who may write.
pub(super) const WRITER: u32 = PIN_MASK;
/// The most readers' pins.
pub(super) const PINS_MAX: u32 = PIN_MASK - 1;
/// A tag with this bit is that of a live value. It is also what each use adds, so that a tag
/// counts the beginnings and ends of values in its upper bits.
pub(super) const LIVE: u32 = 1 << 6;
/// The last tag of a handle: who removes that value retires the index.
pub(super) const LAST_NAME: u32 = !PIN_MASK;
/// The tag of an index that was used up. No live value, and never used again.
pub(super) const RETIRED: u32 = PIN_MASK;

/// Entries of a page of the table: 4 KiB.
pub(super) const PAGE_ENTRIES: u32 = 512;

/// What an index names. A handle is an index and the tag that its entry has while nobody has the
/// value pinned: one comparison says that the handle is current and the value free to go.
#[repr(C, align(8))]
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tag: Cell<u32>,
    /// Where the value is; of a dead entry, the place that it will have, or none.
    pub(super) place: Cell<u32>,
}

const _: () = assert!(size_of::<Entry>() == 8);

impl Entry {
    pub(super) const fn new(tag: u32, place: u32) -> Self {
        Self { tag: Cell::new(tag), place: Cell::new(place) }
    }

    #[inline(always)]
    pub(super) fn is_live(&self) -> bool {
        self.tag.get() & LIVE != 0
    }

    /// The handle's tag of a live entry.
    #[inline(always)]
    pub(super) fn name(&self) -> u32 {
        self.tag.get() & !PIN_MASK
    }

    #[inline(always)]
    pub(super) fn pins(&self) -> u32 {
        self.tag.get() & PIN_MASK
    }
}

/// A dead index and the place that it has.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(u64);

impl Link {
    pub(super) const NONE: Self = Self::new(NONE, NONE);

    #[inline(always)]
    pub(super) const fn new(index: u32, place: u32) -> Self {
        Self((place as u64) << 32 | index as u64)
    }

    #[inline(always)]
    pub(super) const fn index(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub(super) const fn place(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Whether `tag` can be that of a handle of a pool: handles of others lead nowhere.
#[inline(always)]
pub(super) const fn is_name(tag: u32) -> bool {
    tag & (LIVE | PIN_MASK) == LIVE
}

/// A page of the table.
#[repr(C, align(8))]
#[derive(Debug)]
pub(super) struct Record {
    /// The run with its live entries, if it is packed.
    pub(super) run: Cell<u32>,
    /// Packed: the greatest tag of a dead entry.
    pub(super) floor: Cell<u32>,
}

const _: () = assert!(size_of::<Record>() == 8);

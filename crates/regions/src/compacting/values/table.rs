//! What an index names: how often it was used, and whether its value is at home.

use core::cell::Cell;

/// No index, no place, no run.
pub(super) const NONE: u32 = u32::MAX;

/// The low bits of a live tag: how many readers have the value pinned, or [`WRITER`].
pub(super) const PIN_MASK: u32 = AWAY - 1;
/// Pinned by one who may write.
pub(super) const WRITER: u32 = PIN_MASK - 1;
/// The most readers' pins.
pub(super) const PINS_MAX: u32 = WRITER - 1;
/// A live tag with this bit is that of a value whose place is not its index.
pub(super) const AWAY: u32 = 1 << 6;
/// A tag with this bit is that of a live value. It is also what each use adds, so that a tag
/// counts the beginnings and ends of values in its upper bits.
pub(super) const LIVE: u32 = 1 << 7;
/// A dead tag with this bit is that of a listed index, one of the stack: it has its home, and the
/// next value gets both.
pub(super) const LISTED: u32 = 1;
/// The tag of an index that was used up. No live value, and never used again.
pub(super) const RETIRED: u32 = 2;

/// What is not part of a name.
const STATE_MASK: u32 = LIVE - 1;

/// Tags of a page of the table: 4 KiB.
pub(super) const PAGE_TAGS: u32 = 1024;

/// Whether `tag` can be that of a handle of a pool: handles of others lead nowhere.
#[inline(always)]
pub(super) const fn is_name(tag: u32) -> bool {
    tag & (LIVE | STATE_MASK) == LIVE
}

#[inline(always)]
pub(super) const fn is_live(tag: u32) -> bool {
    tag & LIVE != 0
}

/// The name of a live tag: the tag while the value is at home and nobody has it pinned.
#[inline(always)]
pub(super) const fn name_of(tag: u32) -> u32 {
    tag & !STATE_MASK
}

/// What the tag of a value becomes when it dies; none if the index was used up.
#[inline(always)]
pub(super) const fn dead_of(name: u32) -> Option<u32> {
    name.checked_add(LIVE)
}

/// Whether a dead index may be given a value: it is not listed, or lists are forgotten, and it was
/// not used up.
#[inline(always)]
pub(super) const fn is_reusable(tag: u32) -> bool {
    !is_live(tag) && tag != RETIRED
}

/// A page of the table.
#[repr(C, align(8))]
#[derive(Debug)]
pub(super) struct Record {
    /// The run with its live tags and places, if it is packed; [`WHOLE`] or [`SPREAD`] if not.
    pub(super) run: Cell<u32>,
    /// Packed: the greatest tag of a dead index.
    pub(super) floor: Cell<u32>,
}

/// A page that is not packed, whose places were never written.
pub(super) const WHOLE: u32 = NONE;
/// A page that is not packed, with places of values that are not at home.
pub(super) const SPREAD: u32 = NONE - 1;

impl Record {
    /// The run of a packed page.
    #[inline(always)]
    pub(super) fn packed(&self) -> Option<u32> {
        let run = self.run.get();
        (run < SPREAD).then_some(run)
    }
}

const _: () = assert!(size_of::<Record>() == 8);

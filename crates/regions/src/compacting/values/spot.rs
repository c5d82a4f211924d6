//! Where a live value has its pins.

use core::cell::Cell;

use super::table::{NONE, PIN_MASK};

/// Pins of a packed value stand above its key.
pub(super) const KEY_BITS: u32 = 10;
const KEY_MASK: u16 = (1 << KEY_BITS) - 1;
/// In place of pins: the value of a packed key is dead.
pub(super) const DEAD: u32 = PIN_MASK;

/// A live value's tag in the table, or its key in a run.
pub(super) enum Spot<'a> {
    Table(&'a Cell<u32>),
    Run {
        key: &'a Cell<u16>,
        /// Which run, and which value of it.
        cell: u32,
        at: usize,
    },
}

impl Spot<'_> {
    /// How many readers have it pinned, or `WRITER`.
    #[inline(always)]
    pub(super) fn pins(&self) -> u32 {
        match self {
            Self::Table(tag) => tag.get() & PIN_MASK,
            Self::Run { key, .. } => key_pins(key.get()),
        }
    }

    #[inline(always)]
    pub(super) fn set_pins(&self, pins: u32) {
        debug_assert!(pins < DEAD);
        match self {
            Self::Table(tag) => tag.set(tag.get() & !PIN_MASK | pins),
            Self::Run { key, .. } => key.set(key.get() & KEY_MASK | (pins as u16) << KEY_BITS),
        }
    }
}

/// A key with pins.
pub(super) const fn key_of(offset: u32, pins: u32) -> u16 {
    debug_assert!(offset <= KEY_MASK as u32 && pins != NONE);
    offset as u16 | (pins as u16) << KEY_BITS
}

/// Which index of its page a key is of.
#[inline(always)]
pub(super) const fn key_offset(key: u16) -> u32 {
    (key & KEY_MASK) as u32
}

#[inline(always)]
pub(super) const fn key_pins(key: u16) -> u32 {
    (key >> KEY_BITS) as u32
}

const _: () = assert!(super::table::PAGE_TAGS == 1 << KEY_BITS);

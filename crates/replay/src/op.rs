//! The operations of a compiled recording: what a replay thread reads, eight bytes mostly.
//!
//! ```text
//!  63                          36 35                           4 3    0
//! +------------------------------+------------------------------+------+
//! | size, 28 bits                | slot, 32 bits                | code |   word 0
//! +------------------------------+------------------------------+------+
//! ```
//!
//! | code | word 0 beside the slot | word 1 | word 2 | word 3 |
//! |---|---|---|---|---|
//! | `MALLOC`, `CALLOC` | size | | | |
//! | `FREE` | size | | | |
//! | `REALLOC` | new size | target slot, old size << 32 | | |
//! | `ALIGNED` | size | log2 of the alignment | | |
//! | `LARGE_BORN` | [`How`], [`large_detail`] | touch list << 32 | size | |
//! | `LARGE_RESIZED` | [`WAS_LARGE`] or 0, [`large_detail`] | target slot, touch list << 32 | new size | old size |
//! | `LARGE_DIED` | 1 if mapped, [`large_detail`] | | size | offset of the last part |
//! | `TOUCH` | 1 if mapped | target slot, touch list << 32 | | |
//! | `TRIM` | | target slot | offset | length |
//! | `SITE_BORN` | size | site, log2 of the alignment << 32, [`ZEROED`] | | |
//! | `SITE_DIED` | size | site, log2 of the alignment << 32 | | |
//! | `SITE_RESIZED` | new size | target slot, old size << 32 | site, log2 of the alignment << 32 | |
//!
//! # Invariants
//! - I1: the length of an operation follows from its code alone ([`word_count`]).
//! - I2: a target slot, where there is one, is the low half of word 1; a touch list, where
//!   there is one, is the high half of word 1. So both can be filled in later.
#![forbid(unsafe_code)]

/// `malloc(size)`, and everything that is the same to an allocator.
pub(crate) const MALLOC: u8 = 0;
/// `calloc(1, size)`.
pub(crate) const CALLOC: u8 = 1;
/// `free`.
pub(crate) const FREE: u8 = 2;
/// `realloc`.
pub(crate) const REALLOC: u8 = 3;
/// `posix_memalign`.
pub(crate) const ALIGNED: u8 = 4;
/// A block whose pages are touched one by one, or of more than [`SIZE_MAX`] bytes.
pub(crate) const LARGE_BORN: u8 = 5;
/// `realloc` to or from such a size.
pub(crate) const LARGE_RESIZED: u8 = 6;
/// The end of such a block.
pub(crate) const LARGE_DIED: u8 = 7;
/// Pages of a block are written.
pub(crate) const TOUCH: u8 = 8;
/// A part of a mapping is unmapped.
pub(crate) const TRIM: u8 = 9;
/// A block of a call site that may be served by a region.
pub(crate) const SITE_BORN: u8 = 10;
/// The end of such a block, by whatever thread.
pub(crate) const SITE_DIED: u8 = 11;
/// Such a block gets another size; from then on it is aligned as `malloc` aligns.
pub(crate) const SITE_RESIZED: u8 = 12;
/// Alignment that every allocator gives without being asked, as log2.
pub(crate) const NATURAL_ALIGN_LOG2: u32 = 4;
/// Number of codes.
pub(crate) const CODE_COUNT: u8 = 13;

/// In the high half of `SITE_BORN`'s word 1: the program asked for zeroes.
pub(crate) const ZEROED: u32 = 1 << 31;

/// Largest size that fits into word 0.
pub(crate) const SIZE_MAX: u64 = (1 << 28) - 1;

/// In `LARGE_DIED` and `TOUCH`: the program mapped it itself.
pub(crate) const MAPPED: u64 = 1;

/// In `LARGE_RESIZED`: the block was large before, too.
pub(crate) const WAS_LARGE: u64 = 1;

/// Sites that can be routed: a large block's word 0 has room for so many.
pub(crate) const SITE_COUNT_MAX: u32 = (1 << 18) - 1;

/// The upper bits of a large operation's size field: log2 of the alignment (6 bits) and, where
/// the block is of a routed call site, its number.
#[inline]
pub(crate) fn large_detail(align_log2: u8, site: Option<u32>) -> u64 {
    let tag = site.map_or(0, |site| u64::from(site) + 1);
    debug_assert!(align_log2 < 64 && tag <= u64::from(SITE_COUNT_MAX));
    u64::from(align_log2) << 4 | tag << 10
}

/// Log2 of the alignment in a large operation's size field.
#[inline]
pub(crate) fn large_align_log2(field: u64) -> u32 {
    (field >> 4 & 63) as u32
}

/// The routed call site in a large operation's size field.
#[inline]
pub(crate) fn large_site(field: u64) -> Option<u32> {
    (field >> 10).checked_sub(1).map(|site| site as u32)
}

/// Touch list of a block of which no page is written at birth.
pub(crate) const TOUCH_NONE: u32 = u32::MAX;
/// Touch list of a block of which every page is written at birth.
pub(crate) const TOUCH_ALL: u32 = u32::MAX - 1;

/// How a large block is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum How {
    /// `malloc`.
    Malloc = 0,
    /// `calloc`.
    Calloc = 1,
    /// `posix_memalign`.
    Aligned = 2,
    /// `mmap`.
    Mapped = 3,
}

impl How {
    /// The way with this number; the low four bits of word 0's size field.
    #[inline]
    pub(crate) fn from_field(field: u64) -> Self {
        match field & 15 {
            0 => Self::Malloc,
            1 => Self::Calloc,
            2 => Self::Aligned,
            _ => Self::Mapped,
        }
    }
}

/// Word 0.
#[inline]
pub(crate) fn pack(code: u8, slot: u32, size: u64) -> u64 {
    debug_assert!(code < CODE_COUNT && size <= SIZE_MAX);
    u64::from(code) | u64::from(slot) << 4 | size << 36
}

/// Code of word 0.
#[inline(always)]
pub(crate) fn code(word: u64) -> u8 {
    (word & 15) as u8
}

/// Slot of word 0.
#[inline(always)]
pub(crate) fn slot(word: u64) -> u32 {
    (word >> 4) as u32
}

/// Size field of word 0.
#[inline(always)]
pub(crate) fn size(word: u64) -> u64 {
    word >> 36
}

/// Word 0 with another slot.
pub(crate) fn with_slot(word: u64, slot: u32) -> u64 {
    word & !(u64::from(u32::MAX) << 4) | u64::from(slot) << 4
}

/// Word 1: low and high half.
#[inline]
pub(crate) fn halves(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Low half of word 1.
#[inline(always)]
pub(crate) fn low(word: u64) -> u32 {
    word as u32
}

/// High half of word 1.
#[inline(always)]
pub(crate) fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Words of an operation with this code; none for a code that does not exist.
#[inline]
pub(crate) fn word_count(code: u8) -> Option<usize> {
    match code {
        MALLOC | CALLOC | FREE => Some(1),
        REALLOC | ALIGNED | TOUCH | SITE_BORN | SITE_DIED => Some(2),
        LARGE_BORN | SITE_RESIZED => Some(3),
        LARGE_RESIZED | LARGE_DIED | TRIM => Some(4),
        _ => None,
    }
}

/// Whether word 1 has a target slot.
pub(crate) fn has_target(code: u8) -> bool {
    matches!(code, REALLOC | LARGE_RESIZED | TOUCH | TRIM | SITE_RESIZED)
}

/// Whether word 1 has a touch list.
pub(crate) fn has_touch_list(code: u8) -> bool {
    matches!(code, LARGE_BORN | LARGE_RESIZED | TOUCH)
}

#[cfg(test)]
mod tests {
    use super::{
        CODE_COUNT, How, SITE_COUNT_MAX, SIZE_MAX, code, large_align_log2, large_detail,
        large_site, pack, size, slot, with_slot, word_count,
    };

    #[test]
    fn a_large_blocks_detail_leaves_the_low_bits_alone() {
        for site in [None, Some(0), Some(7), Some(SITE_COUNT_MAX - 1)] {
            let field = How::Aligned as u64 | large_detail(21, site);
            assert!(field <= SIZE_MAX);
            assert_eq!((large_align_log2(field), large_site(field)), (21, site));
            assert_eq!(How::from_field(field), How::Aligned);
        }
    }

    #[test]
    fn a_word_comes_apart_as_it_was_packed() {
        for code_in in 0..CODE_COUNT {
            for slot_in in [0, 1, 0x00ab_cdef, u32::MAX] {
                for size_in in [0, 1, 4096, SIZE_MAX] {
                    let word = pack(code_in, slot_in, size_in);
                    assert_eq!((code(word), slot(word), size(word)), (code_in, slot_in, size_in));
                    let other = with_slot(word, 77);
                    assert_eq!((code(other), slot(other), size(other)), (code_in, 77, size_in));
                }
            }
        }
    }

    #[test]
    fn every_code_has_a_length_and_no_other() {
        for code in 0..16 {
            assert_eq!(word_count(code).is_some(), code < CODE_COUNT);
        }
    }
}

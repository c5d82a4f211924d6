//! Which list a free block is on: 64 steps per doubling of its length, exact up to 1 KiB.
#![forbid(unsafe_code)]

/// What lengths are multiples of, and blocks aligned to at least.
pub(super) const GRANULE_BYTES: usize = 16;
const STEPS_LOG2: u32 = 6;
/// Lists of a row, and bits of the word that tells which of them have blocks.
pub(super) const STEPS: usize = 1 << STEPS_LOG2;
/// What lengths count above, so that the first row has a list for each one of less.
const BIAS_BYTES: usize = GRANULE_BYTES << STEPS_LOG2;
/// The row whose lists are a granule apart, and one more than that for lengths up to 4 GiB.
const ROW_MIN: usize = GRANULE_BYTES.ilog2() as usize;
pub(super) const ROW_END: usize = (u32::BITS - STEPS_LOG2) as usize + 1;
/// The longest heap: offsets of it and of the heads behind it fit 32 bits.
pub(super) const HEAP_BYTES_MAX: usize = (4 << 30) - (16 << 10);
const _: () = assert!(HEAP_BYTES_MAX + ROW_END * STEPS * HEAD_BYTES <= 1 << u32::BITS);
/// A list's head: the two links of a block.
pub(super) const HEAD_BYTES: usize = 8;
/// From where the head of row 0 and step 0 would be to the first that is.
pub(super) const FIRST_HEAD_BYTES: u32 = ((ROW_MIN * STEPS + STEPS) * HEAD_BYTES) as u32;

/// Which list. Its blocks' lengths, and [`BIAS_BYTES`], are `step << row` and less than the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) row: usize,
    /// From 64 to 127: as the place of a bit in a word, from 0.
    pub(super) step: usize,
}

impl List {
    /// The list with so many before it.
    pub(super) const fn of_number(number: usize) -> Self {
        Self { row: ROW_MIN + number / STEPS, step: STEPS + number % STEPS }
    }

    /// How many lists are before it.
    pub(super) const fn number(self) -> usize {
        self.row * STEPS + self.step - (ROW_MIN * STEPS + STEPS)
    }

    /// Its bit in the word of its row.
    #[inline(always)]
    pub(super) const fn bit(self) -> u64 {
        1u64.wrapping_shl(self.step as u32)
    }
}

/// The list of a length, and how far above the shortest one of that list it may be.
#[inline(always)]
pub(super) const fn list_of(bytes: usize) -> (List, usize) {
    let biased = bytes + BIAS_BYTES;
    // As `ilog2`, in one instruction where there is one for the highest bit.
    let row = ((biased.leading_zeros() ^ (usize::BITS - 1)) - STEPS_LOG2) as usize;
    (List { row, step: biased >> row }, biased & ((1 << row) - 1))
}

#[cfg(test)]
mod tests {
    use super::{BIAS_BYTES, GRANULE_BYTES, HEAP_BYTES_MAX, ROW_END, list_of};

    #[test]
    fn lists_grow_with_the_length_and_one_behind_is_long_enough() {
        let number = |bytes| {
            let (list, above) = list_of(bytes);
            (list.number(), above)
        };
        let (mut last, mut shortest) = (0, 0);
        for length in (0..16 << 20).step_by(GRANULE_BYTES) {
            let (list, above) = number(length);
            assert!(list == last || list == last + 1, "{length}");
            if list > last {
                (last, shortest) = (list, length);
            }
            assert_eq!(above, length - shortest, "{length}");
            assert!(length >= BIAS_BYTES || above == 0, "{length}");
        }
        assert!(list_of(HEAP_BYTES_MAX).0.row < ROW_END);
        assert_eq!(list_of(u32::MAX as usize).0.row, ROW_END - 1);
    }
}

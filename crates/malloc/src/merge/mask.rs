//! Which bytes of a window are live: a bit for each 16 bytes. Two windows whose masks are disjoint
//! can share physical pages.
#![forbid(unsafe_code)]

use crate::geometry::UNIT_BYTES;
use crate::region::{BIT_BYTES, SLICE_BYTES, WORD_COVERS_BYTES};
use crate::span::PAGE_UNIT_BYTES;

/// What is merged at a time: small enough that few live bytes block it, large enough that the
/// mappings suffice (a quarter of those that single pages of 4 KiB would need).
pub(crate) const WINDOW_BYTES: usize = UNIT_BYTES;
/// Windows of a slice.
pub(crate) const SLICE_WINDOWS: usize = SLICE_BYTES / WINDOW_BYTES;
/// Pages of 4 KiB of a window.
pub(crate) const WINDOW_PAGES: usize = WINDOW_BYTES / PAGE_UNIT_BYTES;
const WORDS: usize = WINDOW_BYTES / WORD_COVERS_BYTES;
const PAGE_WORDS: usize = WORDS / WINDOW_PAGES;

/// The live bytes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mask([u64; WORDS]);

impl Mask {
    /// Nothing.
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    /// Everything.
    pub(crate) const ALL: Self = Self([u64::MAX; WORDS]);

    /// Adds the bytes from `start` to `end`, both multiples of 16 inside the window.
    pub(crate) fn add_bytes(&mut self, start: usize, end: usize) {
        debug_assert!(start < end && end <= WINDOW_BYTES);
        let (first, last) = (start / BIT_BYTES, end.div_ceil(BIT_BYTES) - 1);
        for word in first / 64..=last / 64 {
            let low = if word == first / 64 { first % 64 } else { 0 };
            let high = if word == last / 64 { last % 64 } else { 63 };
            self.0[word] |= (u64::MAX >> (63 - (high - low))) << low;
        }
    }

    /// Adds what `other` has.
    pub(crate) fn add(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
    }

    /// Whether no byte is in both.
    pub(crate) fn is_disjoint(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(word, other)| word & other == 0)
    }

    /// Whether everything in `other` is in this one, too.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(word, other)| other & !word == 0)
    }

    /// How many bytes are live.
    pub(crate) fn live_bytes(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum::<usize>() * BIT_BYTES
    }

    /// Whether page `page` has a live byte.
    pub(crate) fn has_page(&self, page: usize) -> bool {
        self.0[page * PAGE_WORDS..(page + 1) * PAGE_WORDS].iter().any(|word| *word != 0)
    }

    /// How many pages have a live byte.
    pub(crate) fn page_count(&self) -> usize {
        (0..WINDOW_PAGES).filter(|page| self.has_page(*page)).count()
    }

    /// Calls `each` with start and end of the bytes that are live, from low to high.
    pub(crate) fn for_each_run(&self, mut each: impl FnMut(usize, usize)) {
        let mut start = None;
        for bit in 0..WORDS * 64 {
            let is_live = self.0[bit / 64] >> (bit % 64) & 1 == 1;
            match start {
                None if is_live => start = Some(bit),
                Some(first) if !is_live => {
                    each(first * BIT_BYTES, bit * BIT_BYTES);
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(first) = start {
            each(first * BIT_BYTES, WINDOW_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mask, WINDOW_BYTES};

    fn of(ranges: &[(usize, usize)]) -> Mask {
        let mut mask = Mask::EMPTY;
        for (start, end) in ranges {
            mask.add_bytes(*start, *end);
        }
        mask
    }

    #[test]
    fn runs_are_what_was_added() {
        for start in (0..WINDOW_BYTES).step_by(16 * 37) {
            for length in [16, 48, 1008, 1024, 4096, 5120] {
                let end = (start + length).min(WINDOW_BYTES);
                let mask = of(&[(start, end)]);
                assert_eq!(mask.live_bytes(), end - start);
                assert_eq!(mask.page_count(), (end - 1) / 4096 - start / 4096 + 1);
                let mut count = 0;
                mask.for_each_run(|from, to| {
                    assert_eq!((from, to), (start, end));
                    count += 1;
                });
                assert_eq!(count, 1);
            }
        }
    }

    #[test]
    fn disjoint_masks_are_told_from_others() {
        let low = of(&[(0, 64), (4096, 4112)]);
        let between = of(&[(64, 4096)]);
        let across = of(&[(48, 80)]);
        assert!(low.is_disjoint(&between) && !low.is_disjoint(&across));
        let mut both = low;
        both.add(&between);
        assert!(both.contains(&low) && both.contains(&between) && both.contains(&across));
        assert!(!low.contains(&across));
        assert_eq!(both.live_bytes(), 4112);
    }
}

//! Bits in words that somebody else holds, with summaries above, so that the first set one of a
//! billion is found in six steps.
//!
//! # Invariants
//! design/regions.md#B3: a summary's bit is set if and only if its word below is not zero.
#![forbid(unsafe_code)]

/// 64 to the sixth is more bits than a table can have.
const LEVELS_MAX: usize = 6;
const WORD_BITS: usize = u64::BITS as usize;

/// Where the bits of one set and its summaries are in a table of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SummaryBits {
    /// First word of each level; level 0 has the bits themselves.
    start: [u32; LEVELS_MAX],
    level_count: u32,
    bit_count: u32,
}

impl SummaryBits {
    /// A set of no bits.
    pub const EMPTY: Self = Self { start: [0; LEVELS_MAX], level_count: 0, bit_count: 0 };

    /// A set of `bit_count` bits whose words start at `first_word`; and the first word after it.
    pub const fn new(bit_count: u32, first_word: u32) -> (Self, u32) {
        let mut shape = Self { bit_count, ..Self::EMPTY };
        let mut next = first_word;
        let mut count = bit_count;
        while count > 0 {
            let words = count.div_ceil(WORD_BITS as u32);
            shape.start[shape.level_count as usize] = next;
            shape.level_count += 1;
            next += words;
            if words == 1 {
                break;
            }
            count = words;
        }
        (shape, next)
    }

    /// How many bits there are.
    #[inline]
    pub const fn bit_count(&self) -> usize {
        self.bit_count as usize
    }

    /// Whether bit `index` is set; false beyond the end.
    #[inline]
    pub fn get(&self, table: &[u64], index: usize) -> bool {
        index < self.bit_count() && table[self.word(0, index)] & bit(index) != 0
    }

    /// Sets bit `index`. Usually one word is touched.
    #[inline]
    pub fn set(&self, table: &mut [u64], index: usize) {
        debug_assert!(index < self.bit_count());
        let mut index = index;
        for level in 0..self.level_count as usize {
            let word = &mut table[self.word(level, index)];
            let before = *word;
            *word = before | bit(index);
            if before != 0 {
                return;
            }
            index /= WORD_BITS;
        }
    }

    /// Clears bit `index`; whether it was the last one. Usually one word is touched.
    #[inline]
    pub fn clear(&self, table: &mut [u64], index: usize) -> bool {
        debug_assert!(index < self.bit_count());
        let mut index = index;
        for level in 0..self.level_count as usize {
            let word = &mut table[self.word(level, index)];
            *word &= !bit(index);
            if *word != 0 {
                return false;
            }
            index /= WORD_BITS;
        }
        true
    }

    /// The lowest set bit. One word a level.
    #[inline]
    pub fn first(&self, table: &[u64]) -> Option<usize> {
        let mut index = 0;
        for level in (0..self.level_count as usize).rev() {
            let word = table[self.start[level] as usize + index];
            if word == 0 {
                debug_assert!(level + 1 == self.level_count as usize, "I3: a summary lied");
                return None;
            }
            index = index * WORD_BITS + word.trailing_zeros() as usize;
        }
        (self.level_count > 0).then_some(index)
    }

    /// The lowest set bit at or after `from`. Up to two words a level.
    pub fn next(&self, table: &[u64], from: usize) -> Option<usize> {
        let mut index = from;
        for level in 0..self.level_count as usize {
            let words = self.word_count(level);
            if index / WORD_BITS >= words {
                return None;
            }
            let word = table[self.word(level, index)] & (u64::MAX << (index % WORD_BITS));
            if word != 0 {
                let mut found = index / WORD_BITS * WORD_BITS + word.trailing_zeros() as usize;
                for below in (0..level).rev() {
                    let word = table[self.start[below] as usize + found];
                    found = found * WORD_BITS + word.trailing_zeros() as usize;
                }
                return Some(found);
            }
            index = index / WORD_BITS + 1;
        }
        None
    }

    fn word_count(&self, level: usize) -> usize {
        let bits = (0..level).fold(self.bit_count(), |bits, _| bits.div_ceil(WORD_BITS));
        bits.div_ceil(WORD_BITS)
    }

    /// How many bits are set. Reads every word.
    pub fn count(&self, table: &[u64]) -> usize {
        let start = self.start[0] as usize;
        let words = self.bit_count().div_ceil(WORD_BITS);
        table[start..start + words].iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The set bits, lowest first. Reads every word.
    pub fn iter<'a>(&self, table: &'a [u64]) -> impl Iterator<Item = usize> + use<'a> {
        let start = self.start[0] as usize;
        let words = self.bit_count().div_ceil(WORD_BITS);
        table[start..start + words].iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.wrapping_sub(1);
                (bit < WORD_BITS).then_some(index * WORD_BITS + bit)
            })
        })
    }

    /// Whether design/regions.md#B3 holds, and no bit is set beyond the end. Reads every word.
    pub fn is_consistent(&self, table: &[u64]) -> bool {
        let mut bits = self.bit_count();
        for level in 0..self.level_count as usize {
            let words = bits.div_ceil(WORD_BITS);
            let start = self.start[level] as usize;
            let last = table[start + words - 1];
            if !bits.is_multiple_of(WORD_BITS) && last >> (bits % WORD_BITS) != 0 {
                return false;
            }
            let above = level + 1;
            let summarised = |(index, word): (usize, &u64)| {
                above == self.level_count as usize
                    || (table[self.word(above, index)] & bit(index) != 0) == (*word != 0)
            };
            if !table[start..start + words].iter().enumerate().all(summarised) {
                return false;
            }
            bits = words;
        }
        true
    }

    /// Walks design/regions.md#B3.
    ///
    /// # Panics
    /// If a summary differs from what is below it.
    pub fn check(&self, table: &[u64]) {
        for level in 1..self.level_count as usize {
            let below = self.start[level - 1] as usize..self.start[level] as usize;
            for (index, word) in table[below].iter().enumerate() {
                let summary = table[self.word(level, index)] & bit(index) != 0;
                assert_eq!(summary, *word != 0, "B3: level {level}, word {index}");
            }
        }
    }

    #[inline]
    fn word(&self, level: usize, index: usize) -> usize {
        self.start[level] as usize + index / WORD_BITS
    }
}

#[inline]
const fn bit(index: usize) -> u64 {
    1 << (index % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use super::SummaryBits;

    #[test]
    fn the_first_set_bit_is_found_at_every_size() {
        for bits in [1u32, 63, 64, 65, 4096, 4097, 70_000] {
            let (shape, words) = SummaryBits::new(bits, 3);
            let mut table = [0u64; 1300];
            assert!(words as usize <= table.len());
            assert_eq!(shape.first(&table), None);
            for index in [bits - 1, bits / 2, bits / 3, 0] {
                shape.set(&mut table, index as usize);
                shape.check(&table);
                assert_eq!(shape.first(&table), Some(index as usize));
                assert!(shape.get(&table, index as usize));
            }
            for from in 0..bits as usize {
                let set = [0, bits / 3, bits / 2, bits - 1].map(|index| index as usize);
                let expected = set.into_iter().find(|index| *index >= from);
                assert_eq!(shape.next(&table, from), expected, "from {from} of {bits}");
            }
            assert_eq!(shape.next(&table, bits as usize), None);
            for index in [0, bits / 3, bits / 2, bits - 1] {
                shape.clear(&mut table, index as usize);
                shape.check(&table);
            }
            assert_eq!(shape.count(&table), 0);
            assert!(!shape.get(&table, bits as usize), "beyond the end");
            assert!(table[..3].iter().all(|word| *word == 0), "words before are not touched");
        }
    }

    #[test]
    fn a_set_of_nothing_has_no_first() {
        let (shape, next) = SummaryBits::new(0, 5);
        assert_eq!((shape, next), (SummaryBits::EMPTY, 5));
        assert_eq!(shape.first(&[]), None);
    }
}

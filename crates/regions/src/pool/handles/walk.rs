//! Walks over the values of a pool, in the order of their places.

use core::sync::atomic::Ordering;
use heapwright_core::backing::Backing;
use heapwright_core::prefetch::prefetch_read;

use super::{AHEAD_COUNT, Entry, Handle, HandlePool, WORD_BITS};

/// Places that have values, in their order, with a look ahead. Bits of those that have none any
/// more are cleared as they are met, so each is met once.
#[derive(Debug)]
pub(super) struct Places<'a, T, B: Backing> {
    pool: &'a HandlePool<T, B>,
    here: BitCursor,
    /// `AHEAD_COUNT` places before `here`.
    ahead: BitCursor,
    left: u32,
}

/// A walk over the set bits of words.
#[derive(Clone, Copy, Debug)]
struct BitCursor {
    word: usize,
    bits: u64,
}

impl BitCursor {
    /// The next set bit of the pool's live bits.
    #[inline(always)]
    fn next<T, B: Backing>(&mut self, pool: &HandlePool<T, B>) -> Option<u32> {
        while self.bits == 0 {
            self.word += 1;
            if self.word >= (pool.used_count as usize).div_ceil(WORD_BITS) {
                return None;
            }
            self.bits = pool.live_word(self.word).load(Ordering::Relaxed);
        }
        let index = self.word * WORD_BITS + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(index as u32)
    }
}

impl<'a, T, B: Backing> Places<'a, T, B> {
    pub(super) fn of(pool: &'a HandlePool<T, B>) -> Self {
        let word = (pool.used_count > 0).then(|| pool.live_word(0));
        let bits = word.map_or(0, |word| word.load(Ordering::Relaxed));
        let start = BitCursor { word: 0, bits };
        let mut places = Self { pool, here: start, ahead: start, left: pool.len() as u32 };
        (0..AHEAD_COUNT).for_each(|_| places.look_ahead());
        places
    }

    #[inline(always)]
    fn look_ahead(&mut self) {
        if let Some(index) = self.ahead.next(self.pool) {
            // SAFETY: a bit of an entry that was used, so below `used_count`.
            let entry = unsafe { self.pool.entries.at(index as usize) };
            prefetch_read(entry.as_ptr());
        }
    }

    /// All places with values from here on.
    #[inline(always)]
    fn fold<A, F: FnMut(A, &'a Entry<T>) -> A>(self, start: A, mut f: F) -> A {
        let (mut sum, BitCursor { mut word, mut bits }) = (start, self.here);
        let words = (self.pool.used_count as usize).div_ceil(WORD_BITS);
        loop {
            let mut dead = 0;
            while bits != 0 {
                let bit = bits & bits.wrapping_neg();
                let index = word * WORD_BITS + bits.trailing_zeros() as usize;
                bits ^= bit;
                // SAFETY: a bit of an entry that was used, so below `used_count`.
                let entry = unsafe { self.pool.entries.at(index) };
                // SAFETY: written when `used_count` passed it; lent as the pool is.
                let entry = unsafe { entry.as_ref() };
                if !entry.has_value() {
                    dead |= bit;
                    continue;
                }
                sum = f(sum, entry);
            }
            if dead != 0 {
                self.pool.clear_live(word, dead);
            }
            word += 1;
            if word >= words {
                return sum;
            }
            bits = self.pool.live_word(word).load(Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<&'a Entry<T>> {
        loop {
            self.look_ahead();
            let index = self.here.next(self.pool)?;
            debug_assert!(index < self.pool.used_count);
            // SAFETY: a bit of an entry that was used, so below `used_count`.
            let entry = unsafe { self.pool.entries.at(index as usize) };
            // SAFETY: written when `used_count` passed it; lent as the pool is.
            let entry = unsafe { entry.as_ref() };
            if entry.has_value() {
                self.left -= 1;
                return Some(entry);
            }
            let place = index as usize;
            self.pool.clear_live(place / WORD_BITS, 1 << (place % WORD_BITS));
        }
    }
}

/// Of [`HandlePool::iter`].
#[derive(Debug)]
pub struct Iter<'a, T, B: Backing> {
    pub(super) places: Places<'a, T, B>,
}

impl<'a, T, B: Backing> Iterator for Iter<'a, T, B> {
    type Item = (Handle<T>, &'a T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.places.next()?;
        let handle = Handle::from_bits(entry.header)?;
        // SAFETY: `Places` gives entries with a value.
        Some((handle, unsafe { entry.value() }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.places.left as usize, Some(self.places.left as usize))
    }
}

/// Of [`HandlePool::values`].
#[derive(Debug)]
pub struct Values<'a, T, B: Backing> {
    pub(super) places: Places<'a, T, B>,
}

impl<'a, T, B: Backing> Iterator for Values<'a, T, B> {
    type Item = &'a T;

    /// As [`Self::next`] until the end, a word of bits at a time.
    #[inline]
    fn fold<A, F: FnMut(A, &'a T) -> A>(self, start: A, mut f: F) -> A {
        self.places.fold(start, |sum, entry| {
            // SAFETY: `Places` gives entries with a value.
            f(sum, unsafe { entry.value() })
        })
    }

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        let entry = self.places.next()?;
        // SAFETY: `Places` gives entries with a value.
        Some(unsafe { entry.value() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.places.left as usize, Some(self.places.left as usize))
    }
}

impl<T, B: Backing> ExactSizeIterator for Values<'_, T, B> {}

impl<T, B: Backing> ExactSizeIterator for Iter<'_, T, B> {}

//! Walks over the values of a pool, in the order of their places.

use heapwright_core::backing::Backing;
use heapwright_core::prefetch::prefetch_read;

use super::{AHEAD_COUNT, Entry, Handle, HandlePool, WORD_BITS};

/// Places that have values, in their order, with a look ahead.
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
            self.bits = pool.live_word(self.word);
        }
        let index = self.word * WORD_BITS + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(index as u32)
    }
}

impl<'a, T, B: Backing> Places<'a, T, B> {
    pub(super) fn of(pool: &'a HandlePool<T, B>) -> Self {
        let bits = if pool.used_count == 0 { 0 } else { pool.live_word(0) };
        let start = BitCursor { word: 0, bits };
        let mut places = Self { pool, here: start, ahead: start, left: pool.length };
        (0..AHEAD_COUNT).for_each(|_| places.look_ahead());
        places
    }

    #[inline(always)]
    fn look_ahead(&mut self) {
        if let Some(index) = self.ahead.next(self.pool) {
            // SAFETY: a bit of an entry that was used, so below `used_count`.
            let entry = unsafe { self.pool.entries.add(index as usize) };
            prefetch_read(entry.as_ptr());
        }
    }

    /// All places from here on.
    #[inline(always)]
    fn fold<A, F: FnMut(A, &'a Entry<T>) -> A>(self, start: A, mut f: F) -> A {
        let (mut sum, BitCursor { mut word, mut bits }) = (start, self.here);
        let words = (self.pool.used_count as usize).div_ceil(WORD_BITS);
        loop {
            while bits != 0 {
                let index = word * WORD_BITS + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                // SAFETY: a bit of an entry that was used, so below `used_count`.
                let entry = unsafe { self.pool.entries.add(index) };
                // SAFETY: written when `used_count` passed it; lent as the pool is.
                sum = f(sum, unsafe { entry.as_ref() });
            }
            word += 1;
            if word >= words {
                return sum;
            }
            bits = self.pool.live_word(word);
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<&'a Entry<T>> {
        self.look_ahead();
        let index = self.here.next(self.pool)?;
        debug_assert!(index < self.pool.used_count);
        // SAFETY: a bit of an entry that was used, so below `used_count`.
        let entry = unsafe { self.pool.entries.add(index as usize) };
        self.left -= 1;
        // SAFETY: written when `used_count` passed it; lent as the pool is.
        Some(unsafe { entry.as_ref() })
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
        // SAFETY: its bit is set, so there is a value (H4).
        Some((handle, unsafe { entry.value.assume_init_ref() }))
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
            // SAFETY: its bit is set, so there is a value (H4).
            f(sum, unsafe { entry.value.assume_init_ref() })
        })
    }

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        let entry = self.places.next()?;
        // SAFETY: its bit is set, so there is a value (H4).
        Some(unsafe { entry.value.assume_init_ref() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.places.left as usize, Some(self.places.left as usize))
    }
}

impl<T, B: Backing> ExactSizeIterator for Values<'_, T, B> {}

impl<T, B: Backing> ExactSizeIterator for Iter<'_, T, B> {}

//! Blocks that came back lately, by length: the next request of that length takes one.
//!
//! A heap that joins free neighbours at once splits them again for the next request. Keeping the
//! last few blocks of each length as they are saves both; they are joined when memory runs short.
//! Source: Barkley and Lee, "A Lazy Buddy System Bounded by Two Coalescing Delays", 1989.

use core::cell::Cell;

/// Up to `DEPTH` blocks for each of `SETS` lengths, last in, first out.
#[derive(Clone, Debug)]
pub struct Recent<const SETS: usize, const DEPTH: usize> {
    counts: [Cell<u8>; SETS],
    starts: [[Cell<u32>; DEPTH]; SETS],
}

impl<const SETS: usize, const DEPTH: usize> Recent<SETS, DEPTH> {
    /// No block.
    pub const fn new() -> Self {
        const { assert!(DEPTH > 0 && DEPTH <= u8::MAX as usize) };
        Self {
            counts: [const { Cell::new(0) }; SETS],
            starts: [const { [const { Cell::new(0) }; DEPTH] }; SETS],
        }
    }

    /// The block of `set` that came last; none also where there is no such set.
    #[inline(always)]
    pub fn take(&self, set: usize) -> Option<u32> {
        let count = self.counts.get(set)?;
        let left = count.get().checked_sub(1)?;
        let start = self.starts.get(set)?.get(usize::from(left))?.get();
        count.set(left);
        Some(start)
    }

    /// Keeps a block; false if its set is full or does not exist.
    #[inline(always)]
    pub fn put(&self, set: usize, start: u32) -> bool {
        let (Some(count), Some(starts)) = (self.counts.get(set), self.starts.get(set)) else {
            return false;
        };
        let Some(place) = starts.get(usize::from(count.get())) else { return false };
        place.set(start);
        count.set(count.get() + 1);
        true
    }

    /// Whether `start` is kept in `set`.
    #[inline]
    pub fn has(&self, set: usize, start: u32) -> bool {
        let (Some(count), Some(starts)) = (self.counts.get(set), self.starts.get(set)) else {
            return false;
        };
        starts.iter().take(usize::from(count.get())).any(|one| one.get() == start)
    }

    /// Gives all blocks, each with its set.
    pub fn drain(&self, mut visit: impl FnMut(usize, u32)) {
        for (set, (count, starts)) in self.counts.iter().zip(&self.starts).enumerate() {
            let had = usize::from(count.replace(0));
            starts.iter().take(had).for_each(|start| visit(set, start.get()));
        }
    }
}

impl<const SETS: usize, const DEPTH: usize> Default for Recent<SETS, DEPTH> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn the_last_block_of_a_length_comes_first() {
        let recent: Recent<4, 2> = Recent::new();
        assert!(recent.put(1, 10) && recent.put(1, 20) && recent.put(3, 30));
        assert!(!recent.put(1, 40), "full");
        assert!(!recent.put(4, 40), "no such set");
        assert!(recent.has(1, 10) && !recent.has(1, 30) && !recent.has(0, 10));
        assert_eq!((recent.take(1), recent.take(0), recent.take(9)), (Some(20), None, None));
        let mut left = [0; 2];
        let mut count = 0;
        recent.drain(|set, start| {
            left[count] = set as u32 * 100 + start;
            count += 1;
        });
        assert_eq!(left, [110, 330]);
        assert_eq!(recent.take(1), None);
    }
}

//! Blocks of which most were freed, so that what is left can be merged; each knows its contents.

use heapwright_malloc::{alloc, allow_merging, free, trim};

/// One block and its contents: a byte that depends on where it is and how often it was written.
struct Kept {
    place: usize,
    bytes: usize,
    generation: u8,
}

impl Kept {
    fn fill_byte(&self) -> u8 {
        (self.place >> 4) as u8 ^ self.generation.wrapping_mul(31)
    }

    fn contents(&mut self) -> &mut [u8] {
        let start = std::ptr::with_exposed_provenance_mut(self.place);
        // SAFETY: a live block of that length, which only this value's owner uses.
        unsafe { std::slice::from_raw_parts_mut(start, self.bytes) }
    }

    fn first_wrong(&mut self) -> Option<usize> {
        let fill = self.fill_byte();
        self.contents().iter().position(|byte| *byte != fill)
    }

    fn check(&mut self) {
        let wrong = self.first_wrong();
        assert_eq!(wrong, None, "a byte of the {} at {:x} changed", self.bytes, self.place);
    }
}

/// Blocks of 16 B to 4 KiB, most of them freed again.
pub struct Sparse {
    kept: Vec<Kept>,
    bytes: usize,
    share: u64,
    state: u64,
}

impl Sparse {
    /// `bytes` of blocks, of which one in `share` is kept.
    pub fn new(bytes: usize, share: u64, seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut sparse = Self { kept: Vec::new(), bytes, share, state };
        sparse.add();
        sparse
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 11
    }

    fn add(&mut self) {
        let mut all = Vec::new();
        let mut total = 0;
        while total < self.bytes {
            let log2 = self.next() % 8;
            let bytes = (16 << log2) + self.next() as usize % (16 << log2);
            let block = alloc(bytes);
            assert!(!block.is_null());
            let mut kept = Kept { place: block.expose_provenance(), bytes, generation: 0 };
            let fill = kept.fill_byte();
            kept.contents().fill(fill);
            all.push(kept);
            total += bytes;
        }
        for one in all {
            if self.next().is_multiple_of(self.share) {
                self.kept.push(one);
            } else {
                // SAFETY: live.
                unsafe { free(std::ptr::with_exposed_provenance_mut(one.place)) };
            }
        }
    }

    /// Checks a part of the blocks and writes them anew.
    #[allow(dead_code, reason = "not every test writes")]
    pub fn rewrite(&mut self, step: usize) {
        for one in self.kept.iter_mut().skip(step % 61).step_by(61) {
            one.check();
            one.generation = one.generation.wrapping_add(1);
            let fill = one.fill_byte();
            one.contents().fill(fill);
        }
    }

    /// Frees half of the blocks and adds as many as at first.
    #[allow(dead_code, reason = "not every test writes")]
    pub fn refresh(&mut self, seed: u64) {
        self.state ^= seed << 1;
        let half = self.kept.len() / 2;
        for mut one in self.kept.drain(..half) {
            one.check();
            // SAFETY: live.
            unsafe { free(std::ptr::with_exposed_provenance_mut(one.place)) };
        }
        self.add();
    }

    /// Frees half of the blocks, in no order.
    #[allow(dead_code, reason = "not every test thins")]
    pub fn thin(&mut self) {
        for mut one in std::mem::take(&mut self.kept) {
            one.check();
            if self.next().is_multiple_of(2) {
                self.kept.push(one);
            } else {
                // SAFETY: live.
                unsafe { free(std::ptr::with_exposed_provenance_mut(one.place)) };
            }
        }
    }

    /// Checks every byte of every block.
    pub fn check(&mut self) {
        for one in &mut self.kept {
            one.check();
        }
    }

    /// Whether every byte of every block is right. Allocates nothing and does not panic.
    #[allow(dead_code, reason = "not every test forks")]
    pub fn is_whole(&mut self) -> bool {
        self.kept.iter_mut().all(|one| one.first_wrong().is_none())
    }

    /// Checks and frees all.
    pub fn free_all(&mut self) {
        for mut one in self.kept.drain(..) {
            one.check();
            // SAFETY: live.
            unsafe { free(std::ptr::with_exposed_provenance_mut(one.place)) };
        }
    }
}

/// Merges what can be merged now.
pub fn merge_again() {
    allow_merging(true);
    trim();
}

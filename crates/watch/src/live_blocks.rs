//! The samples that live, found by their addresses.

use crate::grown::Grown;

/// A live sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveBlock {
    /// Its address; 0 in a free place of the table.
    pub(crate) address: usize,
    /// Where it would be without the profile.
    pub(crate) place: *mut u8,
    /// Whether that place is kept for it.
    pub(crate) is_held: bool,
    /// Number of its site.
    pub(crate) site: u32,
    /// When it was allocated, on the monotonic clock.
    pub(crate) born_ns: u64,
}

const NONE: LiveBlock =
    LiveBlock { address: 0, place: core::ptr::null_mut(), is_held: false, site: 0, born_ns: 0 };

/// All live samples: open addressing, at most half full.
pub(crate) struct LiveBlocks {
    table: Grown<LiveBlock>,
    count: usize,
}

// SAFETY: the pointers are addresses of blocks, which are not read through here.
unsafe impl Send for LiveBlocks {}

impl LiveBlocks {
    pub(crate) const fn new() -> Self {
        Self { table: Grown::new(), count: 0 }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &LiveBlock> {
        self.table.as_slice().iter().filter(|block| block.address != 0)
    }

    /// Enters `block`; false when there is no memory.
    pub(crate) fn insert(&mut self, block: LiveBlock) -> bool {
        debug_assert_ne!(block.address, 0);
        if (self.count + 1) * 2 > self.table.as_slice().len() && !self.widen() {
            return false;
        }
        self.put(block);
        self.count += 1;
        true
    }

    fn put(&mut self, block: LiveBlock) {
        let mask = self.table.as_slice().len() - 1;
        let mut place = home(block.address) & mask;
        while self.table.as_slice()[place].address != 0 {
            place = (place + 1) & mask;
        }
        self.table.as_mut_slice()[place] = block;
    }

    fn widen(&mut self) -> bool {
        let length = (self.table.as_slice().len() * 2).max(512);
        let mut old = Grown::new();
        if !old.reset_zeroed(length) {
            return false;
        }
        core::mem::swap(&mut old, &mut self.table);
        for block in old.as_slice() {
            if block.address != 0 {
                self.put(*block);
            }
        }
        old.release();
        true
    }

    /// Takes out the block at `address`.
    pub(crate) fn remove(&mut self, address: usize) -> Option<LiveBlock> {
        let length = self.table.as_slice().len();
        if length == 0 {
            return None;
        }
        let mask = length - 1;
        let table = self.table.as_mut_slice();
        let mut place = home(address) & mask;
        while table[place].address != address {
            if table[place].address == 0 {
                return None;
            }
            place = (place + 1) & mask;
        }
        let found = table[place];
        // Later entries move up, so that searches need no tombstones (Knuth, The Art of Computer
        // Programming 3, 6.4 algorithm R).
        let mut scan = place;
        loop {
            scan = (scan + 1) & mask;
            let block = table[scan];
            if block.address == 0 {
                break;
            }
            let distance = scan.wrapping_sub(home(block.address)) & mask;
            if distance >= (scan.wrapping_sub(place) & mask) {
                table[place] = block;
                place = scan;
            }
        }
        table[place] = NONE;
        self.count -= 1;
        Some(found)
    }
}

fn home(address: usize) -> usize {
    (address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
}

#[cfg(test)]
mod tests {
    use super::{LiveBlock, LiveBlocks, NONE};

    #[test]
    fn blocks_are_found_until_they_are_taken_out() {
        let mut blocks = LiveBlocks::new();
        let address = |step: usize| 0x7000_0000 + step * 48;
        for step in 0..4000 {
            assert!(blocks.insert(LiveBlock { address: address(step), site: step as u32, ..NONE }));
            if step % 3 == 0 {
                let gone = step / 2;
                let found = blocks.remove(address(gone)).map(|block| block.site);
                assert!(found.is_none_or(|site| site as usize == gone));
                assert_eq!(blocks.remove(address(gone)), None);
            }
        }
        assert_eq!(blocks.iter().count(), blocks.len());
        for step in 0..4000 {
            let _ = blocks.remove(address(step));
        }
        assert_eq!(blocks.len(), 0);
    }
}

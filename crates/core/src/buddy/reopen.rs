//! A buddy allocator whose table was kept: in a file, in shared memory.

use super::{Buddy, LEAVES_MAX, ORDER_COUNT, shapes};

impl<T: AsRef<[u64]> + AsMut<[u64]>> Buddy<T> {
    /// The allocator that wrote `table`. Reads the whole table, changes nothing.
    ///
    /// A table that no allocator wrote makes one that gives blocks twice: look at
    /// [`Self::is_sound`] where that is possible.
    ///
    /// # Panics
    /// If `table` is shorter than [`super::table_words`], or `leaf_count` exceeds [`LEAVES_MAX`].
    pub fn reopen(table: T, leaf_count: u32) -> Self {
        assert!(leaf_count <= LEAVES_MAX, "{leaf_count} leaves");
        let (orders, words) = shapes(leaf_count);
        assert!(table.as_ref().len() >= words as usize, "{words} words are wanted");
        let mut buddy = Self { table, orders, occupied: 0, leaf_count, free_leaves: 0 };
        for (order, count) in buddy.free_blocks().into_iter().enumerate() {
            buddy.occupied |= u32::from(count > 0) << order;
            let leaves = (count as u32).wrapping_shl(order as u32);
            buddy.free_leaves = buddy.free_leaves.wrapping_add(leaves);
        }
        buddy
    }

    /// Whether the table is one that an allocator of that many leaves can have written: no leaf is
    /// free twice, no two free buddies are apart, every summary is right. Reads the whole table;
    /// O(free blocks * orders) at worst.
    pub fn is_sound(&self) -> bool {
        let table = self.table.as_ref();
        let mut free = 0u64;
        for (order, bits) in self.orders.iter().enumerate() {
            if !bits.is_consistent(table) {
                return false;
            }
            for index in bits.iter(table) {
                let is_apart = bits.get(table, index ^ 1);
                let above = order + 1..ORDER_COUNT;
                let is_covered =
                    above.clone().any(|over| self.orders[over].get(table, index >> (over - order)));
                if is_apart || is_covered || index >= bits.bit_count() {
                    return false;
                }
                free += 1 << order;
            }
        }
        free == u64::from(self.free_leaves) && free <= u64::from(self.leaf_count)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use crate::buddy::{Buddy, table_words};
    use std::vec;

    #[test]
    fn a_kept_table_goes_on_where_it_was() {
        for leaves in [1, 64, 100, 5000] {
            let mut first = Buddy::new(vec![0; table_words(leaves)], leaves);
            let mut blocks = vec![];
            while let Some(block) = first.alloc(3, true) {
                blocks.push(block);
            }
            for block in blocks.iter().step_by(2) {
                first.free(*block, 3);
            }
            let kept = first.table.clone();
            let mut second = Buddy::reopen(kept, leaves);
            assert!(second.is_sound());
            assert_eq!(second.free_leaves(), first.free_leaves());
            assert_eq!(second.free_blocks(), first.free_blocks());
            for block in blocks.iter().skip(1).step_by(2) {
                second.free(*block, 3);
            }
            second.check();
            assert_eq!(second.free_leaves(), leaves);
        }
    }

    #[test]
    fn a_table_that_nobody_wrote_is_not_sound() {
        let leaves = 4096;
        let sound = Buddy::new(vec![0; table_words(leaves)], leaves);
        assert!(Buddy::reopen(sound.table.clone(), leaves).is_sound());
        let mut seen = 0;
        for word in 0..sound.table.len() {
            for bit in [0, 1, 17, 63] {
                let mut table = sound.table.clone();
                table[word] ^= 1 << bit;
                seen += u32::from(!Buddy::reopen(table, leaves).is_sound());
            }
        }
        let all = 4 * sound.table.len() as u32;
        // Without the one bit that says so, all is taken: also a heap's state.
        assert_eq!(seen, all - 1, "each other flipped bit is noticed while nothing is allocated");
    }
}

//! The buddy system over offsets: no memory, no pointers, a table of bits beside.
//!
//! Offsets and lengths are in *leaves*, the smallest block; what a leaf is (32 bytes, a page, a
//! texel row) is the caller's business, and so is where the leaves are.
//!
//! # Invariants
//! design/regions.md#B1 to design/regions.md#B4.
//! Source: Knuth, The Art of Computer Programming 1, section 2.5; the trimming of tails is the
//! usual extension.
#![forbid(unsafe_code)]

mod reopen;

use crate::bitmap::SummaryBits;

/// Orders 0 to 31: a leaf to 2^31 leaves.
pub const ORDER_COUNT: usize = 32;
/// Blocks of each order that are tried as the start of a joined piece.
const JOIN_LOOKS_MAX: usize = 8;
/// The most leaves there may be.
pub const LEAVES_MAX: u32 = 1 << 31;

/// A buddy allocator of `leaf_count` leaves (any number, not only powers of two), whose bits are
/// in `table`: an array, a slice, a vector.
///
/// ```
/// use heapwright_core::buddy::{Buddy, table_words};
///
/// let mut buddy = Buddy::new([0; table_words(100)], 100);
/// let block = buddy.alloc(3, true).expect("100 leaves are free");
/// assert_eq!(buddy.free_leaves(), 97);
/// buddy.free(block, 3);
/// assert_eq!(buddy.largest_free_leaves(), 64);
/// ```
#[derive(Clone, Debug)]
pub struct Buddy<T> {
    table: T,
    orders: [SummaryBits; ORDER_COUNT],
    /// Bit `o`: a block of order `o` is free.
    occupied: u32,
    leaf_count: u32,
    free_leaves: u32,
}

/// How many words the table of `leaf_count` leaves needs: about two bits a leaf.
pub const fn table_words(leaf_count: u32) -> usize {
    shapes(leaf_count).1 as usize
}

const fn shapes(leaf_count: u32) -> ([SummaryBits; ORDER_COUNT], u32) {
    let mut orders = [SummaryBits::EMPTY; ORDER_COUNT];
    let mut next = 0;
    let mut order = 0;
    while order < ORDER_COUNT {
        (orders[order], next) = SummaryBits::new(leaf_count >> order, next);
        order += 1;
    }
    (orders, next)
}

/// The order of the smallest block of at least `leaves`; at least 1 is taken.
#[inline]
const fn order_of(leaves: u32) -> usize {
    (u32::BITS - leaves.saturating_sub(1).leading_zeros()) as usize
}

impl<T: AsRef<[u64]> + AsMut<[u64]>> Buddy<T> {
    /// All leaves free. Writes the whole table.
    ///
    /// # Panics
    /// If `table` is shorter than [`table_words`], or `leaf_count` exceeds [`LEAVES_MAX`].
    pub fn new(mut table: T, leaf_count: u32) -> Self {
        assert!(leaf_count <= LEAVES_MAX, "{leaf_count} leaves");
        let (orders, words) = shapes(leaf_count);
        table.as_mut()[..words as usize].fill(0);
        let mut buddy = Self { table, orders, occupied: 0, leaf_count, free_leaves: 0 };
        buddy.free_pieces(0, leaf_count);
        buddy.check();
        buddy
    }

    /// Takes `leaves` leaves in one piece, without `trim` aligned to their number rounded up to a
    /// power of two; the offset of the first. With `trim` only as many as asked for (rounded up to 1) are
    /// taken, otherwise the power of two. O(log n).
    #[inline]
    pub fn alloc(&mut self, leaves: u32, trim: bool) -> Option<u32> {
        let leaves = leaves.max(1);
        self.alloc_order(order_of(leaves), leaves, 1, trim)
    }

    /// As [`Self::alloc`], aligned to at least `align` leaves (a power of two). Without `trim`
    /// the block takes the larger of the two.
    #[inline]
    pub fn alloc_aligned(&mut self, leaves: u32, align: u32, trim: bool) -> Option<u32> {
        debug_assert!(align.is_power_of_two());
        let leaves = leaves.max(1);
        self.alloc_order(order_of(leaves.max(align)), leaves, align, trim)
    }

    #[inline]
    fn alloc_order(&mut self, order: usize, leaves: u32, align: u32, trim: bool) -> Option<u32> {
        if order >= ORDER_COUNT {
            return None;
        }
        let wide_enough = self.occupied >> order;
        if wide_enough == 0 {
            return None;
        }
        let mut at = order + wide_enough.trailing_zeros() as usize;
        let mut index = self.orders[at].first(self.table.as_ref())?;
        self.clear(at, index);
        while at > order {
            at -= 1;
            index *= 2;
            self.set(at, index + 1);
        }
        let start = (index << order) as u32;
        self.free_leaves -= 1 << order;
        let tail = (1 << order) - leaves;
        if trim && tail > 0 {
            // In every second block at its end: the free tails of two buddies then touch, and
            // hold a larger block between them.
            if index % 2 == 1 && align == 1 {
                self.free_pieces(start, tail);
                return Some(start + tail);
            }
            self.free_pieces(start + leaves, tail);
        }
        Some(start)
    }

    /// Takes `leaves` leaves where no block of a power of two holds them: from free blocks that
    /// lie side by side and are no buddies, aligned to `align` leaves. For trimmed blocks, when
    /// [`Self::alloc_aligned`] finds none: up to a few hundred words are read.
    pub fn alloc_joined(&mut self, leaves: u32, align: u32) -> Option<u32> {
        let leaves = leaves.max(1);
        let order = order_of(leaves);
        if leaves > self.free_leaves || order >= ORDER_COUNT {
            return None;
        }
        // A piece starts with a block of at least an eighth of what is wanted; one of half of it
        // is enough with its neighbour most often.
        for first_order in (order.saturating_sub(3)..order).rev() {
            let mut from = 0;
            for _ in 0..JOIN_LOOKS_MAX {
                let Some(index) = self.orders[first_order].next(self.table.as_ref(), from) else {
                    break;
                };
                let start = (index << first_order) as u32;
                if start & (align - 1) == 0 && self.is_free_run(start, leaves) {
                    return Some(self.take_run(start, leaves));
                }
                from = index + 1;
            }
        }
        None
    }

    /// Whether a block of the smallest power of two of at least `leaves` leaves is free.
    #[inline]
    pub const fn has_exact(&self, leaves: u32) -> bool {
        let order = order_of(leaves);
        order < ORDER_COUNT && self.occupied >> order & 1 == 1
    }

    /// The free block that starts at `leaf`, as its order.
    fn free_block_at(&self, leaf: u32) -> Option<usize> {
        let most = (leaf.trailing_zeros() as usize).min(ORDER_COUNT - 1);
        let table = self.table.as_ref();
        (0..=most).rev().find(|order| self.orders[*order].get(table, leaf as usize >> order))
    }

    /// Whether blocks from `start` on are free without a gap for `leaves` leaves.
    fn is_free_run(&self, start: u32, leaves: u32) -> bool {
        let mut at = start;
        while at - start < leaves {
            match self.free_block_at(at) {
                Some(order) => at += 1 << order,
                None => return false,
            }
        }
        true
    }

    /// Takes the blocks of a run that is free, and gives back what is behind `leaves`.
    fn take_run(&mut self, start: u32, leaves: u32) -> u32 {
        let mut at = start;
        while at - start < leaves {
            let Some(order) = self.free_block_at(at) else { break };
            self.clear(order, at as usize >> order);
            self.free_leaves -= 1 << order;
            at += 1 << order;
        }
        let tail = at - start - leaves;
        self.free_pieces(start + leaves, tail);
        start
    }

    /// How many leaves [`Self::alloc_aligned`] takes: what [`Self::free`] wants back.
    #[inline]
    pub const fn taken_leaves(leaves: u32, align: u32, trim: bool) -> u32 {
        let leaves = if leaves == 0 { 1 } else { leaves };
        let wide = if leaves > align { leaves } else { align };
        if trim { leaves } else { 1 << order_of(wide) }
    }

    /// Gives back `leaves` leaves from `start`: a whole block as taken, or any live part of one.
    /// O(log n) for a power of two, O(log^2 n) at worst.
    ///
    /// # Panics
    /// If the range ends beyond the leaves; in debug builds also if a leaf of it is free.
    #[inline]
    pub fn free(&mut self, start: u32, leaves: u32) {
        let end = start.checked_add(leaves);
        assert!(end.is_some_and(|end| end <= self.leaf_count), "{start} + {leaves}");
        debug_assert!((start..start + leaves).all(|leaf| !self.is_free(leaf)), "freed twice");
        if leaves.is_power_of_two() && start & (leaves - 1) == 0 {
            let order = leaves.trailing_zeros();
            self.free_block(order as usize, (start >> order) as usize);
        } else {
            self.free_pieces(start, leaves);
        }
    }

    fn free_pieces(&mut self, mut start: u32, mut leaves: u32) {
        while leaves > 0 {
            let order = start.trailing_zeros().min(leaves.ilog2());
            self.free_block(order as usize, (start >> order) as usize);
            start += 1 << order;
            leaves -= 1 << order;
        }
    }

    #[inline]
    fn free_block(&mut self, mut order: usize, mut index: usize) {
        self.free_leaves += 1 << order;
        while self.orders[order].get(self.table.as_ref(), index ^ 1) {
            self.clear(order, index ^ 1);
            index /= 2;
            order += 1;
        }
        self.set(order, index);
    }

    #[inline]
    fn set(&mut self, order: usize, index: usize) {
        self.orders[order].set(self.table.as_mut(), index);
        self.occupied |= 1 << order;
    }

    #[inline]
    fn clear(&mut self, order: usize, index: usize) {
        if self.orders[order].clear(self.table.as_mut(), index) {
            self.occupied &= !(1 << order);
        }
    }

    /// Whether `leaf` is free; false beyond the end. One bit an order that has free blocks.
    pub fn is_free(&self, leaf: u32) -> bool {
        let leaf = leaf as usize;
        let mut occupied = self.occupied;
        while occupied != 0 {
            let order = occupied.trailing_zeros() as usize;
            if self.orders[order].get(self.table.as_ref(), leaf >> order) {
                return true;
            }
            occupied &= occupied - 1;
        }
        false
    }

    /// Leaves in all.
    pub const fn leaf_count(&self) -> u32 {
        self.leaf_count
    }

    /// Leaves that are free.
    pub const fn free_leaves(&self) -> u32 {
        self.free_leaves
    }

    /// The longest block that could be had now, in leaves: a power of two, or 0. O(1).
    pub const fn largest_free_leaves(&self) -> u32 {
        if self.occupied == 0 { 0 } else { 1 << self.occupied.ilog2() }
    }

    /// How many blocks of each order are free: the sums of squares and other measures of
    /// fragmentation follow. Reads the table.
    pub fn free_blocks(&self) -> [usize; ORDER_COUNT] {
        core::array::from_fn(|order| match self.orders[order].bit_count() {
            0 => 0,
            _ => self.orders[order].count(self.table.as_ref()),
        })
    }

    /// Walks the invariants; empty in release builds.
    #[inline]
    pub fn check(&self) {
        if cfg!(debug_assertions) {
            self.check_walk();
        }
    }

    fn check_walk(&self) {
        let table = self.table.as_ref();
        for (order, bits) in self.orders.iter().enumerate() {
            bits.check(table);
            let first = bits.first(table);
            assert_eq!(self.occupied & (1 << order) != 0, first.is_some(), "B3: order {order}");
            for index in (0..bits.bit_count()).step_by(2) {
                let both = bits.get(table, index) && bits.get(table, index + 1);
                assert!(!both, "B2: order {order}, index {index}");
            }
        }
        let covered = |leaf: u32| {
            let set = |order: &usize| self.orders[*order].get(table, leaf as usize >> order);
            (0..ORDER_COUNT).filter(set).count()
        };
        let mut free = 0;
        for leaf in 0..self.leaf_count {
            let count = covered(leaf);
            assert!(count <= 1, "B1: leaf {leaf} is free {count} times");
            free += count as u32;
        }
        assert_eq!(free, self.free_leaves, "B4");
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{Buddy, LEAVES_MAX, order_of, table_words};
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn orders_are_rounded_up() {
        let orders: Vec<usize> = [0, 1, 2, 3, 4, 5, 8, 9].map(order_of).to_vec();
        assert_eq!(orders, [0, 0, 1, 2, 2, 3, 3, 4]);
        assert_eq!(order_of(LEAVES_MAX), 31);
        assert_eq!(order_of(u32::MAX), 32);
    }

    #[test]
    fn everything_coalesces_again() {
        for leaves in [1, 2, 3, 64, 100, 1000] {
            let mut buddy = Buddy::new(vec![0; table_words(leaves)], leaves);
            let fresh = buddy.free_blocks();
            let blocks: Vec<u32> = core::iter::from_fn(|| buddy.alloc(1, false)).collect();
            assert_eq!((blocks.len() as u32, buddy.largest_free_leaves()), (leaves, 0));
            for block in
                blocks.iter().rev().step_by(2).chain(blocks.iter().rev().skip(1).step_by(2))
            {
                buddy.free(*block, 1);
            }
            buddy.check();
            assert_eq!(buddy.free_blocks(), fresh);
        }
    }

    #[test]
    fn a_trimmed_block_takes_what_was_asked_for() {
        let mut buddy = Buddy::new([0; table_words(64)], 64);
        let block = buddy.alloc(33, true).expect("64 are free");
        assert_eq!((block, buddy.free_leaves()), (0, 31));
        buddy.check();
        assert_eq!(buddy.alloc(16, false), Some(48), "the tail is of use");
        buddy.free(33 - 8, 8);
        buddy.free(0, 25);
        buddy.free(48, 16);
        buddy.check();
        assert_eq!(buddy.largest_free_leaves(), 64);
    }

    #[test]
    fn blocks_side_by_side_that_are_no_buddies_hold_a_trimmed_one() {
        let mut buddy = Buddy::new([0; table_words(64)], 64);
        let all: Vec<u32> = core::iter::from_fn(|| buddy.alloc(8, false)).collect();
        assert_eq!(all.len(), 8);
        buddy.free(8, 8);
        buddy.free(16, 8);
        assert_eq!(buddy.alloc(12, true), None, "16 leaves in two blocks that are no buddies");
        assert_eq!(buddy.alloc_joined(12, 16), None, "the alignment is kept");
        assert_eq!(buddy.alloc_joined(12, 4), Some(8));
        buddy.check();
        assert_eq!((buddy.free_leaves(), buddy.largest_free_leaves()), (4, 4));
        assert_eq!(buddy.alloc_joined(5, 1), None);
        buddy.free(8, 12);
        buddy.check();
        assert_eq!(buddy.free_leaves(), 16);
    }

    #[test]
    fn alignment_above_the_size_is_kept() {
        let mut buddy = Buddy::new([0; table_words(64)], 64);
        assert_eq!(buddy.alloc(1, false), Some(0));
        assert_eq!(buddy.alloc_aligned(1, 16, true), Some(16));
        assert_eq!(buddy.free_leaves(), 62);
        assert_eq!(buddy.alloc_aligned(1, 128, true), None);
        assert_eq!(Buddy::<[u64; 0]>::taken_leaves(1, 16, false), 16);
        assert_eq!(Buddy::<[u64; 0]>::taken_leaves(0, 1, true), 1);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let mut buddy = Buddy::new([0; table_words(10)], 10);
        assert_eq!(buddy.alloc(11, true), None);
        assert_eq!(buddy.alloc(u32::MAX, false), None);
        assert_eq!(buddy.alloc(9, true), None, "no block of 16 leaves");
        let mut none = Buddy::new([], 0);
        assert_eq!(none.alloc(1, false), None);
        assert_eq!(none.largest_free_leaves(), 0);
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    #[cfg(debug_assertions)]
    fn a_double_free_is_told_in_debug_builds() {
        let mut buddy = Buddy::new([0; table_words(10)], 10);
        let block = buddy.alloc(2, false).expect("free");
        buddy.free(block, 2);
        buddy.free(block, 2);
    }
}

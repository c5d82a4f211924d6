//! The words of free blocks and of lists' heads, and a bit for each granule, all by offset.

use core::ptr::NonNull;

use super::lists::{GRANULE_BYTES, HEAD_BYTES, List, STEPS};

/// Offsets of the words of a free block's first granule, and of its last one's. A head has the
/// first two.
pub(super) const NEXT: u32 = 0;
pub(super) const PREV: u32 = 4;
pub(super) const LENGTH: u32 = 8;
pub(super) const LENGTH_AT_END: u32 = 12;

/// Where the words of free blocks and heads are, and the bits. Copied to where it is used: what is
/// written through it then does not make the compiler read it again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    /// First byte of the memory; its provenance covers the heads and the bits behind it.
    pub(super) base: NonNull<u8>,
    /// A bit for each granule, behind a word of zeros; no granule has the last of them.
    pub(super) bits: NonNull<u64>,
    pub(super) memory_bytes: u32,
    /// Where the head of row 0 and step 0 would be, modulo 4 GiB.
    pub(super) head_zero: u32,
}

impl Ground {
    /// The offset of a list's head.
    #[inline]
    pub(super) fn head(self, list: List) -> u32 {
        self.head_zero.wrapping_add(((list.row * STEPS + list.step) * HEAD_BYTES) as u32)
    }

    /// The word `at` of a granule of a free block, or of a head.
    #[inline]
    pub(super) fn place_of(self, offset: u32, at: u32) -> NonNull<u32> {
        debug_assert!((offset + at) as usize + 4 <= self.heads_end());
        // SAFETY: a block of our memory, or a head behind it, of one extent.
        let granule = unsafe { self.base.add(offset as usize) };
        // SAFETY: one of the words of a granule, of the first two of a head.
        unsafe { granule.add(at as usize) }.cast()
    }

    /// See [`Self::place_of`].
    #[inline]
    pub(super) fn word(self, offset: u32, at: u32) -> u32 {
        // SAFETY: in our extent, aligned; written when the free block was linked (T2) or the head
        // was made, and nobody else uses them.
        unsafe { self.place_of(offset, at).read() }
    }

    #[inline]
    pub(super) fn set_word(self, offset: u32, at: u32, value: u32) {
        // SAFETY: in our extent, aligned, of a head or of a block that nobody uses.
        unsafe { self.place_of(offset, at).write(value) };
    }

    /// Bytes of memory and heads.
    pub(super) fn heads_end(self) -> usize {
        self.bits.as_ptr().addr() - self.base.as_ptr().addr()
    }

    /// The word of the table with bit `index`, which is that of a granule and 64.
    #[inline]
    pub(super) fn bit_word(self, index: u32) -> NonNull<u64> {
        debug_assert!(index as usize <= self.memory_bytes as usize / GRANULE_BYTES + 64);
        // SAFETY: the table has a bit for each granule, one behind, and a word before.
        unsafe { self.bits.add((index / u64::BITS) as usize) }
    }

    /// Whether bit `index` is set.
    #[inline]
    pub(super) fn bit_at(self, index: u32) -> bool {
        // SAFETY: a word of our table, which was zeroed and that only this thread uses.
        let word = unsafe { self.bit_word(index).read() };
        word >> (index % u64::BITS) & 1 == 1
    }

    #[inline]
    pub(super) fn set_bit_at(self, index: u32, to: bool) {
        let place = self.bit_word(index);
        // SAFETY: as in `bit_at`.
        let word = unsafe { place.read() };
        let (off, on) = (1 << (index % u64::BITS), u64::from(to) << (index % u64::BITS));
        let word = word & !off | on;
        // SAFETY: as in `bit_at`.
        unsafe { place.write(word) };
    }

    /// Whether a free block begins or ends at the granule at `offset`; none does behind the last.
    #[inline]
    pub(super) fn bit(self, offset: u32) -> bool {
        self.bit_at(offset / GRANULE_BYTES as u32 + u64::BITS)
    }

    /// The same of the granule before `offset`; none does before the first.
    #[inline]
    pub(super) fn bit_before(self, offset: u32) -> bool {
        self.bit_at(offset / GRANULE_BYTES as u32 + u64::BITS - 1)
    }

    #[inline]
    pub(super) fn set_bit(self, offset: u32, to: bool) {
        self.set_bit_at(offset / GRANULE_BYTES as u32 + u64::BITS, to);
    }

    #[inline]
    pub(super) fn set_bit_before(self, offset: u32, to: bool) {
        self.set_bit_at(offset / GRANULE_BYTES as u32 + u64::BITS - 1, to);
    }
}

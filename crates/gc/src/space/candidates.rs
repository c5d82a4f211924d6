//! Candidates: which blocks are to be emptied in this cycle. A word for each block of a block
//! space: 0, or the rank of the block among the candidates, and what has become of it.

use core::ptr::NonNull;

use crate::HeapError;
use crate::memory::Reserve;
use crate::space::{AddressRange, BLOCK_BYTES};

/// The block's objects are being moved.
const MOVING: u32 = 1 << 31;
/// The block has an object that must stay where it is.
const PINNED: u32 = 1 << 30;
const RANK: u32 = PINNED - 1;

/// The map of one block space, in memory that its owner keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CandidateMap {
    range: AddressRange,
    words: NonNull<u32>,
}

impl CandidateMap {
    /// The map of a space of `range`, and its memory.
    pub(crate) fn new(range: AddressRange) -> Result<(Self, Reserve), HeapError> {
        let memory = Reserve::new(range.bytes / BLOCK_BYTES * size_of::<u32>())?;
        Ok((Self { range, words: memory.start().cast() }, memory))
    }

    /// The addresses of the space.
    pub(crate) fn range(&self) -> AddressRange {
        self.range
    }

    fn place(&self, block: usize) -> NonNull<u32> {
        debug_assert!(block < self.range.bytes / BLOCK_BYTES);
        // SAFETY: the map has a word for each block of the space.
        unsafe { self.words.add(block) }
    }

    #[inline]
    fn word(&self, block: usize) -> u32 {
        // SAFETY: an initialised word of the map. The heap's own thread alone writes it, and does
        // not while others read.
        unsafe { self.place(block).read() }
    }

    fn set(&mut self, block: usize, word: u32) {
        // SAFETY: as in `word`; no reference into the map exists.
        unsafe { self.place(block).write(word) };
    }

    /// The word of the block at `address`; 0 for addresses outside the space.
    #[inline]
    fn word_at(&self, address: usize) -> u32 {
        let offset = address.wrapping_sub(self.range.start);
        if offset < self.range.bytes { self.word(offset / BLOCK_BYTES) } else { 0 }
    }

    /// The rank of the candidate at `address`, from 1 on; 0 if there is none, or it has to stay.
    #[inline]
    pub(crate) fn rank(&self, address: usize) -> u32 {
        let word = self.word_at(address);
        if word & PINNED == 0 { word & RANK } else { 0 }
    }

    /// Whether the object at `address` has to move now.
    #[inline]
    pub(crate) fn is_moving(&self, address: usize) -> bool {
        self.word_at(address) & MOVING != 0
    }

    /// The block at `address` stays, if it is a candidate.
    pub(crate) fn pin(&mut self, address: usize) {
        let word = self.word_at(address);
        if word & RANK != 0 {
            debug_assert!(word & MOVING == 0, "nothing is pinned while it moves");
            self.set((address - self.range.start) / BLOCK_BYTES, word | PINNED);
        }
    }

    /// Makes `block` a candidate.
    pub(crate) fn add(&mut self, block: usize, rank: usize) {
        debug_assert!(rank > 0 && rank < RANK as usize);
        self.set(block, rank as u32);
    }

    /// Whether `block` may still be emptied; it moves from now on if so.
    pub(crate) fn begin_move(&mut self, block: usize) -> bool {
        let word = self.word(block);
        if word & PINNED != 0 {
            return false;
        }
        self.set(block, word | MOVING);
        true
    }

    /// `block` is no candidate any more.
    pub(crate) fn remove(&mut self, block: usize) {
        self.set(block, 0);
    }
}

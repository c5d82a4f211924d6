//! Spaces: parts of the heap's addresses under one policy.

mod block;
mod bump;
mod candidates;
mod large;
mod prepared;
mod word_map;

pub(crate) use block::{BLOCK_BYTES, BlockSpace, LINE_BYTES, LineMap};
pub(crate) use bump::{BumpSpace, GRANT_BYTES};
pub(crate) use candidates::CandidateMap;
pub(crate) use large::LargeSpace;
pub(crate) use prepared::Prepared;
pub(crate) use word_map::WordMap;

use core::ptr::NonNull;

/// Objects above this size, head included, lie in the large space and never move. A quarter of a
/// block, so that a hole search never wastes more than that.
pub(crate) const LARGE_BYTES: usize = BLOCK_BYTES / 4;

/// The most that is given out for one object that is not large: a block, or a piece to bump through.
pub(crate) const GIVEN_BYTES_MAX: usize =
    if BLOCK_BYTES > GRANT_BYTES { BLOCK_BYTES } else { GRANT_BYTES };

/// A range of addresses, for the question whether an object lies in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressRange {
    pub(crate) start: usize,
    pub(crate) bytes: usize,
}

impl AddressRange {
    pub(crate) const EMPTY: Self = Self { start: 0, bytes: 0 };

    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Self {
        Self { start: start.addr().get(), bytes }
    }

    /// One comparison.
    #[inline]
    pub(crate) fn contains(self, address: usize) -> bool {
        address.wrapping_sub(self.start) < self.bytes
    }
}

/// Unused memory: `bytes`, a multiple of 8, from `start`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hole {
    pub(crate) start: NonNull<u8>,
    pub(crate) bytes: usize,
}

impl Hole {
    pub(crate) const EMPTY: Self = Self { start: NonNull::dangling(), bytes: 0 };

    /// Cuts `bytes` off the front, if the hole has as many.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let rest = self.bytes.checked_sub(bytes)?;
        let taken = self.start;
        // SAFETY: at most `self.bytes` further, so inside the hole or at its end.
        self.start = unsafe { taken.add(bytes) };
        self.bytes = rest;
        Some(taken)
    }
}

/// Where marking records which memory is live.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LiveSet {
    /// Lines of blocks.
    Lines(LineMap),
    /// Words of a space that will be compacted.
    Words(WordMap),
}

impl LiveSet {
    /// As [`LiveSet::record`], while other threads do so, too.
    #[inline]
    pub(crate) fn record_shared(&mut self, start: NonNull<u8>, bytes: usize) {
        match self {
            Self::Lines(lines) => lines.record(start, bytes),
            Self::Words(words) => words.record_shared(start, bytes),
        }
    }

    /// Records `bytes` from `start` as live; objects of other spaces are ignored.
    #[inline]
    pub(crate) fn record(&mut self, start: NonNull<u8>, bytes: usize) {
        match self {
            Self::Lines(lines) => lines.record(start, bytes),
            Self::Words(words) => words.record(start, bytes),
        }
    }
}

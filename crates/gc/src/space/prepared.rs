//! Memory that is there before it is needed: the front of what a space has never used, so that a
//! collection which copies into it waits for no page.
//!
//! The pages come from the kernel while the program runs, or from another space that has more than
//! it uses: moving them costs page-table work and no first touch.
//!
//! # Invariants
//! - Q1: bytes below `end` have been touched since they were last given back, as far as the kernel
//!   had memory; nothing depends on it but time.

use core::ptr::NonNull;

use heapwright_os::move_pages;

use crate::memory::{HUGE_PAGE_BYTES, populate};
use crate::space::{BLOCK_BYTES, BumpSpace};

#[derive(Debug)]
pub(crate) struct Prepared {
    start: NonNull<u8>,
    /// Bytes of the space.
    bytes: usize,
    end: usize,
    /// The kernel does not move pages.
    refused: bool,
}

impl Prepared {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Self {
        Self { start, bytes, end: 0, refused: false }
    }

    /// Asks the kernel for the memory of `bytes` from the offset `from` on, where the space was
    /// never used. O(1) when they were prepared before; else the page faults of what is new.
    pub(crate) fn prepare(&mut self, from: usize, bytes: usize) {
        self.end = self.end.max(from);
        let wanted = self.rounded(from + bytes);
        if wanted <= self.end {
            return;
        }
        // SAFETY: `end < wanted`, which lies in the space.
        let first = unsafe { self.start.add(self.end) };
        // SAFETY: whole pages of ours.
        unsafe { populate(first, wanted - self.end) };
        self.end = wanted;
    }

    /// As [`Prepared::prepare`] with memory that `giver` has and does not use, in whole huge pages,
    /// as far as there is such.
    pub(crate) fn take_over(&mut self, from: usize, bytes: usize, giver: &mut BumpSpace) {
        self.end = self.end.max(from);
        let wanted = self.rounded(from + bytes);
        // SAFETY: inside the space.
        let to = unsafe { self.start.add(self.end) };
        if self.refused || wanted <= self.end || !is_huge_aligned(to) {
            return;
        }
        let Some((pages, count)) = giver.spare(wanted - self.end) else { return };
        // SAFETY: the giver's pages hold nothing, this space was never used from `end` on, and
        // both are private anonymous memory of one reserve.
        match unsafe { move_pages(pages, to, count) } {
            Ok(()) => self.end += count,
            Err(_) => self.refused = true,
        }
    }

    /// A block's end; behind the first huge page, the end of one, which is touched as a whole.
    fn rounded(&self, end: usize) -> usize {
        let first_huge = self.start.as_ptr().align_offset(HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES;
        let unit = if end > first_huge { HUGE_PAGE_BYTES } else { BLOCK_BYTES };
        let address = self.start.addr().get();
        ((address + end).next_multiple_of(unit) - address).min(self.bytes)
    }
}

/// Whether a huge page can begin at `place`.
pub(crate) fn is_huge_aligned(place: NonNull<u8>) -> bool {
    place.addr().get().is_multiple_of(HUGE_PAGE_BYTES)
}

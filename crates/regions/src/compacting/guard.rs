//! Pins that end by themselves.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use heapwright_core::backing::Backing;

use super::heap::CompactingHeap;

/// A block that stays where it is.
pub struct PinnedBlock<'a, B: Backing> {
    heap: &'a CompactingHeap<B>,
    place: u32,
    bytes: usize,
}

impl<'a, B: Backing> PinnedBlock<'a, B> {
    /// For a pin that was just taken.
    #[inline(always)]
    pub(super) fn new(heap: &'a CompactingHeap<B>, place: u32, bytes: usize) -> Self {
        Self { heap, place, bytes }
    }
}

impl<B: Backing> Deref for PinnedBlock<'_, B> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        let data = NonNull::slice_from_raw_parts(self.heap.memory.data(self.place), self.bytes);
        // SAFETY: a live block of that length, initialised when it was made; while it is pinned
        // for reading, it stays (M7) and nobody writes.
        unsafe { data.as_ref() }
    }
}

impl<B: Backing> Drop for PinnedBlock<'_, B> {
    #[inline(always)]
    fn drop(&mut self) {
        self.heap.unpin_at(self.place);
    }
}

impl<B: Backing> fmt::Debug for PinnedBlock<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A block that stays where it is and nobody else has pinned.
pub struct PinnedBlockMut<'a, B: Backing> {
    heap: &'a CompactingHeap<B>,
    place: u32,
    bytes: usize,
}

impl<'a, B: Backing> PinnedBlockMut<'a, B> {
    /// For a writer's pin that was just taken.
    #[inline(always)]
    pub(super) fn new(heap: &'a CompactingHeap<B>, place: u32, bytes: usize) -> Self {
        Self { heap, place, bytes }
    }
}

impl<B: Backing> Deref for PinnedBlockMut<'_, B> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        let data = NonNull::slice_from_raw_parts(self.heap.memory.data(self.place), self.bytes);
        // SAFETY: as for a reader; only we have it pinned.
        unsafe { data.as_ref() }
    }
}

impl<B: Backing> DerefMut for PinnedBlockMut<'_, B> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        let data = self.heap.memory.data(self.place);
        let mut data = NonNull::slice_from_raw_parts(data, self.bytes);
        // SAFETY: as for a reader; only we have it pinned, and we are borrowed exclusively.
        unsafe { data.as_mut() }
    }
}

impl<B: Backing> Drop for PinnedBlockMut<'_, B> {
    #[inline(always)]
    fn drop(&mut self) {
        self.heap.unpin_at(self.place);
    }
}

impl<B: Backing> fmt::Debug for PinnedBlockMut<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

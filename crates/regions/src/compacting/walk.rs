//! Walks over all blocks, in the order of their addresses.

use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;

use super::access::AccessError;
use super::guard::PinnedBlock;
use super::header::{DEAD, NAMES};
use super::heap::CompactingHeap;
use crate::pool::Handle;

impl<B: Backing> CompactingHeap<B> {
    /// The next live block at or after `place`: its place and name, and where to go on.
    #[inline]
    pub(super) fn next_live(&self, mut place: u32) -> Option<(u32, (u32, u32), u32)> {
        while place < self.top.get() {
            if self.gap_start() == Some(place) {
                place += self.gap_granules();
                continue;
            }
            // SAFETY: where one block ends another begins, but for the gap (M1).
            let header = unsafe { self.memory.header(place) };
            let next = place + header.granules();
            if header.state.get() & (DEAD | NAMES) == 0 {
                return Some((place, (header.owner.get(), header.generation.get()), next));
            }
            place = next;
        }
        None
    }

    /// All blocks with their handles, in the order of their addresses, each pinned while its guard
    /// lives; those made meanwhile may be among them. Nothing moves during a walk.
    ///
    /// [`AccessError::InUse`] for a block that is pinned for writing.
    pub fn iter(&self) -> Blocks<'_, B> {
        self.walk_count.set(self.walk_count.get() + 1);
        Blocks { heap: self, next: 0 }
    }

    /// Calls `visit` with all blocks, in the order of their addresses: one pass over dense memory
    /// after a compaction.
    pub fn for_each_mut(&mut self, mut visit: impl FnMut(Handle<[u8]>, &mut [u8])) {
        self.finish_move();
        let mut place = 0;
        while let Some((at, (index, generation), next)) = self.next_live(place) {
            // SAFETY: a live block.
            let bytes = unsafe { self.memory.header(at) }.length.get() as usize;
            let mut data = NonNull::slice_from_raw_parts(self.memory.data(at), bytes);
            // SAFETY: initialised when it was made; borrowed exclusively as the heap is, so no
            // guard lives.
            visit(Handle::of_parts(index, generation), unsafe { data.as_mut() });
            place = next;
        }
    }
}

/// Of [`CompactingHeap::iter`].
pub struct Blocks<'a, B: Backing> {
    heap: &'a CompactingHeap<B>,
    next: u32,
}

impl<'a, B: Backing> Iterator for Blocks<'a, B> {
    type Item = (Handle<[u8]>, Result<PinnedBlock<'a, B>, AccessError>);

    fn next(&mut self) -> Option<Self::Item> {
        let (place, (index, generation), next) = self.heap.next_live(self.next)?;
        self.next = next;
        let pinned = self.heap.pin_at(place);
        let block = pinned.map(|(place, bytes)| PinnedBlock::new(self.heap, place, bytes));
        Some((Handle::of_parts(index, generation), block))
    }
}

impl<B: Backing> Drop for Blocks<'_, B> {
    fn drop(&mut self) {
        self.heap.walk_count.set(self.heap.walk_count.get() - 1);
    }
}

impl<B: Backing> fmt::Debug for Blocks<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").field("next", &self.next).finish_non_exhaustive()
    }
}

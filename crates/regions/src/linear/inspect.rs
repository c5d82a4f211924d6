//! What looks at all chunks of an arena: figures, purging, the walk of the invariants.

use core::ptr::NonNull;

use heapwright_core::backing::{Backing, Purge};
use heapwright_core::region_statistics::{Counts, Figure, RegionStatistics};

use super::arena::Linear;
use crate::chunk::Chunk;

/// Which list a chunk is in.
#[derive(Clone, Copy, Debug)]
pub(super) enum List {
    Chunks,
    Oversize,
    Spare,
}

impl<B: Backing, C: Counts, const ALIGN: usize> Linear<B, C, ALIGN> {
    /// What the arena holds now. Walks the chunks, and asks the kernel about each.
    pub fn statistics(&self) -> RegionStatistics {
        let mut seen = RegionStatistics::default();
        let mut live = 0;
        let mut resident = Some(0);
        let mut dead = false;
        self.for_each_chunk(|at, list| {
            let chunk = self.chunk(at);
            let extent = chunk.extent.get();
            let is_current = self.current.get() == Some(at);
            let used = match list {
                List::Chunks if is_current => {
                    self.cursor.get().as_ptr().addr() - extent.start.as_ptr().addr()
                }
                List::Chunks if dead => 0,
                List::Chunks | List::Oversize => chunk.used_bytes.get(),
                List::Spare => 0,
            };
            dead |= is_current;
            live += used.saturating_sub(Self::HEADER_BYTES);
            seen.reserved_bytes += extent.reserved_bytes;
            seen.committed_bytes += extent.committed_bytes;
            let committed = 0..extent.committed_bytes;
            // SAFETY: a live extent of this backing.
            let here = unsafe { self.backing.resident_bytes(&extent, committed) };
            resident = resident.zip(here).map(|(sum, here)| sum + here);
        });
        seen.live_bytes = Figure::Exact(live);
        seen.resident_bytes = resident.into();
        seen.free_bytes = Figure::Exact(seen.committed_bytes - live);
        seen.largest_free_bytes = self.room();
        self.counts.report(&mut seen);
        if self.rewound.get() {
            for figure in [&mut seen.live_count, &mut seen.requested_bytes] {
                *figure = figure.value().map_or(Figure::Unknown, Figure::AtMost);
            }
        }
        seen
    }

    /// Overwrites all memory that was ever used with `byte`. No block lives: it is exclusive.
    pub(crate) fn poison(&mut self, byte: u8) {
        self.leave();
        self.for_each_chunk(|at, _| {
            let chunk = self.chunk(at);
            let from = Self::HEADER_BYTES;
            let to = chunk.high_bytes.get().max(chunk.used_bytes.get()).max(from);
            // Red zones and dead blocks of `Checked` are forbidden to all others.
            crate::annotate::permit(chunk.at(from), to - from);
            // SAFETY: committed bytes behind the header, in which no block lives.
            unsafe { chunk.at(from).write_bytes(byte, to - from) };
        });
    }

    /// How many bytes from the start of a block just made were in use before.
    pub(crate) fn bytes_used_before(&self, block: NonNull<u8>, bytes: usize) -> usize {
        let start = block.as_ptr().addr();
        let in_current = self.current.get().and_then(|at| self.chunk(at).offset_of(start));
        in_current.map_or(0, |_| self.high.get().saturating_sub(start).min(bytes))
    }

    /// Calls `visit` for every chunk; the chunk may be released by it.
    pub(super) fn for_each_chunk(&self, mut visit: impl FnMut(NonNull<Chunk>, List)) {
        let lists = [
            (self.first.get(), List::Chunks),
            (self.oversize.get(), List::Oversize),
            (self.spare.get(), List::Spare),
        ];
        for (head, list) in lists {
            let mut next = head;
            while let Some(at) = next {
                next = self.chunk(at).next.get();
                visit(at, list);
            }
        }
    }

    /// Tells the backing that memory which no block uses may be taken; its pages stay committed.
    /// One system call a chunk; nothing where the backing cannot.
    pub fn purge(&mut self) {
        self.leave();
        let mut dead = false;
        self.for_each_chunk(|at, list| {
            let chunk = self.chunk(at);
            let extent = chunk.extent.get();
            let used = match list {
                List::Chunks if !dead => chunk.used_bytes.get(),
                List::Oversize => extent.committed_bytes,
                List::Chunks | List::Spare => Self::HEADER_BYTES,
            };
            dead |= self.current.get() == Some(at);
            let from = used.next_multiple_of(extent.step_bytes);
            let to = extent.committed_bytes & !(extent.step_bytes - 1);
            if from < to {
                // SAFETY: committed bytes of a live extent, above every block in it (L2, L3).
                let _ = unsafe { self.backing.purge(&extent, from..to, Purge::Now) };
            }
        });
        self.check();
    }

    /// Walks the invariants; empty in release builds.
    pub(super) fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let cursor = self.cursor.get().as_ptr().addr();
        let end = self.end.get().as_ptr().addr();
        assert!(cursor <= end && cursor.is_multiple_of(ALIGN), "L1: {cursor:#x}, {end:#x}");
        let Some(at) = self.current.get() else {
            assert!(cursor == ALIGN && end == ALIGN, "L1: a cursor without a chunk");
            return;
        };
        let chunk = self.chunk(at);
        let first_block = chunk.at(Self::HEADER_BYTES).as_ptr().addr();
        assert!(first_block <= cursor && end <= chunk.end().as_ptr().addr(), "L1");
        assert!(chunk.offset_of(self.high.get()).is_some(), "L2: high is elsewhere");
        let mut found = false;
        self.for_each_chunk(|other, list| {
            found |= other == at && matches!(list, List::Chunks);
            let extent = self.chunk(other).extent.get();
            assert!(extent.committed_bytes <= extent.reserved_bytes);
            assert_eq!(extent.start.as_ptr().addr(), other.as_ptr().addr(), "L4");
        });
        assert!(found, "L3: the current chunk is in no list");
    }
}

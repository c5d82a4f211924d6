//! The end of all blocks: keeping the memory, or giving it back.

use core::ptr::NonNull;

use heapwright_core::backing::{Backing, Extent};
use heapwright_core::region_statistics::Counts;

use super::arena::Linear;
use crate::chunk::Chunk;

impl<B: Backing, C: Counts, const ALIGN: usize> Linear<B, C, ALIGN> {
    /// Ends every block, runs the registered destructors, and keeps all memory for what comes
    /// next: no system call. O(chunks + destructors).
    ///
    /// # Panics
    /// If a destructor does; the arena is then as before, without the values dropped so far.
    pub fn reset(&mut self) {
        // SAFETY: the exclusive borrow: nobody borrows a value.
        unsafe { self.run_destructors(None) };
        self.leave();
        self.for_each_chunk(|at, _| {
            self.chunk(at).used_bytes.set(Chunk::header_bytes(ALIGN));
        });
        self.spare_oversize(None);
        if let Some(first) = self.first.get() {
            self.enter(first, Chunk::header_bytes(ALIGN));
            self.chunk(first).used_bytes.set(Chunk::header_bytes(ALIGN));
        }
        self.floor.set(0);
        self.reset_count.set(self.reset_count.get().wrapping_add(1));
        self.rewound.set(false);
        self.counts.on_reset();
        self.check();
    }

    /// As [`Self::reset`], and gives back what is committed above `keep_bytes`: first the chunks
    /// of single blocks, then the chunks last made, then the end of the chunk that is left, as
    /// far as the backing can. One system call or two for each chunk that goes.
    pub fn reset_and_trim(&mut self, keep_bytes: usize) {
        self.reset();
        while let Some(at) = self.spare.get() {
            self.spare.set(self.chunk(at).next.get());
            self.release(at);
        }
        let mut kept = 0;
        let mut last_kept: Option<NonNull<Chunk>> = None;
        let mut next = self.first.get();
        while let Some(at) = next {
            let chunk = self.chunk(at);
            next = chunk.next.get();
            let committed = chunk.extent.get().committed_bytes;
            if kept + committed > keep_bytes && !self.trim(chunk, keep_bytes - kept) {
                match last_kept {
                    Some(before) => self.chunk(before).next.set(next),
                    None => self.first.set(next),
                }
                self.release(at);
                continue;
            }
            kept += chunk.extent.get().committed_bytes;
            last_kept = Some(at);
        }
        // The current chunk may have gone or become shorter.
        self.current.set(None);
        self.cursor.set(Self::NOWHERE);
        self.end.set(Self::NOWHERE);
        self.high.set(0);
        if let Some(first) = self.first.get() {
            self.enter(first, Chunk::header_bytes(ALIGN));
        }
        self.check();
    }

    /// Decommits what `chunk`, which has no blocks, has above `keep_bytes`; false if that is not
    /// worth it or the backing cannot.
    fn trim(&self, chunk: &Chunk, keep_bytes: usize) -> bool {
        let extent = chunk.extent.get();
        let from = keep_bytes & !(extent.step_bytes - 1);
        let to = extent.committed_bytes;
        if from < Chunk::header_bytes(ALIGN) || !to.is_multiple_of(extent.step_bytes) {
            return false;
        }
        // SAFETY: a live extent of this backing, and committed bytes of it behind the header, in
        // which no block lives.
        if unsafe { self.backing.decommit(&extent, from..to) }.is_err() {
            return false;
        }
        chunk.extent.set(Extent { committed_bytes: from, ..extent });
        // Bytes that come back read as they did when they were fresh.
        chunk.high_bytes.set(chunk.high_bytes.get().min(from));
        true
    }

    /// Makes the chunks of single blocks that are newer than `until` spare.
    pub(super) fn spare_oversize(&self, until: Option<NonNull<Chunk>>) {
        while self.oversize.get() != until {
            let Some(at) = self.oversize.get() else { return };
            let chunk = self.chunk(at);
            self.oversize.set(chunk.next.get());
            chunk.next.set(self.spare.get());
            self.spare.set(Some(at));
        }
    }

    /// Gives a chunk back that is in no list any more.
    fn release(&self, at: NonNull<Chunk>) {
        let extent = self.chunk(at).extent.get();
        // SAFETY: the extent of a chunk, once; it has no blocks and no list leads to it.
        unsafe { self.backing.release(extent) };
    }
}

impl<B: Backing, C: Counts, const ALIGN: usize> Drop for Linear<B, C, ALIGN> {
    /// Runs the registered destructors and gives everything back. If a destructor panics, the
    /// memory is leaked.
    fn drop(&mut self) {
        // SAFETY: the exclusive borrow: nobody borrows a value.
        unsafe { self.run_destructors(None) };
        self.for_each_chunk(|at, _| self.release(at));
    }
}

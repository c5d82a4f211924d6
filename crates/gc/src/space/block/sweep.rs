//! The sweep: free lines are found again, some blocks at a time.

use super::{BLOCK_BYTES, BlockSpace, LINE_BYTES, LINES_PER_BLOCK};
use crate::memory::purge;

/// Blocks swept at a time for an allocation that finds no room.
const SWEEP_BLOCKS: usize = 32;

impl BlockSpace {
    /// Ends marking: from now on holes come from swept blocks and from free ones.
    ///
    /// Of free blocks, those beyond `keep_bytes` will go back to the kernel.
    pub(crate) fn begin_sweep(&mut self, keep_bytes: usize) {
        self.keep_bytes = keep_bytes;
        self.recyclable.clear();
        self.medium_looked = 0;
        self.withheld_bytes = 0;
        self.free.clear();
        self.purged.clear();
        self.scanned = None;
        self.swept = 0;
        self.sweep_end = self.block_count;
        self.swept_bytes = 0;
        self.given_bytes = 0;
    }

    pub(super) fn is_sweeping(&self) -> bool {
        self.swept < self.sweep_end
    }

    /// Sweeps on where an allocation finds no room; returns whether there was something to sweep.
    #[cold]
    pub(super) fn sweep_more(&mut self) -> bool {
        let is_sweeping = self.is_sweeping();
        if is_sweeping {
            self.sweep_some(SWEEP_BLOCKS);
        }
        is_sweeping
    }

    /// Sweeps up to `blocks` more; returns whether all are swept.
    pub(crate) fn sweep(&mut self, blocks: usize) -> bool {
        debug_assert!(self.in_cycle);
        let done = self.sweep_some(blocks);
        if done {
            self.in_cycle = false;
            self.occupied_bytes = self.swept_bytes + self.given_bytes;
        }
        done
    }

    fn sweep_some(&mut self, blocks: usize) -> bool {
        let end = self.sweep_end.min(self.swept.saturating_add(blocks));
        for block in self.swept..end {
            self.sweep_block(block);
        }
        self.swept = end;
        end == self.sweep_end
    }

    fn sweep_block(&mut self, block: usize) {
        let cycle = self.lines.cycle;
        let mut live = 0;
        for line in self.block_lines(block) {
            let is_live = *line == cycle;
            live += usize::from(is_live);
            *line = if is_live { cycle } else { 0 };
        }
        self.swept_bytes += live * LINE_BYTES;
        if cfg!(debug_assertions) {
            self.poison(block);
        }
        if live == LINES_PER_BLOCK {
            return;
        }
        if live > 0 {
            self.recyclable.push(block as u32);
            return;
        }
        let first = self.block_start(block);
        if self.free.as_slice().len() * BLOCK_BYTES < self.keep_bytes {
            self.free.push(block as u32);
            return;
        }
        // SAFETY: a whole block of the space, and nothing in it lives.
        unsafe { purge(first, BLOCK_BYTES) };
        self.purged.push(block as u32);
    }

    /// Fills the free lines of a swept block, so that a stale reference is noticed.
    fn poison(&mut self, block: usize) {
        let start = self.block_start(block);
        for (index, line) in self.block_lines(block).iter().enumerate() {
            if *line == 0 {
                // SAFETY: a line of the block.
                let first = unsafe { start.add(index * LINE_BYTES) };
                // SAFETY: as above; no live object reaches into the line.
                unsafe { first.write_bytes(0xdb, LINE_BYTES) };
            }
        }
    }
}

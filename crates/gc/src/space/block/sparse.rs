//! Blocks with little in them: which are to be emptied, where to, and that they are.

use heapwright_sync::atomic::Ordering;

use super::{BLOCK_BYTES, BLOCK_ROOM_BYTES, BlockSpace, LINE_BYTES, LINES_PER_BLOCK};
use crate::memory::Table;
use crate::space::Hole;

/// Evacuation pays when it frees this part of the space; always in checking builds.
const FREED_PART_MIN: usize = if cfg!(debug_assertions) { usize::MAX } else { 32 };

impl BlockSpace {
    /// Shows blocks that hold something, less than `percent` of their size and less than
    /// `bytes_max` together, those with the least first in line, with at most `holes_max` free in
    /// them; none if that would free less than a part of the space that pays. Nothing is given out
    /// of them any more, so a cycle has to begin now. O(blocks).
    pub(crate) fn choose_sparse(
        &mut self,
        percent: u8,
        bytes_max: usize,
        holes_max: usize,
        chosen: &mut dyn FnMut(usize),
    ) {
        const STEPS: usize = 64;
        const STEP_BYTES: usize = BLOCK_BYTES / STEPS;
        let percent = if percent > 0 && cfg!(debug_assertions) { 90 } else { percent };
        // Sums by how much is in a block.
        let (mut bytes, mut blocks) = ([0; STEPS], [0; STEPS]);
        let sparse = 1..=BLOCK_BYTES * usize::from(percent) / 100;
        for live in (0..self.block_count).map(|block| self.live_bytes(block)) {
            if sparse.contains(&live) {
                bytes[live / STEP_BYTES] += live;
                blocks[live / STEP_BYTES] += 1;
            }
        }
        let (mut sum, mut freed, mut steps) = (0, 0, 0);
        while steps < STEPS && sum + bytes[steps] <= bytes_max {
            let more = blocks[steps] * BLOCK_BYTES - bytes[steps];
            if freed + more > holes_max {
                break;
            }
            sum += bytes[steps];
            freed += more;
            steps += 1;
        }
        // Of the next step, which may be all blocks where all are alike, as many as there is room for.
        let step = |live: usize| sparse.contains(&live).then_some(live / STEP_BYTES);
        let step_bytes = (steps + 1) * STEP_BYTES;
        let some = ((bytes_max - sum) / step_bytes).min((holes_max - freed) / BLOCK_BYTES);
        freed += some.min(blocks.get(steps).copied().unwrap_or(0))
            * BLOCK_BYTES.saturating_sub(step_bytes);
        if freed == 0 || freed < self.block_count * BLOCK_BYTES / FREED_PART_MIN {
            return;
        }
        let mut alike =
            (0..self.block_count).filter(|at| step(self.live_bytes(*at)) == Some(steps));
        let end = alike.nth(some).unwrap_or(self.block_count);
        let is_chosen = |block: usize, live: usize| {
            step(live).is_some_and(|step| step < steps || step == steps && block < end)
        };
        (0..self.block_count)
            .filter(|block| is_chosen(*block, self.live_bytes(*block)))
            .for_each(chosen);
        let mut kept = 0;
        for index in 0..self.recyclable.as_slice().len() {
            let block = self.recyclable.as_slice()[index];
            let live = self.live_bytes(block as usize);
            if is_chosen(block as usize, live) {
                // No fewer than there are: lines with something in them count as holes in part.
                self.withheld_bytes += BLOCK_BYTES - live;
            } else {
                self.recyclable.as_mut_slice()[kept] = block;
                kept += 1;
            }
        }
        self.recyclable.truncate(kept);
        self.medium_looked = 0;
        self.scanned = None;
    }

    /// Bytes of the lines of `block` that are marked or were given out in this cycle: no less than
    /// what is live in it, however many threads have marked.
    pub(crate) fn marked_bytes(&mut self, block: usize) -> usize {
        let cycle = self.lines.cycle;
        let lines = self.block_lines(block);
        lines.iter().filter(|line| **line == cycle).count() * LINE_BYTES
    }

    /// Takes whole blocks for copies of small objects with `bytes` together, whatever their sizes,
    /// by `threads` threads; returns whether there were as many, and room for them: `room_bytes` up
    /// to the heap's limit. O(blocks).
    pub(crate) fn take_spare(
        &mut self,
        bytes: usize,
        threads: usize,
        room_bytes: usize,
        spare: &mut Table<Hole>,
    ) -> bool {
        let count = bytes / BLOCK_ROOM_BYTES + threads;
        if count.saturating_sub(spare.as_slice().len()) > room_bytes / BLOCK_BYTES {
            return false;
        }
        while spare.as_slice().len() < count {
            let Some(block) = self.fresh_block() else { return false };
            spare.push(self.give(block, 0, LINES_PER_BLOCK));
        }
        true
    }

    /// Takes back a block of [`BlockSpace::take_spare`] that was not used.
    pub(crate) fn give_up(&mut self, hole: Hole) {
        debug_assert!(hole.bytes == BLOCK_BYTES);
        self.empty((hole.start.addr().get() - self.lines.range.start) / BLOCK_BYTES);
    }

    /// Nothing is in `block` any more: the sweep of this cycle finds it free.
    pub(crate) fn empty(&mut self, block: usize) {
        debug_assert!(self.in_cycle);
        self.block_lines(block).fill(0);
        self.lines.live(block).store(0, Ordering::Relaxed);
    }
}

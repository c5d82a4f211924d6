//! Block space: blocks of lines; free lines are found hole by hole and filled by bumping.
//!
//! # Invariants
//! - B1: a line's byte is 0 if the line is free, or given out since it was last swept; otherwise
//!   the number of the last cycle that marked it, or in which it was given out of a recyclable
//!   block.
//! - B2: between cycles, each block is in exactly one of: never used, `free`, `purged`, `recyclable`,
//!   the one being scanned for holes, or full. A block leaves `recyclable` once per cycle, so no
//!   hole is given out twice.
//! - B4: `live` of a block is what the last cycle marked in it and what was given out of it since;
//!   during a cycle, of this one.
//! - B3: while a cycle runs, holes are marked as they are given out, so that what is allocated in
//!   them survives it.
//!
//! Source: Blackburn, McKinley, "Immix: a mark-region garbage collector", PLDI 2008.

mod sparse;
mod sweep;

use core::ptr::NonNull;

use heapwright_sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::HeapError;
use crate::memory::{Reserve, Table, populate};
use crate::object::prefetch;
use crate::space::{AddressRange, BumpSpace, Hole, LARGE_BYTES, Prepared};

/// Freed and given out as a whole. The size of the source, four or eight OS pages.
pub(crate) const BLOCK_BYTES: usize = 32 << 10;
/// The unit that is marked: two cache lines.
pub(crate) const LINE_BYTES: usize = 128;
const LINES_PER_BLOCK: usize = BLOCK_BYTES / LINE_BYTES;
/// Blocks by which the holes of all are judged: a microsecond or two.
const SAMPLE_BLOCKS: usize = if cfg!(debug_assertions) { 4 } else { 32 };
/// What a block has room for at least, whatever the objects' sizes: the rest that one does not fit
/// into is smaller than it.
const BLOCK_ROOM_BYTES: usize = BLOCK_BYTES - LARGE_BYTES;

/// A byte for each line of a block space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineMap {
    range: AddressRange,
    bytes: NonNull<u8>,
    /// Live bytes of each block (B4).
    live: NonNull<u32>,
    cycle: u8,
}

impl LineMap {
    /// Asks for the byte of the line at `address`.
    #[inline]
    pub(crate) fn prefetch(&self, address: usize) {
        let offset = address.wrapping_sub(self.range.start);
        prefetch(self.bytes.as_ptr().wrapping_add(offset / LINE_BYTES));
    }

    /// Marks the lines of `bytes` from `start`, if they lie in the space.
    #[inline]
    pub(crate) fn record(&mut self, start: NonNull<u8>, bytes: usize) {
        let offset = start.addr().get().wrapping_sub(self.range.start);
        if offset < self.range.bytes {
            for line in offset / LINE_BYTES..=(offset + bytes - 1) / LINE_BYTES {
                // SAFETY: the object ends inside the space, and the map has a byte a line.
                let place = unsafe { self.bytes.add(line) };
                // SAFETY: as above; while several threads mark, all write through here.
                let place = unsafe { AtomicU8::from_ptr(place.as_ptr()) };
                // Relaxed: the map is read when marking has ended.
                place.store(self.cycle, Ordering::Relaxed);
            }
            self.add_live(offset / BLOCK_BYTES, bytes);
        }
    }

    #[inline]
    fn live(&self, block: usize) -> &AtomicU32 {
        // SAFETY: `live` has a word for each block.
        let place = unsafe { self.live.add(block) };
        // SAFETY: a word of the map, which lives as long as the space; all go through here.
        unsafe { AtomicU32::from_ptr(place.as_ptr()) }
    }

    /// Counts `bytes` more in `block`. What two threads add at once may be counted once: it is
    /// what candidates are chosen by, and nothing else.
    #[inline]
    fn add_live(&self, block: usize, bytes: usize) {
        let live = self.live(block);
        // Relaxed: see above.
        live.store(live.load(Ordering::Relaxed) + bytes as u32, Ordering::Relaxed);
    }
}

/// Blocks and lines.
#[derive(Debug)]
pub(crate) struct BlockSpace {
    start: NonNull<u8>,
    block_limit: usize,
    /// Keep the memory of `lines`.
    _maps: [Reserve; 2],
    lines: LineMap,
    /// Blocks ever used.
    block_count: usize,
    /// The next ones.
    prepared: Prepared,
    free: Table<u32>,
    /// Free blocks whose memory the kernel has.
    purged: Table<u32>,
    recyclable: Table<u32>,
    /// The block being scanned for holes, and the next line to look at.
    scanned: Option<(usize, usize)>,
    /// Where objects of more than a line go.
    medium: Hole,
    /// So many of `recyclable` have no hole for them.
    medium_looked: usize,
    /// The lines of the longest that looked for a hole in this cycle, and in the one before.
    medium_lines: [usize; 2],
    occupied_bytes: usize,
    /// Bytes of holes in candidates of this cycle, which nothing is given out of before it ends.
    withheld_bytes: usize,
    /// Whether a cycle is marking or sweeping (B3).
    in_cycle: bool,
    /// The next block to sweep, while a cycle sweeps.
    swept: usize,
    /// Blocks at the beginning of the sweep; later ones are B3's.
    sweep_end: usize,
    /// Free blocks with so many bytes stay the heap's.
    keep_bytes: usize,
    /// Live bytes found by this sweep, and bytes given out while it ran.
    swept_bytes: usize,
    given_bytes: usize,
}

impl BlockSpace {
    /// A space of `bytes` from `start`, a multiple of the block size.
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Result<Self, HeapError> {
        let map = Reserve::new(bytes / LINE_BYTES)?;
        let live = Reserve::new(bytes / BLOCK_BYTES * size_of::<u32>())?;
        let lines = LineMap {
            range: AddressRange::new(start, bytes),
            bytes: map.start(),
            live: live.start().cast(),
            cycle: 0,
        };
        Ok(Self {
            start,
            block_limit: bytes / BLOCK_BYTES,
            _maps: [map, live],
            lines,
            block_count: 0,
            prepared: Prepared::new(start, bytes),
            free: Table::new(),
            purged: Table::new(),
            recyclable: Table::new(),
            scanned: None,
            medium: Hole::EMPTY,
            medium_looked: 0,
            medium_lines: [0; 2],
            occupied_bytes: 0,
            withheld_bytes: 0,
            in_cycle: false,
            swept: 0,
            sweep_end: 0,
            keep_bytes: 0,
            swept_bytes: 0,
            given_bytes: 0,
        })
    }

    /// Bytes of live lines, as far as known, and of all holes given out since.
    pub(crate) fn occupied_bytes(&self) -> usize {
        self.occupied_bytes
    }

    /// All addresses of the space.
    pub(crate) fn range(&self) -> AddressRange {
        self.lines.range
    }

    /// The blocks ever used.
    pub(crate) fn used(&self) -> AddressRange {
        AddressRange::new(self.start, self.block_count * BLOCK_BYTES)
    }

    /// Sees to it that `bytes` can be given out in whole blocks without waiting for memory: in free
    /// ones, or in new ones, whose pages come from the kernel or, while a collection runs, from
    /// `giver`.
    pub(crate) fn prepare(&mut self, bytes: usize, giver: Option<&mut BumpSpace>) {
        let rest = bytes.saturating_sub(self.free.as_slice().len() * BLOCK_BYTES);
        if rest == 0 {
            return;
        }
        let purged = self.purged.as_slice().len() * BLOCK_BYTES;
        let from = self.block_count * BLOCK_BYTES;
        match giver {
            // Those come first.
            Some(_) if purged > 0 => {}
            Some(giver) => self.prepared.take_over(from, rest, giver),
            None if purged == 0 => self.prepared.prepare(from, rest),
            None => {
                while self.free.as_slice().len() * BLOCK_BYTES < bytes
                    && let Some(block) = self.purged.pop()
                {
                    // SAFETY: a whole block of the space, which is free.
                    unsafe { populate(self.block_start(block as usize), BLOCK_BYTES) };
                    self.free.push(block);
                }
            }
        }
    }

    /// A hole of at least one line.
    pub(crate) fn next_hole(&mut self) -> Option<Hole> {
        loop {
            if let Some((block, from)) = self.scanned {
                let lines = self.block_lines(block);
                let first = lines[from..].iter().position(|line| *line == 0);
                if let Some(first) = first.map(|first| from + first) {
                    let len = lines[first..].iter().position(|line| *line != 0);
                    let end = len.map_or(LINES_PER_BLOCK, |len| first + len);
                    self.scanned = Some((block, end));
                    return Some(self.give(block, first, end));
                }
            }
            let block = self.recyclable.pop().map(|block| block as usize);
            match block.or_else(|| self.fresh_block()) {
                Some(block) => self.scanned = Some((block, 0)),
                None if self.sweep_more() => {}
                None => return None,
            }
        }
    }

    /// `bytes` for one object of more than a line and at most a quarter of a block.
    pub(crate) fn alloc_medium(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        if let Some(place) = self.medium.take(bytes) {
            return Some(place);
        }
        self.medium = self.medium_hole(bytes)?;
        self.medium.take(bytes)
    }

    /// Room for `bytes`: a free block, a hole long enough, a block never used, and last a hole
    /// again in what was too short for a longer one.
    #[cold]
    pub(crate) fn medium_hole(&mut self, bytes: usize) -> Option<Hole> {
        self.medium_lines[0] = self.medium_lines[0].max(bytes.div_ceil(LINE_BYTES));
        loop {
            let hole = self.find_medium_hole(bytes);
            if hole.is_some() || !self.sweep_more() {
                return hole;
            }
        }
    }

    fn find_medium_hole(&mut self, bytes: usize) -> Option<Hole> {
        if let Some(block) = self.free_block() {
            return Some(self.give(block, 0, LINES_PER_BLOCK));
        }
        if let Some(hole) = self.recycled_hole(bytes) {
            return Some(hole);
        }
        if let Some(block) = self.unused_block() {
            return Some(self.give(block, 0, LINES_PER_BLOCK));
        }
        self.medium_looked = 0;
        self.recycled_hole(bytes)
    }

    /// A hole of `bytes` in a recyclable block, which stays one: its lines are marked, so that
    /// nobody finds them again. Each block is looked at until it has no such hole, then not again in
    /// this cycle.
    fn recycled_hole(&mut self, bytes: usize) -> Option<Hole> {
        let wanted = bytes.div_ceil(LINE_BYTES);
        let cycle = self.lines.cycle;
        while let Some(&block) = self.recyclable.as_slice().get(self.medium_looked) {
            let lines = self.block_lines(block as usize);
            let mut first = 0;
            while let Some(from) = lines[first..].iter().position(|line| *line == 0) {
                first += from;
                let length = lines[first..].iter().take_while(|line| **line == 0).count();
                if length >= wanted {
                    lines[first..first + length].fill(cycle);
                    return Some(self.give(block as usize, first, first + length));
                }
                first += length;
            }
            self.medium_looked += 1;
        }
        None
    }

    /// Whether objects of `bytes` together, whatever their sizes, have room in whole blocks.
    pub(crate) fn has_blocks_for(&self, bytes: usize) -> bool {
        let unused = self.block_limit - self.block_count;
        let blocks = unused + self.free.as_slice().len() + self.purged.as_slice().len();
        blocks * BLOCK_ROOM_BYTES >= bytes
    }

    /// About how many bytes can still be given out before the cycle ends, or the next one: in free
    /// blocks and in holes that are not withheld. Where objects of more than a line are made, holes
    /// count that are long enough for those. Holes are judged by those of some blocks. O(1).
    pub(crate) fn room_bytes(&self) -> usize {
        let lines = self.medium_lines[0].max(self.medium_lines[1]);
        if lines == 0 && !self.is_sweeping() {
            let all = (self.block_limit * BLOCK_BYTES).saturating_sub(self.occupied_bytes);
            return all.saturating_sub(self.withheld_bytes);
        }
        let unused = self.block_limit - self.block_count;
        let whole = unused + self.free.as_slice().len() + self.purged.as_slice().len();
        let looked = if lines > 0 { self.medium_looked } else { 0 };
        let recyclable = self.recyclable.as_slice();
        let holes = sample(looked, recyclable.len(), |index| {
            long_holes(self.lines_of(recyclable[index] as usize), lines, |line| line == 0)
        });
        let cycle = self.lines.cycle;
        let unswept = sample(self.swept, self.sweep_end, |block| {
            long_holes(self.lines_of(block), lines, |line| line != cycle)
        });
        whole * BLOCK_BYTES + (holes + unswept) * LINE_BYTES
    }

    /// The map, as of now.
    pub(crate) fn line_map(&mut self) -> LineMap {
        self.lines
    }

    /// Starts a cycle; returns where it records live lines.
    pub(crate) fn begin_cycle(&mut self) -> LineMap {
        debug_assert!(!self.in_cycle, "one cycle at a time");
        self.in_cycle = true;
        self.medium_lines = [0, self.medium_lines[0]];
        // Holes given out before the cycle are not marked, so none may be used in it.
        self.medium = Hole::EMPTY;
        // 0 is for free lines.
        self.lines.cycle = self.lines.cycle % u8::MAX + 1;
        for block in 0..self.block_count {
            self.lines.live(block).store(0, Ordering::Relaxed);
        }
        self.lines
    }

    /// Bytes that were found live in `block`, or given out of it since.
    pub(crate) fn live_bytes(&self, block: usize) -> usize {
        self.lines.live(block).load(Ordering::Relaxed) as usize
    }

    /// The address of `block`.
    pub(crate) fn address(&self, block: usize) -> usize {
        self.block_start(block).addr().get()
    }

    fn fresh_block(&mut self) -> Option<usize> {
        self.free_block().or_else(|| self.unused_block())
    }

    fn free_block(&mut self) -> Option<usize> {
        self.free.pop().or_else(|| self.purged.pop()).map(|block| block as usize)
    }

    /// A block that was never used.
    fn unused_block(&mut self) -> Option<usize> {
        if self.block_count == self.block_limit {
            return None;
        }
        self.block_count += 1;
        Some(self.block_count - 1)
    }

    /// The lines `first..end` of `block` as a hole.
    fn give(&mut self, block: usize, first: usize, end: usize) -> Hole {
        if self.in_cycle {
            let cycle = self.lines.cycle;
            self.block_lines(block)[first..end].fill(cycle);
        }
        let bytes = (end - first) * LINE_BYTES;
        self.occupied_bytes += bytes;
        self.given_bytes += bytes;
        self.lines.add_live(block, bytes);
        // SAFETY: `first` is a line of the block.
        let start = unsafe { self.block_start(block).add(first * LINE_BYTES) };
        Hole { start, bytes }
    }

    fn block_start(&self, block: usize) -> NonNull<u8> {
        debug_assert!(block < self.block_limit);
        // SAFETY: blocks below the limit lie in the space.
        unsafe { self.start.add(block * BLOCK_BYTES) }
    }

    fn lines_of(&self, block: usize) -> &[u8] {
        debug_assert!(block < self.block_limit);
        // SAFETY: the map has a byte for each line of each block.
        let first = unsafe { self.lines.bytes.add(block * LINES_PER_BLOCK) };
        // SAFETY: as above; copies of `LineMap` write through their pointer, but not while this
        // borrow of the space lasts.
        unsafe { core::slice::from_raw_parts(first.as_ptr(), LINES_PER_BLOCK) }
    }

    fn block_lines(&mut self, block: usize) -> &mut [u8] {
        debug_assert!(block < self.block_limit);
        // SAFETY: the map has a byte for each line of each block.
        let first = unsafe { self.lines.bytes.add(block * LINES_PER_BLOCK) };
        // SAFETY: as above; copies of `LineMap` write through their pointer, but not while this
        // borrow of the space lasts.
        unsafe { core::slice::from_raw_parts_mut(first.as_ptr(), LINES_PER_BLOCK) }
    }
}

/// The sum of what `lines` tells of each from `first` up to `end`, judged by some of them.
fn sample(first: usize, end: usize, lines: impl Fn(usize) -> usize) -> usize {
    let count = end.saturating_sub(first);
    let step = count.div_ceil(SAMPLE_BLOCKS).max(1);
    let (found, looked) = (first..end)
        .step_by(step)
        .fold((0, 0), |(found, looked), index| (found + lines(index), looked + 1));
    (found * count).checked_div(looked).unwrap_or(0)
}

/// The number of lines in holes of at least `lines` in a block's.
fn long_holes(block: &[u8], lines: usize, is_free: impl Fn(u8) -> bool) -> usize {
    let holes = block.split(|line| !is_free(*line)).map(<[u8]>::len);
    holes.filter(|len| *len >= lines).sum()
}

#[cfg(test)]
mod tests;

//! Compaction, a little at a time: pack names, slide blocks down, give memory back.
//!
//! A pass walks the blocks from the first to the last. Behind it everything is dense but for what
//! pinned blocks left; between `to` and `from` is a gap; before it everything is as it was. Every
//! step ends with a whole heap, which may be used and changed before the next.

use core::cell::Cell;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;

use super::header::{DEAD, GRANULE_BYTES, Header, MOVING, NAMES, NONE};
use super::heap::CompactingHeap;
#[cfg(feature = "os")]
use super::pacing::for_time;
use super::pacing::{Busy, RETURN_BYTES, RETURN_WORK};
use crate::pool::Handle;

/// What looking at one header counts as, in bytes copied: both may be a miss of the cache.
const LOOK_WORK: usize = 64;
/// Longer blocks are copied in pieces of this many bytes.
const PIECE_BYTES: usize = 32 << 10;
/// A pass that nobody ordered begins when one granule in so many died since the last one.
const DEAD_SHARE: u32 = 32;

/// A block or value that has another address now.
#[derive(Debug)]
pub struct Moved<T: ?Sized> {
    /// Its name.
    pub handle: Handle<T>,
    /// Where it was; other contents are or will be there.
    pub from: NonNull<u8>,
    /// Where it is. Its bytes may be read and written under a pin only: those of a long block are
    /// copied in several steps, and a pin ends that.
    pub to: NonNull<u8>,
    /// Its length.
    pub bytes: usize,
}

/// What a call of a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Blocks that have another address now, with those that hold names.
    pub moved_count: usize,
    /// Bytes that were copied, bookkeeping included.
    pub moved_bytes: usize,
    /// Bytes given back to the backing.
    pub released_bytes: usize,
    /// The pass is over, or there was nothing worth one. False also if nothing could be done: a
    /// walk over the blocks is under way, or the call came from the callback of another.
    pub finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The group whose names are next.
    Packing(u32),
    Sliding,
    Returning,
}

/// A block whose contents are being copied; its header and its name are at the new place.
#[derive(Clone, Copy, Debug)]
struct Transit {
    block: u32,
    from: u32,
    to: u32,
    granules: u32,
}

/// Where a pass is.
#[derive(Debug)]
pub(super) struct Sweep {
    phase: Cell<Phase>,
    /// The next block to look at; `NONE` unless sliding.
    from: Cell<u32>,
    /// Where it goes.
    to: Cell<u32>,
    transit: Cell<Option<Transit>>,
    busy: Cell<bool>,
    /// Dead granules when the last pass ended.
    dead_before: Cell<u32>,
}

impl Sweep {
    pub(super) const fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Idle),
            from: Cell::new(NONE),
            to: Cell::new(NONE),
            transit: Cell::new(None),
            busy: Cell::new(false),
            dead_before: Cell::new(0),
        }
    }

    /// Holes from here on are in no list: the pass comes by.
    #[inline(always)]
    pub(super) fn from(&self) -> u32 {
        self.from.get()
    }
}

impl<B: Backing> CompactingHeap<B> {
    /// Moves everything that can be moved together and gives the rest back. Time in proportion to
    /// the live bytes behind the first hole.
    pub fn compact(&self) -> Compaction {
        let mut done = Compaction::default();
        // What is under way has not seen what died behind it.
        if self.sweep.phase.get() != Phase::Idle {
            self.step(usize::MAX, true, &mut done, &mut |_| {});
        }
        self.step(usize::MAX, true, &mut done, &mut |_| {});
        done
    }

    /// Goes on with a pass, or begins one if more than one byte in 32 died since the last, until
    /// some `work_bytes` were copied; `usize::MAX` for the whole pass. Looking at a block counts
    /// as 64 bytes, giving 256 KiB back as 64 KiB. At most 64 KiB more than asked for is done.
    ///
    /// `on_move` is told of each block after its handle leads to the new address. It may use the
    /// heap.
    pub fn compact_step(
        &self,
        work_bytes: usize,
        mut on_move: impl FnMut(&Moved<[u8]>),
    ) -> Compaction {
        let mut done = Compaction::default();
        self.step(work_bytes, false, &mut done, &mut on_move);
        done
    }

    /// As [`compact_step`](Self::compact_step), for about that long: the clock is read every ten
    /// microseconds or so.
    #[cfg(feature = "os")]
    pub fn compact_for(
        &self,
        time: core::time::Duration,
        mut on_move: impl FnMut(&Moved<[u8]>),
    ) -> Compaction {
        let mut done = Compaction::default();
        for_time(time, |work_bytes| {
            let work = self.step(work_bytes, false, &mut done, &mut on_move);
            (work, done.finished)
        });
        done
    }

    /// Goes on until `work_bytes` are done or the pass is over; how much was done.
    pub(super) fn step(
        &self,
        work_bytes: usize,
        is_ordered: bool,
        done: &mut Compaction,
        on_move: &mut dyn FnMut(&Moved<[u8]>),
    ) -> usize {
        if self.walk_count.get() > 0 {
            return 0;
        }
        let Some(_busy) = Busy::begin(&self.sweep.busy) else { return 0 };
        let mut work = 0;
        done.finished = false;
        while work < work_bytes {
            match self.sweep.phase.get() {
                Phase::Idle => {
                    if !self.is_worth_a_pass(is_ordered) {
                        done.finished = true;
                        break;
                    }
                    self.names.begin_pass();
                    self.sweep.phase.set(Phase::Packing(0));
                }
                Phase::Packing(group) => {
                    if group < self.names.group_count() {
                        if let Some((place, granules)) = self.names.visit(&self.memory, group) {
                            self.put(place, granules);
                        }
                        self.sweep.phase.set(Phase::Packing(group + 1));
                    } else {
                        self.names.drop_last(&self.memory);
                        self.holes.clear();
                        self.sweep.from.set(0);
                        self.sweep.to.set(0);
                        self.sweep.phase.set(Phase::Sliding);
                    }
                    work += LOOK_WORK;
                }
                Phase::Sliding => work += self.slide(done, on_move),
                Phase::Returning => {
                    work += RETURN_WORK;
                    match self.memory.give_back(self.top_bytes(), RETURN_BYTES) {
                        Some(bytes) => done.released_bytes += bytes,
                        None => {
                            self.sweep.dead_before.set(self.dead_granules.get());
                            self.sweep.phase.set(Phase::Idle);
                            done.finished = true;
                            self.check();
                            break;
                        }
                    }
                }
            }
        }
        work
    }

    fn is_worth_a_pass(&self, is_ordered: bool) -> bool {
        let dead = self.dead_granules.get();
        if is_ordered {
            return dead > 0 || self.memory.has_spare(self.top_bytes());
        }
        let before = self.sweep.dead_before.get().min(dead);
        dead - before > self.top.get() / DEAD_SHARE
    }

    /// Looks at the next block, or copies the next piece of the last; the work that was.
    fn slide(&self, done: &mut Compaction, on_move: &mut dyn FnMut(&Moved<[u8]>)) -> usize {
        if self.sweep.transit.get().is_some() {
            let bytes = self.copy_piece();
            done.moved_bytes += bytes;
            return bytes;
        }
        let (from, to) = (self.sweep.from.get(), self.sweep.to.get());
        if from >= self.top.get() {
            self.dead_granules.set(self.dead_granules.get() - (from - to));
            self.top.set(to);
            self.sweep.from.set(NONE);
            self.sweep.to.set(NONE);
            self.sweep.phase.set(Phase::Returning);
            return LOOK_WORK;
        }
        // SAFETY: where the last block ended another begins (M1).
        let header = unsafe { self.memory.header(from) };
        let (state, granules) = (header.state.get(), header.granules());
        let is_names = state & NAMES != 0;
        self.sweep.from.set(from + granules);
        if state & DEAD != 0 {
            return LOOK_WORK;
        }
        if state != 0 && !is_names {
            // Pinned: what is before it stays a hole.
            if from > to {
                // SAFETY: the gap, which is nobody's.
                unsafe { self.holes.put(&self.memory, to, from - to) };
            }
            self.sweep.to.set(from + granules);
            return LOOK_WORK;
        }
        self.sweep.to.set(to + granules);
        if from == to {
            return LOOK_WORK;
        }
        let (owner, generation) = (header.owner.get(), header.generation.get());
        let length = header.length.get() as usize;
        let bytes = granules as usize * GRANULE_BYTES;
        done.moved_count += 1;
        let mut work = LOOK_WORK;
        if bytes <= PIECE_BYTES || is_names {
            // SAFETY: a block of that length and, below it, the gap: committed, ours.
            unsafe { self.memory.at(to).copy_from(self.memory.at(from), bytes) };
            done.moved_bytes += bytes;
            work += bytes;
        } else {
            let moving = Header::block(owner, generation, length as u32, MOVING);
            // SAFETY: the gap's first granule, which is before the block's.
            unsafe { self.memory.write_header(to, moving) };
            let transit = Transit { block: to, from: from + 1, to: to + 1, granules: granules - 1 };
            self.sweep.transit.set(Some(transit));
        }
        if is_names {
            self.names.group(&self.memory, owner).moved_to(to);
            return work;
        }
        // SAFETY: a live block's own name.
        unsafe { self.names.set_place(&self.memory, owner, to) };
        on_move(&Moved {
            handle: Handle::of_parts(owner, generation),
            from: self.memory.data(from),
            to: self.memory.data(to),
            bytes: length,
        });
        work
    }

    /// Copies the next piece of the block in transit; its bytes.
    fn copy_piece(&self) -> usize {
        let Some(transit) = self.sweep.transit.get() else { return 0 };
        let granules = transit.granules.min((PIECE_BYTES / GRANULE_BYTES) as u32);
        let bytes = granules as usize * GRANULE_BYTES;
        let (from, to) = (self.memory.at(transit.from), self.memory.at(transit.to));
        // SAFETY: a piece of the block and where it goes, below: pieces that were copied before
        // are overwritten at most. The gap is not given to others meanwhile (M8).
        unsafe { to.copy_from(from, bytes) };
        let left = transit.granules - granules;
        if left == 0 {
            self.sweep.transit.set(None);
            // SAFETY: the block's header at its new place.
            unsafe { self.memory.header(transit.block) }.state.set(0);
        } else {
            self.sweep.transit.set(Some(Transit {
                from: transit.from + granules,
                to: transit.to + granules,
                granules: left,
                ..transit
            }));
        }
        bytes
    }

    /// Copies the rest of the block in transit.
    #[cold]
    pub(super) fn finish_move(&self) {
        while self.copy_piece() > 0 {}
    }

    /// `granules` from the gap of the pass, for a fresh block.
    pub(super) fn take_gap(&self, granules: u32) -> Option<u32> {
        if self.gap_granules() < granules || self.sweep.transit.get().is_some() {
            return None;
        }
        let place = self.sweep.to.get();
        self.sweep.to.set(place + granules);
        Some(place)
    }

    /// Granules between what was moved and what was not; they have no header.
    pub(super) fn gap_granules(&self) -> u32 {
        if self.sweep.phase.get() == Phase::Sliding {
            self.sweep.from.get() - self.sweep.to.get()
        } else {
            0
        }
    }

    /// Where the gap begins, if there is one.
    pub(super) fn gap_start(&self) -> Option<u32> {
        (self.gap_granules() > 0).then_some(self.sweep.to.get())
    }
}

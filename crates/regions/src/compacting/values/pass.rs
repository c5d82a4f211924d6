//! Compaction, a little at a time: fill dead places with the last values, pack the table, give
//! memory back.
//!
//! A pass has two fingers: `low` goes up to the next dead place, the top goes down to the next
//! live value, which moves there, until they meet (Jones, Hosking, Moss, *The Garbage Collection
//! Handbook*, chapter 3: two-finger compaction). What is above the top is free at once. Every step
//! ends with a whole pool, which may be used and changed before the next; removals go the long
//! way meanwhile, and leave to the pass what it has before it.

use core::cell::Cell;

use heapwright_core::backing::Backing;

use super::areas::Part;
use super::packed::CELL_BYTES;
use super::pool::CompactingPool;
use super::table::{Link, NONE, PAGE_ENTRIES};
use crate::compacting::compaction::{Compaction, Moved};
#[cfg(feature = "os")]
use crate::compacting::pacing::for_time;
use crate::compacting::pacing::{Busy, RETURN_BYTES, RETURN_WORK};
use crate::pool::Handle;

/// What looking at a place counts as, in bytes copied: its owner, its entry, one of them missed.
const LOOK_WORK: usize = 32;
/// Looking at a page of the table, and packing it.
const PAGE_WORK: usize = 2 << 10;
/// What a run costs beside its bytes.
const RUN_WORK: usize = 64;
/// A pass that nobody ordered begins when one place in so many is dead.
const DEAD_SHARE: u32 = 32;
/// Places that an insertion looks at for one that the pass would fill.
const HOLE_LOOKS: u32 = 64;

/// Where a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Sliding,
    /// Runs: the next one, and where it goes.
    Runs(u32, u32),
    /// Pages of the table: the next one.
    Packing(u32),
    Returning,
}

#[derive(Debug)]
pub(super) struct Sweep {
    phase: Cell<Phase>,
    /// Sliding: every place below is live or in a list.
    low: Cell<u32>,
    busy: Cell<bool>,
    /// Dead places when the last pass ended.
    dead_before: Cell<u32>,
    #[cfg(test)]
    pub(super) checks: Cell<bool>,
}

impl Sweep {
    pub(super) const fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Idle),
            low: Cell::new(0),
            busy: Cell::new(false),
            dead_before: Cell::new(0),
            #[cfg(test)]
            checks: Cell::new(true),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn low(&self) -> u32 {
        self.low.get()
    }

    #[cfg(test)]
    pub(super) fn checks(&self) -> bool {
        self.checks.get()
    }
}

impl<T, B: Backing> CompactingPool<T, B> {
    /// Moves everything that can be moved together and gives the rest back. Time in proportion to
    /// the places and indices in use.
    pub fn compact(&self) -> Compaction {
        let mut done = Compaction::default();
        // What is under way has not seen what died behind it.
        if self.sweep.phase() != Phase::Idle {
            self.step(usize::MAX, true, &mut done, &mut |_| {});
        }
        self.step(usize::MAX, true, &mut done, &mut |_| {});
        done
    }

    /// Goes on with a pass, or begins one if more than one place in 32 died since the last, until
    /// some `work_bytes` were copied; `usize::MAX` for the whole pass. Looking at a place counts as
    /// 32 bytes, at 512 indices as 2 KiB, giving 256 KiB back as 64 KiB. A value is moved whole.
    ///
    /// `on_move` is told of each value after its handle leads to the new address. It may use the
    /// pool.
    pub fn compact_step(
        &self,
        work_bytes: usize,
        mut on_move: impl FnMut(&Moved<T>),
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
        mut on_move: impl FnMut(&Moved<T>),
    ) -> Compaction {
        let mut done = Compaction::default();
        for_time(time, |work_bytes| {
            let work = self.step(work_bytes, false, &mut done, &mut on_move);
            (work, done.finished)
        });
        done
    }

    /// Goes on until `work_bytes` are done or the pass is over; how much was done.
    fn step(
        &self,
        work_bytes: usize,
        is_ordered: bool,
        done: &mut Compaction,
        on_move: &mut dyn FnMut(&Moved<T>),
    ) -> usize {
        done.finished = false;
        if self.walk_count.get() > 0 {
            return 0;
        }
        let Some(_busy) = Busy::begin(&self.sweep.busy) else { return 0 };
        let mut work = 0;
        while work < work_bytes {
            match self.sweep.phase() {
                Phase::Idle => {
                    if !self.is_worth_a_pass(is_ordered) {
                        done.finished = true;
                        break;
                    }
                    self.begin();
                }
                Phase::Sliding => work += self.slide(done, on_move),
                Phase::Runs(from, to) => work += self.slide_next_run(from, to),
                Phase::Packing(page) => {
                    self.visit_page(page, done);
                    work += PAGE_WORK;
                }
                Phase::Returning => {
                    work += RETURN_WORK;
                    match self.give_back() {
                        Some(bytes) => done.released_bytes += bytes,
                        None => {
                            self.finish();
                            done.finished = true;
                            break;
                        }
                    }
                }
            }
        }
        self.check();
        work
    }

    fn dead_count(&self) -> u32 {
        self.end() - self.len() as u32
    }

    fn is_worth_a_pass(&self, is_ordered: bool) -> bool {
        let dead = self.dead_count();
        if is_ordered {
            return dead > 0 || self.has_spare();
        }
        let before = self.sweep.dead_before.get().min(dead);
        dead - before > self.end() / DEAD_SHARE
    }

    /// Begins a pass: no list knows anything any more, and removals go the long way.
    fn begin(&self) {
        self.direct_count.set(0);
        self.free.set(Link::NONE);
        self.orphans.set(NONE);
        self.top.set(self.end());
        self.ceiling.set(0);
        self.sweep.low.set(0);
        self.sweep.phase.set(Phase::Sliding);
    }

    fn finish(&self) {
        self.sweep.dead_before.set(self.dead_count());
        self.sweep.phase.set(Phase::Idle);
        self.direct_count.set(self.entry_count.get());
    }

    /// The next hole at or after the low finger and below `end`, if it is within `looks`: its
    /// place and the dead index that has it, if one has. The finger is at the hole then.
    fn next_hole(&self, end: u32, looks: &mut u32) -> Option<(u32, u32)> {
        while self.sweep.low() < end && *looks > 0 {
            let place = self.sweep.low();
            let index = self.owner(place);
            if index == NONE || !self.entry_of(index).is_live() {
                return Some((place, index));
            }
            self.sweep.low.set(place + 1);
            *looks -= 1;
        }
        None
    }

    /// Looks at the last place, and fills a hole with what is there; the work that was.
    fn slide(&self, done: &mut Compaction, on_move: &mut dyn FnMut(&Moved<T>)) -> usize {
        if self.sweep.low() >= self.top.get() {
            return self.end_sliding();
        }
        let last = self.top.get() - 1;
        let index = self.owner(last);
        if index == NONE {
            self.top.set(last);
            return LOOK_WORK;
        }
        let entry = self.entry_of(index);
        if !entry.is_live() {
            self.part(index, last);
            self.top.set(last);
            return LOOK_WORK;
        }
        if entry.pins() != 0 {
            // It stays, and everything below goes on.
            self.ceiling.set(self.ceiling.get().max(last + 1));
            self.top.set(last);
            return LOOK_WORK;
        }
        let mut looks = HOLE_LOOKS;
        let Some((hole, dead)) = self.next_hole(last, &mut looks) else {
            if self.sweep.low() < last {
                return HOLE_LOOKS as usize * LOOK_WORK;
            }
            return self.end_sliding();
        };
        if dead != NONE {
            self.part(dead, hole);
        }
        let (from, to) = (self.slot(last), self.slot(hole));
        // SAFETY: a live value that nobody has pinned, and another slot, which is nobody's.
        unsafe { to.copy_from_nonoverlapping(from, Self::SLOT_BYTES) };
        self.set_owner(hole, index);
        self.set_owner(last, NONE);
        entry.place.set(hole);
        self.top.set(last);
        self.sweep.low.set(hole + 1);
        done.moved_count += 1;
        done.moved_bytes += Self::SLOT_BYTES;
        let handle = Handle::of_parts(index, entry.name());
        on_move(&Moved { handle, from, to, bytes: size_of::<T>() });
        LOOK_WORK * (2 + HOLE_LOOKS - looks) as usize + Self::SLOT_BYTES
    }

    fn end_sliding(&self) -> usize {
        self.sweep.phase.set(Phase::Runs(0, 0));
        LOOK_WORK
    }

    /// Lists dead places that the low finger passes; false if it passed none.
    pub(super) fn list_holes(&self) -> bool {
        let mut looks = HOLE_LOOKS;
        let Some((place, index)) = self.next_hole(self.top.get(), &mut looks) else {
            return false;
        };
        self.sweep.low.set(place + 1);
        if index == NONE {
            self.disown(place);
            return false;
        }
        self.list(index, place);
        true
    }

    fn slide_next_run(&self, from: u32, to: u32) -> usize {
        if from < self.run_cells.get() {
            let cells = self.run(from).cells();
            let to = self.slide_run(from, to);
            self.sweep.phase.set(Phase::Runs(from + cells, to));
            return RUN_WORK + cells as usize * CELL_BYTES;
        }
        self.run_cells.set(to);
        // The pages list what is dead anew.
        self.free.set(Link::NONE);
        self.sweep.phase.set(Phase::Packing(0));
        LOOK_WORK
    }

    /// Packs a page of the table, or lists what is dead on it.
    fn visit_page(&self, page: u32, done: &mut Compaction) {
        let first = page * PAGE_ENTRIES;
        if first >= self.entry_count.get() {
            self.sweep.phase.set(Phase::Returning);
            return;
        }
        self.sweep.phase.set(Phase::Packing(page + 1));
        if self.record(page).run.get() != NONE {
            return;
        }
        let end = (first + PAGE_ENTRIES).min(self.entry_count.get());
        let live = (first..end).filter(|index| self.entry(*index).is_live()).count() as u32;
        if self.pack(page, live, &mut done.released_bytes) {
            return;
        }
        for index in (first..end).rev() {
            let entry = self.entry(index);
            if !entry.is_live() && entry.place.get() != NONE {
                self.list(index, entry.place.get());
            }
        }
    }

    fn parts_used(&self) -> [(Part, usize); 3] {
        let end = self.end() as usize;
        [
            (Part::Slots, end * Self::SLOT_BYTES),
            (Part::Owners, end * size_of::<u32>()),
            (Part::Runs, self.run_cells.get() as usize * CELL_BYTES),
        ]
    }

    fn has_spare(&self) -> bool {
        self.parts_used().into_iter().any(|(part, used)| self.areas.has_spare(part, used))
    }

    fn give_back(&self) -> Option<usize> {
        self.parts_used()
            .into_iter()
            .find_map(|(part, used)| self.areas.give_back(part, used, RETURN_BYTES))
    }
}

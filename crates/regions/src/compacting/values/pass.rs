//! Compaction, a little at a time: fill dead places with the last values, pack the table, give
//! memory back.
//!
//! A pass first marks which places have values. Then it has two fingers: pages of the table come
//! one after the other, from the last, and their values above the place that the last value will
//! have move to the holes that a finger finds from below (Jones, Hosking, Moss, *The Garbage
//! Collection Handbook*, chapter 3: two-finger compaction); pages with few live indices are packed
//! at once. What is above the last value is free then, and what is below is listed anew. Every step
//! ends with a whole pool, which may be used and changed before the next; removals go the long
//! way meanwhile, and leave to the pass what it has before it.

use core::cell::Cell;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;

use super::areas::Part;
use super::packed::CELL_BYTES;
use super::pool::CompactingPool;
use super::spot::{DEAD, key_pins};
use super::table::{AWAY, LISTED, NONE, PAGE_TAGS, PIN_MASK, is_live, is_reusable, name_of};
use crate::compacting::compaction::{Compaction, Moved};
#[cfg(feature = "os")]
use crate::compacting::pacing::for_time;
use crate::compacting::pacing::{Busy, RETURN_BYTES, RETURN_WORK};
use crate::pool::Handle;

/// What looking at a place or an index counts as, in bytes copied.
const LOOK_WORK: usize = 4;
/// Packing a page of the table, or listing what is dead on it.
const PAGE_WORK: usize = 8 << 10;
/// What a run costs beside its bytes.
const RUN_WORK: usize = 64;
/// A pass that nobody ordered begins when one place in so many is dead.
const DEAD_SHARE: u32 = 32;
/// Words of marks looked at for a hole at once.
const HOLE_LOOKS: u32 = 64;
/// Places of a word of marks.
const WORD_PLACES: u32 = u64::BITS;
/// Words cleared, or looked at for the last value, at once.
const WORDS: u32 = 512;

/// Where a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// The next word of marks to clear.
    Clearing(u32),
    /// The next page whose values are to be marked.
    Marking(u32),
    /// One past the page whose values move, and the next index of it.
    Moving(u32, u32),
    /// Runs: the next one, and where it goes.
    Runs(u32, u32),
    /// The top comes down to the last value.
    Settling,
    /// One past the next page to list.
    Listing(u32),
    /// Bytes of the stack up to which it may hold more than it needs.
    Returning(usize),
}

#[derive(Debug)]
pub(super) struct Sweep {
    phase: Cell<Phase>,
    /// Moving: no place below is a hole, but for those that came to be after.
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

    fn low(&self) -> u32 {
        self.low.get()
    }

    /// Whether marks say which places have values, or are being made to.
    pub(super) fn has_marks(&self) -> bool {
        !matches!(self.phase.get(), Phase::Idle | Phase::Returning(_))
    }

    /// Whether what is dead on a page, of indices and places, is listed.
    pub(super) fn has_listed(&self, page: u32) -> bool {
        match self.phase.get() {
            Phase::Idle | Phase::Returning(_) => true,
            Phase::Listing(end) => page >= end,
            _ => false,
        }
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
    /// some `work_bytes` were copied; `usize::MAX` for the whole pass. Looking at an index counts
    /// as 4 bytes, packing 1024 of them as 8 KiB, giving 256 KiB back as 64 KiB. A value is moved whole.
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
                        if is_ordered {
                            // The stack may have been longer than it is.
                            self.sweep.phase.set(Phase::Returning(usize::MAX));
                            continue;
                        }
                        done.finished = true;
                        break;
                    }
                    if !self.begin() {
                        done.finished = true;
                        break;
                    }
                }
                Phase::Clearing(word) => work += self.clear_marks(word),
                Phase::Marking(page) => work += self.mark_page(page),
                Phase::Moving(end, index) => work += self.move_next(end, index, done, on_move),
                Phase::Runs(from, to) => work += self.slide_next_run(from, to),
                Phase::Settling => work += self.settle(),
                Phase::Listing(end) => work += self.list_page(end),
                Phase::Returning(end) => {
                    work += RETURN_WORK;
                    match self.give_back(end) {
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
        self.top.get() - self.len() as u32
    }

    fn is_worth_a_pass(&self, is_ordered: bool) -> bool {
        let dead = self.dead_count();
        if is_ordered {
            return dead > 0 || self.has_spare();
        }
        let before = self.sweep.dead_before.get().min(dead);
        dead - before > self.top.get() / DEAD_SHARE
    }

    /// Begins a pass: no list knows anything any more, and removals go the long way. False if
    /// there is no memory for marks.
    fn begin(&self) -> bool {
        if self.areas.commit(Part::Marks, marks_bytes(self.top.get())).is_err() {
            return false;
        }
        self.direct_count.set(0);
        self.stocked_count.set(self.len() as u32);
        self.free_count.set(0);
        self.orphans.set(NONE);
        self.next_index.set(0);
        self.sweep.low.set(0);
        self.sweep.phase.set(Phase::Clearing(0));
        true
    }

    fn finish(&self) {
        self.sweep.dead_before.set(self.dead_count());
        self.sweep.phase.set(Phase::Idle);
        self.direct_count.set(self.tag_count.get());
    }

    fn marks(&self, place: u32) -> &Cell<u64> {
        // SAFETY: committed as far as the places are during a pass, and written when it began or
        // when the place came into use; before, nobody reads them.
        unsafe { self.areas.element(Part::Marks, (place / WORD_PLACES) as usize) }
    }

    pub(super) fn is_marked(&self, place: u32) -> bool {
        self.marks(place).get() >> (place % WORD_PLACES) & 1 != 0
    }

    /// Notes that a place has a value.
    pub(super) fn mark(&self, place: u32) {
        let word = self.marks(place);
        word.set(word.get() | 1 << (place % WORD_PLACES));
    }

    /// Notes that a place is nobody's.
    pub(super) fn unmark(&self, place: u32) {
        let word = self.marks(place);
        word.set(word.get() & !(1 << (place % WORD_PLACES)));
    }

    /// Makes room for the mark of a place that is used for the first time.
    ///
    /// # Errors
    /// The backing's.
    pub(super) fn extend_marks(&self, place: u32) -> Result<(), AllocError> {
        self.areas.commit(Part::Marks, marks_bytes(place + 1))?;
        if place.is_multiple_of(WORD_PLACES) {
            let word = self.areas.start(Part::Marks).cast::<u64>();
            // SAFETY: committed above.
            let at = unsafe { word.add((place / WORD_PLACES) as usize) };
            // SAFETY: as above; no place of it was in use before.
            unsafe { at.write(0) };
        }
        Ok(())
    }

    fn clear_marks(&self, word: u32) -> usize {
        let end = self.top.get().div_ceil(WORD_PLACES);
        if word >= end {
            self.sweep.phase.set(Phase::Marking(0));
            return LOOK_WORK;
        }
        let count = WORDS.min(end - word);
        let start = self.areas.start(Part::Marks).cast::<u64>();
        // SAFETY: committed when the pass began or the places came into use.
        let at = unsafe { start.add(word as usize) };
        // SAFETY: as above; nobody refers to them. Who came since is marked with its page.
        unsafe { at.write_bytes(0, count as usize) };
        self.sweep.phase.set(Phase::Clearing(word + count));
        count as usize * size_of::<u64>()
    }

    /// Marks the places of a page's values.
    fn mark_page(&self, page: u32) -> usize {
        let (first, count) = (page * PAGE_TAGS, self.tag_count.get());
        if first >= count {
            self.sweep.phase.set(Phase::Moving(count.div_ceil(PAGE_TAGS), NONE));
            return LOOK_WORK;
        }
        self.sweep.phase.set(Phase::Marking(page + 1));
        let end = (first + PAGE_TAGS).min(count);
        let mut next = first;
        while let Some((index, _, place)) = self.next_live_below(next, end) {
            self.mark(place);
            next = index + 1;
        }
        (end - first) as usize * LOOK_WORK
    }

    /// The next hole from the low finger on and below `end`. The finger is at it then.
    fn next_hole(&self, end: u32, looks: &mut u32) -> Option<u32> {
        while self.sweep.low() < end && *looks > 0 {
            let place = self.sweep.low();
            let free = !self.marks(place).get() >> (place % WORD_PLACES);
            if free != 0 {
                let hole = place + free.trailing_zeros();
                self.sweep.low.set(hole.min(end));
                return (hole < end).then_some(hole);
            }
            self.sweep.low.set((place | (WORD_PLACES - 1)) + 1);
            *looks -= 1;
        }
        None
    }

    /// A hole that the pass would fill, for a value made meanwhile.
    pub(super) fn sweeping_hole(&self) -> Option<u32> {
        if !matches!(self.sweep.phase(), Phase::Moving(..)) {
            return None;
        }
        let hole = self.next_hole(self.top.get(), &mut HOLE_LOOKS.clone())?;
        self.sweep.low.set(hole + 1);
        Some(hole)
    }

    /// Moves the next values of the page below `end`, from `index` on, or turns to the page below;
    /// the work that was.
    fn move_next(
        &self,
        end: u32,
        index: u32,
        done: &mut Compaction,
        on_move: &mut dyn FnMut(&Moved<T>),
    ) -> usize {
        let Some(page) = end.checked_sub(1) else {
            self.sweep.phase.set(Phase::Runs(0, 0));
            return LOOK_WORK;
        };
        let mut next = index;
        if index == NONE {
            if self.record(page).packed().is_some_and(|cell| !self.is_loose(cell)) {
                self.sweep.phase.set(Phase::Moving(page, NONE));
                return PAGE_WORK;
            }
            self.thaw(page);
            next = page * PAGE_TAGS;
        }
        let (from, last) = (next, (end * PAGE_TAGS).min(self.tag_count.get()));
        while next < last {
            let tag = self.tag(next).get();
            let is_free_to_go = is_live(tag) && tag & PIN_MASK == 0;
            let place = if is_free_to_go && tag & AWAY != 0 { self.place(next) } else { next };
            if is_free_to_go && place >= self.len() as u32 {
                let mut looks = HOLE_LOOKS;
                let hole = self.next_hole(place, &mut looks);
                let seen = (next - from + HOLE_LOOKS - looks) as usize * LOOK_WORK;
                if let Some(hole) = hole {
                    self.sweep.phase.set(Phase::Moving(end, next + 1));
                    self.move_down(next, place, hole, done, on_move);
                    return seen + LOOK_WORK + Self::SLOT_BYTES;
                }
                if self.sweep.low() < place {
                    self.sweep.phase.set(Phase::Moving(end, next));
                    return seen;
                }
            }
            next += 1;
        }
        self.sweep.phase.set(Phase::Moving(page, NONE));
        self.pack(page, &mut done.released_bytes);
        PAGE_WORK
    }

    /// Whether a run has values that are to move, or much that is dead.
    fn is_loose(&self, cell: u32) -> bool {
        let count = usize::from(self.run(cell).count);
        let pins = |at| key_pins(self.run_key(cell, at).get());
        let dead = (0..count).filter(|at| pins(*at) == DEAD).count();
        let is_high = |at| pins(at) == 0 && self.run_place(cell, at) as usize >= self.len();
        dead > count / 8 || (0..count).any(is_high)
    }

    /// Moves the value of an index, whose page is not packed, to a hole.
    fn move_down(
        &self,
        index: u32,
        place: u32,
        hole: u32,
        done: &mut Compaction,
        on_move: &mut dyn FnMut(&Moved<T>),
    ) {
        let (from, to) = (self.slot(place), self.slot(hole));
        // SAFETY: a live value that nobody has pinned, and another slot, which is nobody's.
        unsafe { to.copy_from_nonoverlapping(from, Self::SLOT_BYTES) };
        self.mark(hole);
        self.unmark(place);
        self.set_place(index, hole);
        self.sweep.low.set(hole + 1);
        done.moved_count += 1;
        done.moved_bytes += Self::SLOT_BYTES;
        let handle = Handle::of_parts(index, name_of(self.tag(index).get()));
        on_move(&Moved { handle, from, to, bytes: size_of::<T>() });
    }

    fn slide_next_run(&self, from: u32, to: u32) -> usize {
        if from < self.run_cells.get() {
            let cells = self.run(from).cells();
            let to = self.slide_run(from, to);
            self.sweep.phase.set(Phase::Runs(from + cells, to));
            return RUN_WORK + cells as usize * CELL_BYTES;
        }
        self.run_cells.set(to);
        self.sweep.phase.set(Phase::Settling);
        LOOK_WORK
    }

    /// Brings the top down to the last value.
    fn settle(&self) -> usize {
        for _ in 0..WORDS {
            let top = self.top.get();
            if top == 0 || self.is_marked(top - 1) {
                break;
            }
            let last = top - 1;
            let word = self.marks(last).get() << (WORD_PLACES - 1 - last % WORD_PLACES);
            self.top.set(match word {
                0 => last & !(WORD_PLACES - 1),
                _ => top - word.leading_zeros(),
            });
        }
        let top = self.top.get();
        if top > 0 && !self.is_marked(top - 1) {
            return WORDS as usize * LOOK_WORK;
        }
        let end = top.max(self.tag_count.get());
        self.sweep.phase.set(Phase::Listing(end.div_ceil(PAGE_TAGS)));
        LOOK_WORK
    }

    /// Lists what is dead on the page below `end`, of indices and places.
    fn list_page(&self, end: u32) -> usize {
        let Some(page) = end.checked_sub(1) else {
            self.sweep.phase.set(Phase::Returning(usize::MAX));
            return LOOK_WORK;
        };
        self.sweep.phase.set(Phase::Listing(page));
        let first = page * PAGE_TAGS;
        let count = self.tag_count.get();
        let is_whole = first < count && self.record(page).packed().is_none();
        for number in (first..first + PAGE_TAGS).rev() {
            let mut is_dead = false;
            if is_whole && number < count {
                let tag = self.tag(number);
                is_dead = is_reusable(tag.get());
                if is_dead {
                    // The list that it was in was forgotten.
                    tag.set(tag.get() & !LISTED);
                }
            }
            if number < self.top.get() && !self.is_marked(number) {
                self.list_place(number);
            } else if is_dead {
                self.next_index.set(number.min(self.next_index.get()));
            }
        }
        if first < count && !is_whole {
            self.next_index.set(first.min(self.next_index.get()));
        }
        PAGE_WORK
    }

    fn parts_used(&self) -> [(Part, usize); 3] {
        [
            (Part::Slots, self.top.get() as usize * Self::SLOT_BYTES),
            (Part::Marks, 0),
            (Part::Runs, self.run_cells.get() as usize * CELL_BYTES),
        ]
    }

    fn has_spare(&self) -> bool {
        self.parts_used().into_iter().any(|(part, used)| self.areas.has_spare(part, used))
    }

    /// Gives memory that is not needed back, some at a time: what the parts have above what they
    /// use, then pages of the stack below `end`. How much; none at the end.
    fn give_back(&self, end: usize) -> Option<usize> {
        let spare = self
            .parts_used()
            .into_iter()
            .find_map(|(part, used)| self.areas.give_back(part, used, RETURN_BYTES));
        if spare.is_some() {
            return spare;
        }
        let used = self.free_count.get() as usize * size_of::<u32>();
        // SAFETY: nobody reads the stack above its count before it is written there.
        let from = unsafe { self.areas.purge_behind(Part::Free, used, end, RETURN_BYTES) }?;
        self.sweep.phase.set(Phase::Returning(from));
        // Which of these pages were there, nobody knows.
        Some(0)
    }
}

/// Bytes of marks of so many places.
fn marks_bytes(count: u32) -> usize {
    count.div_ceil(WORD_PLACES) as usize * size_of::<u64>()
}

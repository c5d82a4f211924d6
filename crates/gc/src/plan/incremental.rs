//! Incremental: mark-sweep in slices between mutations.
//!
//! Marking follows the references as they were at the beginning of the cycle (snapshot): whoever
//! overwrites a reference while it runs shows the old one to the marker first. What is allocated
//! during a cycle survives it. Marking, destructors, large objects and blocks are sliced.
//! Source: Yuasa, "Real-time garbage collection on general-purpose machines", JSS 1990.

use core::cell::Cell;
use core::ptr::NonNull;

use crate::system::monotonic_ns;

use crate::HeapError;
use crate::evacuate::Mover;
use crate::mark::Marker;
use crate::memory::Table;
use crate::model::Model;
use crate::mutator::Barrier;
use crate::plan::mark_sweep::{grant_from, mark_and_sweep, marker_of};
use crate::plan::pacer::Pacer;
use crate::plan::{Common, Extent, Grant, Plan};
use crate::root::Roots;
use crate::space::{AddressRange, BlockSpace, GIVEN_BYTES_MAX, LiveSet};
use crate::weak::Reach;

/// Bytes to give out at least between two cycles, of two pieces: fewer, and cycles in a full heap
/// would follow each other for nothing.
const MORE_BYTES_MIN: usize = 2 * GIVEN_BYTES_MAX;
/// Blocks swept between two looks at the clock.
const SWEEP_BLOCKS: usize = if cfg!(debug_assertions) { 1 } else { 32 };
/// Roots that are looked at between two looks at the clock.
const ROOTS: usize = if cfg!(debug_assertions) { 2 } else { 1024 };
/// Handles made since the cycle began that every step of evacuation looks at.
const NEW_ROOTS_MAX: usize = if cfg!(debug_assertions) { 1 } else { 1024 };
/// Entries of the table of destructors between two looks at the clock.
const DROPS: usize = if cfg!(debug_assertions) { 2 } else { 256 };
/// Bytes of dead large objects given back between two looks at the clock.
const LARGE_BYTES_AT_ONCE: usize = if cfg!(debug_assertions) { 16 << 10 } else { 2 << 20 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Looking at the roots that there were at the beginning.
    Roots,
    Marking,
    /// Clearing weak references to the dead: it is known who lives.
    Settling,
    /// Running the destructors of the dead.
    Dropping,
    /// Emptying blocks with little in them.
    Evacuating,
    /// Freeing large objects.
    Large,
    /// Sweeping blocks.
    Blocks,
}

pub(crate) struct Incremental<M: Model> {
    blocks: BlockSpace,
    marker: Marker<M>,
    mover: Mover<M>,
    phase: Phase,
    pacer: Pacer,
    /// Holes and objects of this cycle, which may refer to candidates.
    fresh: Table<Fresh>,
    /// Large objects from this index on were not looked at yet.
    fresh_large: usize,
    /// Between two cycles: from how many bytes in use on it is asked again whether there is little
    /// room, and the answer so far.
    asked: Cell<(usize, bool)>,
}

/// Memory given out in a cycle that has candidates, filled with objects up to `end`.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    start: NonNull<u8>,
    /// None while the mutator fills it.
    end: Option<usize>,
}

impl<M: Model> Incremental<M> {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Result<Self, HeapError> {
        let mut blocks = BlockSpace::new(start, bytes)?;
        let marker = marker_of(&mut blocks)?;
        Ok(Self {
            blocks,
            marker,
            mover: Mover::new(),
            phase: Phase::Idle,
            pacer: Pacer::new(),
            fresh: Table::new(),
            fresh_large: 0,
            asked: Cell::new((0, false)),
        })
    }

    fn begin<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>) {
        self.mover.begin(false, &mut self.marker, &mut self.blocks, common);
        self.fresh.clear();
        self.fresh_large = common.large.count();
        let lines = LiveSet::Lines(self.blocks.begin_cycle());
        self.marker.begin(common.flip_mark(), lines);
        common.finals.begin_pass();
        roots.begin_scan(&mut self.marker);
        common.finals.trace(&mut self.marker);
        self.phase = Phase::Roots;
        let occupied = self.total_bytes(common);
        let headroom = self.headroom(common);
        self.pacer.begin(occupied, headroom, common);
    }

    /// Works until the deadline; returns whether the cycle has ended.
    fn work<R: Roots>(
        &mut self,
        roots: &mut R,
        common: &mut Common<M>,
        deadline_ns: Option<u64>,
    ) -> bool {
        let is_late = || deadline_ns.is_some_and(|deadline| monotonic_ns() >= deadline);
        while self.phase == Phase::Roots {
            // What they name stays where it is, so that no step of evacuation looks at them.
            let marker = &mut self.marker;
            if roots.scan_some(ROOTS, &mut |object| {
                marker.pin(object);
                marker.push(object);
            }) {
                self.phase = Phase::Marking;
            }
            if is_late() {
                return false;
            }
        }
        while self.phase == Phase::Marking {
            if !self.marker.drain(deadline_ns) {
                return false;
            }
            if common.reach_some(&mut self.marker) {
                // What a machine holds weakly, which it clears at once.
                let marker = &self.marker;
                roots.settle(&mut |object| marker.settled(object));
                common.begin_settle();
                self.phase = Phase::Settling;
            }
            if is_late() {
                return false;
            }
        }
        while self.phase == Phase::Settling {
            if common.settle_some(&self.marker) {
                common.begin_drops(0);
                self.phase = Phase::Dropping;
            }
            if is_late() {
                return false;
            }
        }
        while self.phase == Phase::Dropping {
            if common.settle_drops(DROPS, &self.marker) {
                self.phase = Phase::Evacuating;
            }
            if is_late() {
                return false;
            }
        }
        while self.phase == Phase::Evacuating {
            let marker = &self.marker;
            if !roots.scan_new(NEW_ROOTS_MAX, &mut |object| marker.pin(object)) {
                if is_late() {
                    return false;
                }
                continue;
            }
            if !self.mover.step(&mut self.marker, &mut self.blocks, roots, common) {
                common.large.begin_sweep();
                self.phase = Phase::Large;
            }
            if is_late() {
                return false;
            }
        }
        while self.phase == Phase::Large {
            if common.large.sweep_some(common.mark, LARGE_BYTES_AT_ONCE) {
                self.blocks.begin_sweep(common.keep_bytes());
                self.phase = Phase::Blocks;
            }
            if is_late() {
                return false;
            }
        }
        while !self.blocks.sweep(SWEEP_BLOCKS) {
            if is_late() {
                return false;
            }
        }
        self.phase = Phase::Idle;
        roots.end_scan();
        self.pacer.end();
        common.end_full(self.blocks.occupied_bytes());
        self.leave_headroom(common);
        true
    }

    /// A full collection in one pause.
    fn collect_whole<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>) {
        mark_and_sweep(&mut self.marker, &mut self.blocks, roots, common);
        self.leave_headroom(common);
    }

    /// The next cycle has to end before the limit is reached.
    fn leave_headroom(&self, common: &mut Common<M>) {
        let latest = common.statistics.live_bytes + more_bytes(self.headroom(common));
        common.trigger_bytes = common.trigger_bytes.min(latest);
        let asked_bytes = common.statistics.live_bytes + MORE_BYTES_MIN;
        self.asked.set((asked_bytes, false));
    }

    /// Whether a mutation as long as the recent ones cannot use up what a cycle has left before the
    /// next one begins.
    fn reaches_next(&self, common: &Common<M>) -> bool {
        let headroom = self.headroom(common);
        // The begin is noticed when a mutation ends, and needs a piece for its last object.
        let late_bytes = 2 * self.pacer.stride_bytes() + GIVEN_BYTES_MAX;
        more_bytes(headroom) + late_bytes <= headroom
    }

    /// Whether, between two cycles, the holes for objects of more than a line come to their end long
    /// before the bytes do. Not right after a cycle, which would find nothing.
    fn is_short(&self, common: &Common<M>) -> bool {
        let (next_bytes, was_short) = self.asked.get();
        let bytes = self.total_bytes(common);
        if was_short || bytes < next_bytes {
            return was_short;
        }
        let is_short = Pacer::is_short(self.headroom(common), common);
        // Not at every hole: the answer takes as long as many allocations.
        self.asked.set((bytes + GIVEN_BYTES_MAX, is_short));
        is_short
    }

    /// The mutator's hole ends at `cursor`.
    fn close_hole(&mut self, cursor: *mut u8) {
        if let Some(last) = self.fresh.as_mut_slice().last_mut() {
            last.end.get_or_insert(cursor.addr());
        }
    }

    /// Looks for references into candidates in what was allocated or borrowed since the last
    /// slice. O(bytes allocated since).
    fn remember_fresh(&mut self, common: &mut Common<M>) {
        if !self.marker.remembers() {
            return;
        }
        self.close_hole(common.cursor);
        while let Some(Fresh { start, end }) = self.fresh.pop() {
            let mut at = start;
            while Some(at.addr().get()) < end {
                // SAFETY: holes are filled from the front, one object after the other, and end
                // with one; a slice that was given up left an array of bytes.
                let object = unsafe { M::at(at) };
                self.marker.remember_object(object);
                // SAFETY: the next object begins where this one ends, in the same block.
                at = unsafe { at.add(M::total_bytes(object)) };
            }
            debug_assert!(end.is_none_or(|end| at.addr().get() == end));
        }
        // The mutator goes on with its hole.
        if let Some(start) = NonNull::new(common.cursor) {
            self.fresh.push(Fresh { start, end: None });
        }
        for index in self.fresh_large..common.large.count() {
            self.marker.remember_object(common.large.object(index));
        }
        self.fresh_large = common.large.count();
        self.marker.remember_borrowed();
    }

    /// Bytes that can be given out before the cycle ends: to the limit, and no more than there is in
    /// blocks, of which those to be emptied give out nothing.
    fn headroom(&self, common: &Common<M>) -> usize {
        let to_limit = common.config.limit_bytes.saturating_sub(self.total_bytes(common));
        to_limit.min(self.blocks.room_bytes())
    }

    fn total_bytes(&self, common: &Common<M>) -> usize {
        self.blocks.occupied_bytes() + common.other_bytes()
    }
}

/// How much may be given out before the next cycle begins.
fn more_bytes(headroom: usize) -> usize {
    (headroom / 2).max(MORE_BYTES_MIN)
}

impl<M: Model> Plan<M> for Incremental<M> {
    fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Grant> {
        let grant = grant_from(&mut self.blocks, bytes);
        if self.marker.remembers() {
            match &grant {
                Some(Grant::Bump(hole)) => {
                    self.close_hole(cursor);
                    self.fresh.push(Fresh { start: hole.start, end: None });
                }
                Some(Grant::Single(start)) => {
                    let end = Some(start.addr().get() + bytes);
                    // Below the open hole, which stays the last.
                    let open = self.fresh.pop();
                    self.fresh.push(Fresh { start: *start, end });
                    open.into_iter().for_each(|open| self.fresh.push(open));
                }
                None => {}
            }
        }
        grant
    }

    fn occupied_bytes(&self) -> usize {
        self.blocks.occupied_bytes()
    }

    fn is_due(&self, common: &Common<M>) -> bool {
        match self.phase {
            Phase::Idle => common.is_full_due(self.occupied_bytes(), 0) || self.is_short(common),
            _ => common.is_urgent || self.pacer.is_due(self.total_bytes(common)),
        }
    }

    fn keeps_hole(&self, common: &Common<M>, extent: Extent) -> bool {
        // Holes given out in a cycle are marked (B3); earlier ones are not, nor in a later cycle,
        // which follows at once where there is little room.
        let is_slice = self.phase != Phase::Idle && extent == Extent::Due && !common.is_urgent;
        is_slice && !Pacer::is_short(self.headroom(common), common)
    }

    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>, extent: Extent) {
        common.statistics.slices += 1;
        if extent == Extent::Full || common.is_urgent {
            // What the running cycle keeps may be dead by now: end it, and run a whole one.
            if self.phase != Phase::Idle {
                self.remember_fresh(common);
                self.work(roots, common, None);
            }
            self.collect_whole(roots, common);
            return;
        }
        let begin_ns = monotonic_ns();
        let begins = self.phase == Phase::Idle;
        if begins {
            self.begin(roots, common);
        } else {
            self.remember_fresh(common);
        }
        let occupied = self.total_bytes(common);
        self.pacer.begin_slice(begin_ns, occupied, common);
        // The limit comes before the pause.
        let headroom = self.headroom(common);
        let is_short = Pacer::is_short(headroom, common);
        let hurries = self.pacer.must_hurry(occupied, headroom, common) || is_short;
        common.statistics.hurried_cycles += u64::from(hurries);
        // A slice looks at the clock now and then only, and what it does to the caches costs the
        // mutator: three quarters keep the promise.
        let deadline_ns = begin_ns + common.config.slice_us * 750;
        let has_ended = self.work(roots, common, (!hurries).then_some(deadline_ns));
        if is_short && !begins && !self.reaches_next(common) {
            // The cycle keeps what is made while it runs, which may be dead by now. The next one
            // would free it in a pause of its own, but the program would be refused memory first.
            // The mutator has given up its hole (`keeps_hole`).
            self.collect_whole(roots, common);
        }
        if !has_ended {
            let now_ns = monotonic_ns();
            let occupied = self.total_bytes(common);
            let headroom = self.headroom(common);
            self.pacer.end_slice(now_ns, now_ns - begin_ns, occupied, headroom, common);
        }
    }

    fn barrier(&self) -> Barrier {
        let is_watched = { matches!(self.phase, Phase::Roots | Phase::Marking | Phase::Settling) };
        if is_watched || self.marker.remembers() { Barrier::Cycle } else { Barrier::None }
    }

    fn snapshot(&mut self) -> Option<&mut Marker<M>> {
        matches!(self.phase, Phase::Roots | Phase::Marking).then_some(&mut self.marker)
    }

    fn is_settling(&self) -> bool {
        self.phase == Phase::Settling
    }

    fn remembering(&mut self) -> Option<&mut Marker<M>> {
        self.marker.remembers().then_some(&mut self.marker)
    }

    fn used(&self) -> [AddressRange; 2] {
        [self.blocks.used(), AddressRange::EMPTY]
    }
}

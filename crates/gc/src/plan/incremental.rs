//! Incremental: mark-sweep in slices between mutations.
//!
//! Marking follows the references as they were at the beginning of the cycle (snapshot): whoever
//! overwrites a reference while it runs shows the old one to the marker first. What is allocated
//! during a cycle survives it. Marking, destructors, large objects and blocks are sliced.
//! Source: Yuasa, "Real-time garbage collection on general-purpose machines", JSS 1990.

use core::ptr::NonNull;

use heapwright_os::monotonic_ns;

use crate::HeapError;
use crate::mark::Marker;
use crate::model::Model;
use crate::mutator::Barrier;
use crate::plan::mark_sweep::grant_from;
use crate::plan::pacer::Pacer;
use crate::plan::{Common, Extent, Grant, Plan};
use crate::root::Roots;
use crate::space::{AddressRange, BlockSpace, LiveSet};

/// Blocks swept between two looks at the clock.
const SWEEP_BLOCKS: usize = if cfg!(debug_assertions) { 1 } else { 32 };
/// Entries of the table of destructors between two looks at the clock.
const DROPS: usize = if cfg!(debug_assertions) { 2 } else { 256 };
/// Bytes of dead large objects given back between two looks at the clock.
const LARGE_BYTES_AT_ONCE: usize = if cfg!(debug_assertions) { 16 << 10 } else { 2 << 20 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Marking,
    /// Running the destructors of the dead.
    Dropping,
    /// Freeing large objects.
    Large,
    /// Sweeping blocks.
    Blocks,
}

pub(crate) struct Incremental<M: Model> {
    blocks: BlockSpace,
    marker: Marker<M>,
    phase: Phase,
    pacer: Pacer,
}

impl<M: Model> Incremental<M> {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Result<Self, HeapError> {
        let mut blocks = BlockSpace::new(start, bytes)?;
        let marker = Marker::new(LiveSet::Lines(blocks.line_map()));
        Ok(Self { blocks, marker, phase: Phase::Idle, pacer: Pacer::new() })
    }

    fn begin<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>) {
        let lines = LiveSet::Lines(self.blocks.begin_cycle());
        self.marker.begin(common.flip_mark(), lines);
        common.trace_roots(roots, &mut self.marker);
        self.phase = Phase::Marking;
        let occupied = self.total_bytes(common);
        self.pacer.begin(occupied, common);
    }

    /// Works until the deadline; returns whether the cycle has ended.
    fn work<R: Roots>(
        &mut self,
        roots: &mut R,
        common: &mut Common<M>,
        deadline_ns: Option<u64>,
    ) -> bool {
        let is_late = || deadline_ns.is_some_and(|deadline| monotonic_ns() >= deadline);
        while self.phase == Phase::Marking {
            if !self.marker.drain(deadline_ns) {
                return false;
            }
            if !common.reach_more(true, &mut self.marker) {
                common.settle_weak(roots, true, &self.marker);
                common.begin_drops(0);
                self.phase = Phase::Dropping;
            } else if is_late() {
                return false;
            }
        }
        while self.phase == Phase::Dropping {
            if common.settle_drops(DROPS, &self.marker) {
                common.large.begin_sweep();
                self.phase = Phase::Large;
            }
            if is_late() {
                return false;
            }
        }
        while self.phase == Phase::Large {
            if common.large.sweep_some(common.mark, LARGE_BYTES_AT_ONCE) {
                self.blocks.begin_sweep();
                self.phase = Phase::Blocks;
            }
            if is_late() {
                return false;
            }
        }
        while !self.blocks.sweep(SWEEP_BLOCKS, common.keep_bytes()) {
            if is_late() {
                return false;
            }
        }
        self.phase = Phase::Idle;
        self.pacer.end();
        common.end_full(self.blocks.occupied_bytes());
        // The next cycle has to end before the limit is reached.
        let headroom = common.config.limit_bytes.saturating_sub(common.statistics.live_bytes);
        let latest = common.statistics.live_bytes + headroom / 2;
        common.trigger_bytes = common.trigger_bytes.min(latest);
        true
    }

    fn total_bytes(&self, common: &Common<M>) -> usize {
        self.blocks.occupied_bytes() + common.other_bytes()
    }
}

impl<M: Model> Plan<M> for Incremental<M> {
    fn grant(&mut self, _cursor: *mut u8, bytes: usize) -> Option<Grant> {
        grant_from(&mut self.blocks, bytes)
    }

    fn occupied_bytes(&self) -> usize {
        self.blocks.occupied_bytes()
    }

    fn is_due(&self, common: &Common<M>) -> bool {
        match self.phase {
            Phase::Idle => common.is_full_due(self.occupied_bytes(), 0),
            _ => common.is_urgent || self.pacer.is_due(self.total_bytes(common)),
        }
    }

    fn keeps_hole(&self, common: &Common<M>, extent: Extent) -> bool {
        // Holes given out in a cycle are marked (B3); earlier ones are not.
        self.phase != Phase::Idle && extent == Extent::Due && !common.is_urgent
    }

    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>, extent: Extent) {
        common.statistics.slices += 1;
        if extent == Extent::Full || common.is_urgent {
            // What the running cycle keeps may be dead by now: end it, and run a whole one.
            if self.phase != Phase::Idle {
                self.work(roots, common, None);
            }
            self.begin(roots, common);
            self.work(roots, common, None);
            return;
        }
        let begin_ns = monotonic_ns();
        if self.phase == Phase::Idle {
            self.begin(roots, common);
        }
        let occupied = self.total_bytes(common);
        self.pacer.begin_slice(begin_ns, occupied, common);
        // The limit comes before the pause.
        let hurries = self.pacer.must_hurry(occupied, common);
        common.statistics.hurried_cycles += u64::from(hurries);
        // A slice looks at the clock now and then only, and what it does to the caches costs the
        // mutator: three quarters keep the promise.
        let deadline_ns = begin_ns + common.config.slice_us * 750;
        let has_ended = self.work(roots, common, (!hurries).then_some(deadline_ns));
        if !has_ended {
            let now_ns = monotonic_ns();
            let occupied = self.total_bytes(common);
            self.pacer.end_slice(now_ns, now_ns - begin_ns, occupied, common);
        }
    }

    fn barrier(&self) -> Barrier {
        if self.phase == Phase::Marking { Barrier::Snapshot } else { Barrier::None }
    }

    fn snapshot(&mut self) -> Option<&mut Marker<M>> {
        (self.phase == Phase::Marking).then_some(&mut self.marker)
    }

    fn used(&self) -> [AddressRange; 2] {
        [self.blocks.used(), AddressRange::EMPTY]
    }
}

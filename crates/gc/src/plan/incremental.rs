//! Incremental: mark-sweep in slices between mutations.
//!
//! Marking follows the references as they were at the beginning of the cycle (snapshot): whoever
//! overwrites a reference while it runs shows the old one to the marker first. What is allocated
//! during a cycle survives it. Sweeping is sliced too.
//! Source: Yuasa, "Real-time garbage collection on general-purpose machines", JSS 1990.

use core::ptr::NonNull;

use heapwright_os::monotonic_ns;

use crate::HeapError;
use crate::mark::Marker;
use crate::mutation::Barrier;
use crate::plan::mark_sweep::grant_from;
use crate::plan::{Common, Extent, Grant, Plan};
use crate::root::Roots;
use crate::space::{AddressRange, BlockSpace, LiveSet};

/// Bytes allocated between two slices of a cycle: a slice of 1 ms marks several times as much.
const STEP_BYTES: usize = if cfg!(debug_assertions) { 1 << 10 } else { 256 << 10 };
/// Blocks swept between two looks at the clock.
const SWEEP_BLOCKS: usize = if cfg!(debug_assertions) { 1 } else { 64 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Marking,
    Sweeping,
}

pub(crate) struct Incremental {
    blocks: BlockSpace,
    marker: Marker,
    phase: Phase,
    /// Bytes given out since the last slice.
    since_slice_bytes: usize,
}

impl Incremental {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Result<Self, HeapError> {
        let mut blocks = BlockSpace::new(start, bytes)?;
        let marker = Marker::new(LiveSet::Lines(blocks.line_map()));
        Ok(Self { blocks, marker, phase: Phase::Idle, since_slice_bytes: 0 })
    }

    fn begin<R: Roots>(&mut self, roots: &mut R, common: &mut Common) {
        let lines = LiveSet::Lines(self.blocks.begin_cycle());
        self.marker.begin(common.flip_mark(), lines);
        roots.trace(&mut self.marker);
        self.phase = Phase::Marking;
    }

    /// Works until the deadline; returns whether the cycle has ended.
    fn work(&mut self, common: &mut Common, deadline_ns: Option<u64>) -> bool {
        if self.phase == Phase::Marking {
            if !self.marker.drain(deadline_ns) {
                return false;
            }
            common.settle(true, &mut self.marker);
            common.large.sweep(common.mark);
            self.blocks.begin_sweep();
            self.phase = Phase::Sweeping;
        }
        while !self.blocks.sweep(SWEEP_BLOCKS, common.keep_bytes()) {
            if deadline_ns.is_some_and(|deadline| monotonic_ns() >= deadline) {
                return false;
            }
        }
        self.phase = Phase::Idle;
        common.end_full(self.blocks.occupied_bytes());
        // The next cycle has to end before the limit is reached.
        let headroom = common.config.limit_bytes.saturating_sub(common.statistics.live_bytes);
        let latest = common.statistics.live_bytes + headroom / 2;
        common.trigger_bytes = common.trigger_bytes.min(latest);
        true
    }
}

impl Plan for Incremental {
    fn grant(&mut self, _cursor: *mut u8, bytes: usize) -> Option<Grant> {
        let before = self.blocks.occupied_bytes();
        let grant = grant_from(&mut self.blocks, bytes);
        self.since_slice_bytes += self.blocks.occupied_bytes() - before;
        grant
    }

    fn occupied_bytes(&self) -> usize {
        self.blocks.occupied_bytes()
    }

    fn is_due(&self, common: &Common) -> bool {
        match self.phase {
            Phase::Idle => common.is_full_due(self.occupied_bytes(), 0),
            _ => common.is_urgent || self.since_slice_bytes >= STEP_BYTES,
        }
    }

    fn keeps_hole(&self, common: &Common, extent: Extent) -> bool {
        // Holes given out in a cycle are marked (B3); earlier ones are not.
        self.phase != Phase::Idle && extent == Extent::Due && !common.is_urgent
    }

    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common, extent: Extent) {
        self.since_slice_bytes = 0;
        common.statistics.slices += 1;
        if extent == Extent::Full || common.is_urgent {
            // What the running cycle keeps may be dead by now: end it, and run a whole one.
            if self.phase != Phase::Idle {
                self.work(common, None);
            }
            self.begin(roots, common);
            self.work(common, None);
            return;
        }
        if self.phase == Phase::Idle {
            self.begin(roots, common);
        }
        self.work(common, Some(monotonic_ns() + common.config.slice_us * 1000));
    }

    fn barrier(&self) -> Barrier {
        if self.phase == Phase::Marking { Barrier::Snapshot } else { Barrier::None }
    }

    fn snapshot(&mut self) -> Option<&mut Marker> {
        (self.phase == Phase::Marking).then_some(&mut self.marker)
    }

    fn used(&self) -> [AddressRange; 2] {
        [self.blocks.used(), AddressRange::EMPTY]
    }
}

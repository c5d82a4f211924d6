//! Pacer: how many bytes may be allocated between two slices of an incremental cycle.
//!
//! A cycle of so many slices, by what the last one took, has to end when so many bytes are in use.
//! The two give the bytes for a slice. The length of a slice is never changed: it is the promise.

use core::cell::Cell;

use crate::system::monotonic_ns;

use crate::model::Model;
use crate::plan::Common;
use crate::space::GIVEN_BYTES_MAX;

/// Never less between two slices, unless a mutation allocates less than that at a time.
const STEP_BYTES_MIN: usize = if cfg!(debug_assertions) { 1 << 10 } else { 64 << 10 };
/// Never more for each millisecond of a slice, so that an estimate that is wrong is noticed early.
const STEP_BYTES_MAX: usize = if cfg!(debug_assertions) { 1 << 10 } else { 2 << 20 };
/// The first guess: a gigabyte a second.
const NS_PER_KIB_FIRST: u64 = 1000;

/// The mutator's share of the time of a cycle, in percent, when no goal is set.
const SHARE_PERCENT: u8 = 62;

#[derive(Debug)]
pub(crate) struct Pacer {
    /// Time of a whole cycle for a KiB in use at its beginning, as measured.
    ns_per_kib: u64,
    /// In use at the beginning of the cycle.
    begin_bytes: usize,
    /// Time of the slices of this cycle.
    spent_ns: u64,
    /// In use when the cycle should end.
    goal_bytes: usize,
    /// In use at the end of the last slice, and when the next is due.
    last_bytes: usize,
    next_bytes: Cell<usize>,
    /// From this many in use on, a slice is due however short the mutator has worked.
    force_bytes: usize,
    /// How long the mutator works at least between two slices, if memory allows.
    fair_ns: u64,
    /// Bytes that the mutator needs to work for as long as the collector, or the share that was
    /// asked for, as measured between the last two slices.
    fair_bytes: usize,
    /// When the last slice ended.
    last_end_ns: u64,
    /// The most that was allocated between two slices of late: mutations may be long.
    stride_bytes: usize,
}

impl Pacer {
    pub(crate) fn new() -> Self {
        Self {
            ns_per_kib: NS_PER_KIB_FIRST,
            begin_bytes: 0,
            spent_ns: 0,
            goal_bytes: 0,
            last_bytes: 0,
            next_bytes: Cell::new(0),
            force_bytes: 0,
            fair_ns: 0,
            fair_bytes: 0,
            last_end_ns: 0,
            stride_bytes: 0,
        }
    }

    /// A cycle begins with `occupied` bytes in use. It may let the heap grow by a quarter, or by
    /// half of the `headroom`: what can still be given out before the cycle ends.
    pub(crate) fn begin<M: Model>(&mut self, occupied: usize, headroom: usize, common: &Common<M>) {
        self.begin_bytes = occupied;
        self.spent_ns = 0;
        self.goal_bytes = occupied + (occupied / 4).min(headroom / 2);
        self.last_bytes = occupied;
        self.last_end_ns = 0;
        self.fair_bytes = 0;
        // From the first slice on: the second must not follow at its heels.
        self.fair_ns = Self::wanted_ns(common);
        self.next_bytes.set(0);
        self.force_bytes = 0;
    }

    /// A slice begins at `now_ns`: looks at how fast the mutator has allocated since the last.
    pub(crate) fn begin_slice<M: Model>(
        &mut self,
        now_ns: u64,
        occupied: usize,
        common: &Common<M>,
    ) {
        if self.last_end_ns == 0 {
            return;
        }
        let wanted_ns = Self::wanted_ns(common);
        let bytes = occupied.saturating_sub(self.last_bytes) as f64;
        let took_ns = now_ns.saturating_sub(self.last_end_ns).max(1) as f64;
        self.fair_bytes = (bytes * wanted_ns as f64 / took_ns) as usize;
        self.fair_ns = wanted_ns;
    }

    /// How long the mutator works between two slices to have its share.
    fn wanted_ns<M: Model>(common: &Common<M>) -> u64 {
        let share = f64::from(common.config.throughput_percent.unwrap_or(SHARE_PERCENT)) / 100.0;
        (common.config.slice_us as f64 * 1000.0 * share / (1.0 - share)) as u64
    }

    fn slices_left(&self, slice_us: u64) -> usize {
        let whole_ns = self.begin_bytes as u64 / 1024 * self.ns_per_kib;
        // An estimate that turned out too small is extended by an eighth at a time.
        let left_ns = whole_ns.saturating_sub(self.spent_ns).max(whole_ns / 8);
        (left_ns / (slice_us * 1000).max(1)) as usize + 1
    }

    /// Whether the slices that are left would not end before there is no `headroom`. At least one
    /// mutation as long as the recent ones must still fit.
    pub(crate) fn must_hurry<M: Model>(
        &mut self,
        occupied: usize,
        headroom: usize,
        common: &Common<M>,
    ) -> bool {
        let stride = occupied.saturating_sub(self.last_bytes);
        self.stride_bytes = stride.max(self.stride_bytes - self.stride_bytes / 16);
        let slices = self.slices_left(common.config.slice_us);
        // What is a step here is chosen below, and a piece of memory counts as soon as it is given
        // out; a longer mutation is the program's choice.
        let step_max = STEP_BYTES_MAX * (common.config.slice_us as usize / 1000).max(1);
        let step_max = step_max.max(GIVEN_BYTES_MAX);
        self.stride_bytes > step_max && headroom / self.stride_bytes < slices.min(64) + 1
    }

    /// Whether there is so little `headroom` that an allocation may be refused next.
    pub(crate) fn is_short<M: Model>(headroom: usize, common: &Common<M>) -> bool {
        headroom < common.config.least_room_bytes()
    }

    /// The most that was allocated between two slices of late.
    pub(crate) fn stride_bytes(&self) -> usize {
        self.stride_bytes
    }

    /// A slice has ended after `spent_ns`.
    pub(crate) fn end_slice<M: Model>(
        &mut self,
        now_ns: u64,
        spent_ns: u64,
        occupied: usize,
        headroom: usize,
        common: &Common<M>,
    ) {
        self.spent_ns += spent_ns;
        let slices = self.slices_left(common.config.slice_us);
        let step = self.goal_bytes.saturating_sub(occupied) / slices;
        // The goal gives way to the mutator's share, and that to the limit.
        let most = headroom / 2 / slices;
        let step_max = STEP_BYTES_MAX * (common.config.slice_us as usize / 1000).max(1);
        let fair = self.fair_bytes.min(most);
        self.last_bytes = occupied;
        self.last_end_ns = now_ns;
        self.next_bytes.set(occupied + step.max(fair).clamp(STEP_BYTES_MIN, step_max));
        self.force_bytes = occupied + most.min(4 * step_max);
    }

    /// The cycle has ended.
    pub(crate) fn end(&mut self) {
        let measured = self.spent_ns / (self.begin_bytes as u64 / 1024 + 1);
        // A cycle in one slice has not been measured.
        if self.spent_ns > 0 {
            self.ns_per_kib = (self.ns_per_kib + measured.max(1)) / 2;
        }
    }

    /// Whether a slice is due: enough was allocated, and the mutator had its time.
    pub(crate) fn is_due(&self, occupied: usize) -> bool {
        if occupied < self.next_bytes.get() {
            return false;
        }
        if occupied >= self.force_bytes || monotonic_ns() >= self.last_end_ns + self.fair_ns {
            return true;
        }
        // Not at every hole: the clock costs as much as some allocations.
        self.next_bytes.set(occupied + STEP_BYTES_MIN / 8);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{NS_PER_KIB_FIRST, Pacer};

    #[test]
    fn an_estimate_follows_what_was_measured() {
        let mut pacer = Pacer::new();
        pacer.begin_bytes = 1 << 20;
        assert_eq!(pacer.slices_left(128), (NS_PER_KIB_FIRST * 1024 / 128_000) as usize + 1);
        pacer.spent_ns = 100 * 1024;
        pacer.end();
        assert_eq!(pacer.ns_per_kib, (NS_PER_KIB_FIRST + 99) / 2);
        pacer.spent_ns = u64::MAX / 2;
        assert!(pacer.slices_left(1) > 1, "a cycle that takes longer than expected goes on");
    }
}

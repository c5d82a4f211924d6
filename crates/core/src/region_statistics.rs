//! One snapshot for every region allocator, and the counters behind it.
#![forbid(unsafe_code)]

use core::cell::Cell;

/// A number of a snapshot, and how far it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Figure {
    /// To the byte.
    Exact(usize),
    /// At most this.
    AtMost(usize),
    /// Not counted with this policy or not known to this backing.
    #[default]
    Unknown,
}

impl Figure {
    /// The number, if there is one.
    pub const fn value(self) -> Option<usize> {
        match self {
            Self::Exact(value) | Self::AtMost(value) => Some(value),
            Self::Unknown => None,
        }
    }
}

impl From<Option<usize>> for Figure {
    fn from(value: Option<usize>) -> Self {
        value.map_or(Self::Unknown, Self::Exact)
    }
}

/// What a region allocator holds at one moment. Bytes, unless a name says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RegionStatistics {
    /// Blocks not freed.
    pub live_count: Figure,
    /// Usable bytes of blocks not freed.
    pub live_bytes: Figure,
    /// The largest `live_bytes` so far.
    pub peak_live_bytes: Figure,
    /// What was asked for, of blocks not freed.
    pub requested_bytes: Figure,
    /// Addresses taken from the backing.
    pub reserved_bytes: usize,
    /// Memory that may be touched.
    pub committed_bytes: usize,
    /// Memory that is there, as the kernel says.
    pub resident_bytes: Figure,
    /// Committed bytes that no block uses.
    pub free_bytes: Figure,
    /// The largest block that could be had without more from the backing.
    pub largest_free_bytes: usize,
    /// Requests refused since the beginning.
    pub failure_count: Figure,
}

impl RegionStatistics {
    /// 1 - requested / usable of live blocks, if both are known; 0 without live blocks.
    pub fn internal_fragmentation(&self) -> Option<f64> {
        share_missing(self.requested_bytes.value()?, self.live_bytes.value()?)
    }

    /// 1 - largest free / free, if known; 0 without free bytes.
    pub fn external_fragmentation(&self) -> Option<f64> {
        share_missing(self.largest_free_bytes, self.free_bytes.value()?)
    }
}

fn share_missing(part: usize, whole: usize) -> Option<f64> {
    if whole == 0 {
        return Some(0.0);
    }
    Some((1.0 - part as f64 / whole as f64).max(0.0))
}

/// Counts what an allocator does, or does not: a type, so that off costs nothing.
pub trait Counts {
    /// A block of `usable_bytes` was given for `requested_bytes`.
    fn on_alloc(&self, requested_bytes: usize, usable_bytes: usize);
    /// Such a block came back.
    fn on_free(&self, requested_bytes: usize, usable_bytes: usize);
    /// A request was refused.
    fn on_failure(&self);
    /// Every block is dead.
    fn on_reset(&self);
    /// Writes what is known into a snapshot.
    fn report(&self, into: &mut RegionStatistics);
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCounts;

impl Counts for NoCounts {
    #[inline(always)]
    fn on_alloc(&self, _: usize, _: usize) {}
    #[inline(always)]
    fn on_free(&self, _: usize, _: usize) {}
    #[inline(always)]
    fn on_failure(&self) {}
    #[inline(always)]
    fn on_reset(&self) {}
    #[inline(always)]
    fn report(&self, _: &mut RegionStatistics) {}
}

/// Counts in plain cells, for an allocator of one thread: about five instructions a block.
///
/// What is ended in bulk below a reset (a scope) stays counted as live until the reset; its
/// figures are then upper bounds, and [`RegionStatistics`] says so.
#[derive(Clone, Debug, Default)]
pub struct LocalCounts {
    count: Cell<usize>,
    live_bytes: Cell<usize>,
    peak_bytes: Cell<usize>,
    requested_bytes: Cell<usize>,
    failures: Cell<usize>,
}

impl LocalCounts {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            count: Cell::new(0),
            live_bytes: Cell::new(0),
            peak_bytes: Cell::new(0),
            requested_bytes: Cell::new(0),
            failures: Cell::new(0),
        }
    }
}

impl Counts for LocalCounts {
    fn on_alloc(&self, requested_bytes: usize, usable_bytes: usize) {
        self.count.set(self.count.get() + 1);
        self.live_bytes.set(self.live_bytes.get() + usable_bytes);
        self.requested_bytes.set(self.requested_bytes.get() + requested_bytes);
        self.peak_bytes.set(self.peak_bytes.get().max(self.live_bytes.get()));
    }

    fn on_free(&self, requested_bytes: usize, usable_bytes: usize) {
        debug_assert!(self.count.get() > 0, "more blocks came back than were given");
        debug_assert!(self.live_bytes.get() >= usable_bytes);
        self.count.set(self.count.get() - 1);
        self.live_bytes.set(self.live_bytes.get() - usable_bytes);
        self.requested_bytes.set(self.requested_bytes.get().saturating_sub(requested_bytes));
    }

    fn on_failure(&self) {
        self.failures.set(self.failures.get() + 1);
    }

    fn on_reset(&self) {
        self.count.set(0);
        self.live_bytes.set(0);
        self.requested_bytes.set(0);
    }

    fn report(&self, into: &mut RegionStatistics) {
        into.live_count = Figure::Exact(self.count.get());
        into.requested_bytes = Figure::Exact(self.requested_bytes.get());
        into.peak_live_bytes = Figure::Exact(self.peak_bytes.get());
        into.failure_count = Figure::Exact(self.failures.get());
        if into.live_bytes == Figure::Unknown {
            into.live_bytes = Figure::Exact(self.live_bytes.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Figure, LocalCounts, RegionStatistics};

    #[test]
    fn counts_follow_blocks() {
        let counts = LocalCounts::new();
        counts.on_alloc(10, 16);
        counts.on_alloc(20, 32);
        counts.on_free(10, 16);
        counts.on_failure();
        let mut seen = RegionStatistics::default();
        counts.report(&mut seen);
        assert_eq!(seen.live_count, Figure::Exact(1));
        assert_eq!(seen.live_bytes, Figure::Exact(32));
        assert_eq!(seen.peak_live_bytes, Figure::Exact(48));
        assert_eq!(seen.requested_bytes, Figure::Exact(20));
        assert_eq!(seen.failure_count, Figure::Exact(1));
        assert_eq!(seen.internal_fragmentation(), Some(0.375));
    }

    #[test]
    fn fragmentation_of_nothing_is_nothing() {
        let seen = RegionStatistics { free_bytes: Figure::Exact(0), ..Default::default() };
        assert_eq!(seen.external_fragmentation(), Some(0.0));
        assert_eq!(seen.internal_fragmentation(), None);
    }
}

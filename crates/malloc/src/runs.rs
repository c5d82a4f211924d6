//! Runs of slices: taken from the frontier, cut, joined, kept dirty for a while, purged.
//!
//! A free run is clean (its pages are the kernel's zero pages) or dirty (they may be resident and
//! hold old bytes). The two kinds have their own bins and never join. Dirty runs are handed out
//! first; those that nobody wanted for two epochs, and the largest when there are too many bytes
//! of them, are purged and become clean.
//!
//! # Invariants
//! - I1: first and last slice of a free run say FREE_RUN and its length; no two neighbours are
//!   free runs of one kind.
//! - I2: `occupied` has exactly the bits of the bins that are not empty.
//! - I3: slices from `frontier` on belong to no run; below `committed` they are usable.

use core::ptr::NonNull;

use heapwright_core::run_bins::{BIN_COUNT, bin_of, first_occupied};
use heapwright_os::{Advice, advise, monotonic_ns};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::descriptor::{FREE_RUN, INTERIOR, NO_SLICE, SliceIndex};
use crate::huge;
use crate::limits::limits;
use crate::merge::note_pressure;
use crate::options::are_huge_pages_wanted;
use crate::pressure::{dirty_bytes_max, is_tight_before};
use crate::purge::{note_purged, note_work};
use crate::region::{
    COMMIT_SLICES, Extent, SLICE_BYTES, SLICE_LOG2, commit_slices, descriptor, slice_start,
};
use crate::span::PAGE_UNIT_BYTES;
use crate::span_list;

/// Dirty bytes that are always kept: the working set of a loop over blocks of several MB.
const DIRTY_SLICES_MIN: SliceIndex = (64 << 20) >> SLICE_LOG2;
/// And up to what is in use divided by this: a program that has much in use frees and takes much.
/// What nobody takes is purged by its age.
const DIRTY_SHARE: SliceIndex = 2;
/// A dirty run is purged one to two epochs after it came to be.
const EPOCH_NS: u64 = 250_000_000;
/// The clock is read at every so many freed runs.
const CLOCK_INTERVAL: u32 = 8;
/// Runs looked at in a bin whose runs may be too short.
const BIN_LOOK_COUNT: usize = 16;
/// The frontier is committed in steps of at least 64 and at most 1,024 slices.
const COMMIT_STEP_SLICES_MIN: SliceIndex = COMMIT_SLICES;
const COMMIT_STEP_SLICES_MAX: SliceIndex = 16 * COMMIT_SLICES;

/// Free lists of one kind.
struct Bins {
    heads: [SliceIndex; BIN_COUNT],
    occupied: u128,
}

impl Bins {
    const fn new() -> Self {
        Self { heads: [NO_SLICE; BIN_COUNT], occupied: 0 }
    }

    fn head(&mut self, bin: usize) -> &mut SliceIndex {
        // A bin's number is below `BIN_COUNT` (tests of `run_bins`); the mask only tells the
        // compiler.
        &mut self.heads[bin & (BIN_COUNT - 1)]
    }
}

/// A run that was handed out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Its first slice.
    pub(crate) index: SliceIndex,
    /// Whether all its bytes are zero.
    pub(crate) is_zeroed: bool,
}

/// Slices ever used, for those who do not have the lock.
static EVER_USED_SLICES: AtomicU32 = AtomicU32::new(0);

/// Bytes of the slices ever used: more of this allocator cannot be resident.
#[inline]
pub(crate) fn ever_used_bytes() -> usize {
    (EVER_USED_SLICES.load(Ordering::Relaxed) as usize) << SLICE_LOG2
}

/// All runs of the region. Under the pool's lock.
pub(crate) struct Runs {
    clean: Bins,
    dirty: Bins,
    /// Runs below are not joined with.
    floor: SliceIndex,
    frontier: SliceIndex,
    committed: SliceIndex,
    limit: SliceIndex,
    dirty_slices: SliceIndex,
    /// Slices handed out.
    used_slices: SliceIndex,
    epoch: u32,
    epoch_start_ns: u64,
    clock_countdown: u32,
}

impl Runs {
    pub(crate) const fn new() -> Self {
        Self {
            clean: Bins::new(),
            dirty: Bins::new(),
            floor: 0,
            frontier: 0,
            committed: 0,
            limit: 0,
            dirty_slices: 0,
            used_slices: 0,
            epoch: 0,
            epoch_start_ns: 0,
            clock_countdown: 0,
        }
    }

    /// Sets which slices there are; once, before the first run.
    pub(crate) fn set_extent(&mut self, extent: Extent) {
        self.floor = extent.first;
        self.frontier = extent.first;
        self.committed = extent.first;
        self.limit = extent.end;
    }

    /// Forgets all free runs, which are then lost, and joins nothing with what is below the
    /// frontier: for runs that a vanished thread left half changed.
    pub(crate) fn forget(&mut self) {
        self.clean = Bins::new();
        self.dirty = Bins::new();
        self.dirty_slices = 0;
        self.floor = self.frontier;
    }

    /// The first slice ever used.
    pub(crate) fn first(&self) -> SliceIndex {
        self.floor
    }

    /// End of the slices ever used.
    pub(crate) fn frontier(&self) -> SliceIndex {
        self.frontier
    }

    /// Slices that could be given back to the kernel.
    pub(crate) fn dirty_slices(&self) -> SliceIndex {
        self.dirty_slices
    }

    /// Takes a run of `slices` (at least 1). Its head and last slice are left for the caller to
    /// describe.
    pub(crate) fn take(&mut self, slices: SliceIndex) -> Option<Run> {
        if self.held_bytes(slices) > limits().hard_bytes {
            self.purge_largest(0);
            if self.held_bytes(slices) > limits().hard_bytes {
                return None;
            }
        }
        let run = self.take_run(slices)?;
        self.used_slices += slices;
        Some(run)
    }

    /// Bytes that would be in use or dirty with `more` slices in use.
    pub(crate) fn held_bytes(&self, more: SliceIndex) -> usize {
        (self.used_slices as usize + self.dirty_slices as usize + more as usize) << SLICE_LOG2
    }

    fn take_run(&mut self, slices: SliceIndex) -> Option<Run> {
        for is_dirty in [true, false] {
            if let Some(index) = self.find(slices, is_dirty) {
                let length = self.unlink(index);
                if length > slices {
                    self.link(index + slices, length - slices, is_dirty);
                }
                return Some(Run { index, is_zeroed: !is_dirty });
            }
        }
        self.take_from_frontier(slices)
    }

    /// Takes a run of `slices` whose address is a multiple of `align_slices` slices.
    pub(crate) fn take_aligned(
        &mut self,
        slices: SliceIndex,
        align_slices: SliceIndex,
    ) -> Option<Run> {
        let wide = slices.checked_add(align_slices - 1)?;
        let run = self.take(wide)?;
        self.used_slices -= wide - slices;
        let first = slice_start(run.index).addr() >> SLICE_LOG2;
        let skip = (first.next_multiple_of(align_slices as usize) - first) as SliceIndex;
        let rest = wide - skip - slices;
        let is_dirty = !run.is_zeroed;
        let index = run.index + skip;
        // The run proper has to look taken before its neighbours are given back beside it.
        self.mark_taken(index, slices);
        if skip > 0 {
            self.give_part(run.index, skip, is_dirty);
        }
        if rest > 0 {
            self.give_part(index + slices, rest, is_dirty);
        }
        Some(Run { index, is_zeroed: run.is_zeroed })
    }

    /// Whether there is a dirty run of at least `slices`, as far as the bins tell.
    pub(crate) fn has_dirty(&mut self, slices: SliceIndex) -> bool {
        self.find(slices, true).is_some()
    }

    /// Takes the `more` slices right behind a run that ends at `end`; whether they were free.
    pub(crate) fn take_behind(&mut self, end: SliceIndex, more: SliceIndex) -> bool {
        if self.held_bytes(more) > limits().hard_bytes || !self.take_run_behind(end, more) {
            return false;
        }
        self.used_slices += more;
        true
    }

    fn take_run_behind(&mut self, end: SliceIndex, more: SliceIndex) -> bool {
        if end == self.frontier {
            return self.take_from_frontier(more).is_some();
        }
        let next = descriptor(end);
        if next.owner.load(Ordering::Relaxed) != FREE_RUN
            || next.run_slices.load(Ordering::Relaxed) < more
        {
            return false;
        }
        let is_dirty = next.is_dirty.load(Ordering::Relaxed) != 0;
        let length = self.unlink(end);
        if length > more {
            self.link(end + more, length - more, is_dirty);
        }
        true
    }

    /// Gives a run back. Dirty runs are kept for a while.
    pub(crate) fn give(&mut self, index: SliceIndex, slices: SliceIndex, is_dirty: bool) {
        self.used_slices -= slices;
        if is_dirty {
            note_work();
        }
        self.give_part(index, slices, is_dirty);
        if self.held_bytes(0) > limits().soft_bytes {
            self.purge_largest(0);
            note_pressure();
        }
        if self.clock_countdown == 0 {
            self.clock_countdown = CLOCK_INTERVAL;
            self.tick(monotonic_ns());
        }
        self.clock_countdown -= 1;
        let budget = self.dirty_budget_slices();
        if self.dirty_slices > budget {
            self.purge_largest(budget - budget / 8);
        }
    }

    /// Dirty slices kept at most.
    fn dirty_budget_slices(&self) -> SliceIndex {
        let under_pressure = SliceIndex::try_from(dirty_bytes_max() >> SLICE_LOG2);
        let budget = DIRTY_SLICES_MIN.max(self.used_slices / DIRTY_SHARE);
        budget.min(under_pressure.unwrap_or(SliceIndex::MAX))
    }

    /// Purges everything; returns the number of slices purged.
    pub(crate) fn purge_all(&mut self) -> SliceIndex {
        let before = self.dirty_slices;
        self.purge_largest(0);
        before - self.dirty_slices
    }

    fn give_part(&mut self, mut index: SliceIndex, mut slices: SliceIndex, is_dirty: bool) {
        if index < self.floor {
            // Of before `forget`: nobody's any more.
            return;
        }
        if index > self.floor {
            let before = descriptor(index - 1);
            if self.is_free_of_kind(before.owner.load(Ordering::Relaxed), index - 1, is_dirty) {
                let length = before.run_slices.load(Ordering::Relaxed);
                index -= length;
                slices += self.unlink(index);
            }
        }
        let end = index + slices;
        if end < self.frontier {
            let behind = descriptor(end);
            if self.is_free_of_kind(behind.owner.load(Ordering::Relaxed), end, is_dirty) {
                slices += self.unlink(end);
            }
        }
        self.link(index, slices, is_dirty);
    }

    fn is_free_of_kind(&self, owner: usize, index: SliceIndex, is_dirty: bool) -> bool {
        let found = descriptor(index).is_dirty.load(Ordering::Relaxed) != 0;
        owner == FREE_RUN && found == is_dirty
    }

    fn bins(&mut self, is_dirty: bool) -> &mut Bins {
        if is_dirty { &mut self.dirty } else { &mut self.clean }
    }

    /// A free run of at least `slices`: of the shortest bin that surely fits, after a look into
    /// the one that may.
    fn find(&mut self, slices: SliceIndex, is_dirty: bool) -> Option<SliceIndex> {
        let bins = self.bins(is_dirty);
        let own = bin_of(slices);
        if bins.occupied & (1 << own) != 0 {
            let head = *bins.head(own);
            let mut index = head;
            for _ in 0..BIN_LOOK_COUNT {
                if descriptor(index).run_slices.load(Ordering::Relaxed) >= slices {
                    return Some(index);
                }
                match span_list::after(head, index) {
                    Some(next) => index = next,
                    None => break,
                }
            }
        }
        let bin = first_occupied(bins.occupied, own + 1)?;
        Some(*bins.head(bin))
    }

    fn link(&mut self, index: SliceIndex, slices: SliceIndex, is_dirty: bool) {
        let epoch = self.epoch;
        for end in [index, index + slices - 1] {
            let slice = descriptor(end);
            slice.owner.store(FREE_RUN, Ordering::Relaxed);
            slice.run_slices.store(slices, Ordering::Relaxed);
            slice.is_dirty.store(u8::from(is_dirty), Ordering::Relaxed);
            slice.epoch.store(epoch, Ordering::Relaxed);
        }
        if is_dirty {
            self.dirty_slices += slices;
        }
        let bin = bin_of(slices);
        let bins = self.bins(is_dirty);
        bins.occupied |= 1 << bin;
        let head = bins.head(bin);
        // resident and in the CPU's caches.
        *head = span_list::prepend(*head, index);
    }

    /// Takes a free run out of its bin; returns its length.
    fn unlink(&mut self, index: SliceIndex) -> SliceIndex {
        let run = descriptor(index);
        debug_assert_eq!(run.owner.load(Ordering::Relaxed), FREE_RUN);
        let slices = run.run_slices.load(Ordering::Relaxed);
        let is_dirty = run.is_dirty.load(Ordering::Relaxed) != 0;
        if is_dirty {
            self.dirty_slices -= slices;
        }
        let bin = bin_of(slices);
        let bins = self.bins(is_dirty);
        let head = bins.head(bin);
        *head = span_list::remove(*head, index);
        if *head == NO_SLICE {
            bins.occupied &= !(1 << bin);
        }
        self.mark_taken(index, slices);
        slices
    }

    /// Makes both ends of a run look like no free run, so that neighbours do not join it.
    fn mark_taken(&mut self, index: SliceIndex, slices: SliceIndex) {
        for end in [index, index + slices - 1] {
            descriptor(end).owner.store(INTERIOR, Ordering::Relaxed);
        }
    }

    fn take_from_frontier(&mut self, slices: SliceIndex) -> Option<Run> {
        let index = self.frontier;
        let end = index.checked_add(slices).filter(|end| *end <= self.limit)?;
        if end > self.committed {
            // What is young now may be huge one day.
            if are_huge_pages_wanted() {
                note_work();
            }
            let least = end.next_multiple_of(COMMIT_SLICES).min(self.limit);
            let step = ((self.committed - self.floor) / 8)
                .clamp(COMMIT_STEP_SLICES_MIN, COMMIT_STEP_SLICES_MAX)
                / COMMIT_SLICES
                * COMMIT_SLICES;
            let wished = least.max((self.committed + step).min(self.limit));
            let bytes = (wished - self.committed) as usize * SLICE_BYTES;
            if is_tight_before(bytes) && self.dirty_slices > 0 {
                // What is free here is too short for who asks.
                self.purge_largest(0);
            }
            // When the kernel is short, what is needed now may still go.
            if commit_slices(self.committed, wished) {
                self.committed = wished;
            } else if wished > least && commit_slices(self.committed, least) {
                self.committed = least;
            } else {
                return None;
            }
        }
        self.frontier = end;
        EVER_USED_SLICES.fetch_add(slices, Ordering::Relaxed);
        self.mark_taken(index, slices);
        Some(Run { index, is_zeroed: true })
    }

    /// Starts a new epoch when it is time, and purges what is two epochs old, here and now.
    fn tick(&mut self, now_ns: u64) {
        if !self.start_epoch(now_ns) {
            return;
        }
        while let Some((index, slices)) = self.take_overdue() {
            let is_purged = purge(index, slices);
            self.give_purged(index, slices, is_purged);
            if !is_purged {
                return;
            }
        }
    }

    /// Starts a new epoch when it is time; whether it was.
    pub(crate) fn start_epoch(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.epoch_start_ns) < EPOCH_NS {
            return false;
        }
        self.epoch_start_ns = now_ns;
        self.epoch = self.epoch.wrapping_add(1);
        true
    }

    /// Takes a dirty run that nobody wanted for two epochs; its caller purges it and calls
    /// [`Runs::give_purged`].
    pub(crate) fn take_overdue(&mut self) -> Option<(SliceIndex, SliceIndex)> {
        let epoch = self.epoch;
        let mut bin = 0;
        while let Some(found) = first_occupied(self.dirty.occupied, bin) {
            let head = *self.dirty.head(found);
            // The oldest is the last one.
            let index = descriptor(head).prev.load(Ordering::Relaxed);
            if epoch.wrapping_sub(descriptor(index).epoch.load(Ordering::Relaxed)) >= 2 {
                return Some((index, self.unlink(index)));
            }
            bin = found + 1;
        }
        None
    }

    /// Gives back what [`Runs::take_overdue`] gave.
    pub(crate) fn give_purged(&mut self, index: SliceIndex, slices: SliceIndex, is_purged: bool) {
        if is_purged {
            note_touched(index, slices, 0);
        }
        self.give_part(index, slices, !is_purged);
    }

    /// Purges the largest dirty runs until at most `keep` dirty slices are left.
    fn purge_largest(&mut self, keep: SliceIndex) {
        while self.dirty_slices > keep {
            let Some(bin) = self.dirty.occupied.checked_ilog2() else { return };
            let index = *self.dirty.head(bin as usize);
            let slices = self.unlink(index);
            let is_purged = purge(index, slices);
            self.give_purged(index, slices, is_purged);
            if !is_purged {
                return;
            }
        }
    }
}

/// Notes for each slice of a run which of its pages may be resident: those of the first `bytes`.
pub(crate) fn note_touched(index: SliceIndex, slices: SliceIndex, bytes: usize) {
    let mut pages = bytes.div_ceil(PAGE_UNIT_BYTES);
    for slice in index..index + slices {
        let here = pages.min(SLICE_BYTES / PAGE_UNIT_BYTES);
        pages -= here;
        let touched = (1 << here) - 1;
        descriptor(slice).extra.store(touched, Ordering::Relaxed);
    }
}

/// Gives a run's pages to the kernel; whether it took them.
pub(crate) fn purge(index: SliceIndex, slices: SliceIndex) -> bool {
    huge::note_purged(index, slices);
    let Some(start) = NonNull::new(slice_start(index)) else { return false };
    // SAFETY: the caller's free run, whose pages are ours and whose contents nobody needs.
    let is_done =
        unsafe { advise(start, (slices as usize) << SLICE_LOG2, Advice::DontNeed) }.is_ok();
    if is_done {
        note_purged((slices as usize) << SLICE_LOG2);
    }
    is_done
}

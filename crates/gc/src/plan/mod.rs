//! Plans: the collectors, each a small file over the shared spaces.

mod generational;
mod incremental;
mod mark_compact;
mod mark_sweep;
mod null;
mod pacer;
mod semispace;

use core::ptr::NonNull;

use crate::config::{Collector, Config};
use crate::control::Controller;
use crate::copying::spare_bytes;
use crate::dynamic_root::RootTable;
use crate::finalise::Finals;
use crate::identity::Identities;
use crate::mark::Marker;
use crate::memory::{Reserve, Table};
use crate::model::Model;
use crate::mutator::Barrier;
use crate::object::{MARK, ObjectRef};
use crate::root::Roots;
use crate::space::{AddressRange, BLOCK_BYTES, Hole, LargeSpace};
use crate::trace::Visitor;
use crate::weak::{Pairs, Reach};
use crate::write_log::Logged;
use crate::{HeapError, Pause, Statistics};

use generational::Generational;
use incremental::Incremental;
use mark_compact::MarkCompact;
use mark_sweep::MarkSweep;
use null::Null;
use semispace::Semispace;

/// Memory for the mutator.
pub(crate) enum Grant {
    /// A hole to bump through.
    Bump(Hole),
    /// Room for the one object that was asked for.
    Single(NonNull<u8>),
}

/// How far the table of destructors has been looked at: entries before `kept` stay, those up to
/// `next` mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DropCursor {
    pub(crate) kept: usize,
    pub(crate) next: usize,
}

/// Entries of a table that are looked at between two looks at the clock.
const ENTRIES: usize = if cfg!(debug_assertions) { 2 } else { 64 };
/// Below this one thread has marked everything before a second has begun.
const PARALLEL_BYTES_MIN: usize = if cfg!(debug_assertions) { 1 } else { 16 << 20 };
/// As much for copying, of what is likely to be copied: three milliseconds or so.
const PARALLEL_COPY_BYTES_MIN: usize = if cfg!(debug_assertions) { 1 } else { 4 << 20 };

/// What all plans share.
pub(crate) struct Common<M: Model> {
    pub(crate) config: Config,
    pub(crate) large: LargeSpace,
    /// Counts the external bytes.
    pub(crate) shared: RootTable,
    /// Objects whose payload has a destructor.
    pub(crate) drops: Table<ObjectRef>,
    /// Entries of `drops` from this index on are younger than the last collection.
    pub(crate) young_drops_from: usize,
    pub(crate) drop_cursor: DropCursor,
    /// Weak references and ephemerons.
    pub(crate) pairs: Pairs,
    /// Objects with finalisers.
    pub(crate) finals: Finals,
    /// The one of the three tables above and below that a cycle settles now.
    pub(crate) table: usize,
    /// Objects that were asked for their identity.
    pub(crate) identities: Identities,
    /// Pauses so far, if they are recorded.
    pub(crate) pauses: Table<Pause>,
    /// The mark bit of new objects, and of marked ones while a cycle marks.
    pub(crate) mark: usize,
    /// What the program logged, while a collection runs.
    pub(crate) logged: Logged<M>,
    pub(crate) statistics: Statistics,
    pub(crate) controller: Controller,
    /// A full collection is due when this much is occupied.
    pub(crate) trigger_bytes: usize,
    /// As much with the copy reserve is close to the limit: a full collection is due, too.
    pub(crate) near_limit_bytes: usize,
    /// Where the unused rest of the mutator's hole begins, when a collection starts; or null.
    pub(crate) cursor: *mut u8,
    /// An allocation was refused, so a slice is not enough.
    pub(crate) is_urgent: bool,
}

impl<M: Model> Common<M> {
    /// Changes the meaning of the mark bit: nothing is marked now.
    pub(crate) fn flip_mark(&mut self) -> usize {
        self.mark ^= MARK;
        self.mark
    }

    /// Ends the search for what is reachable: ephemerons and objects with finalisers first, then
    /// weak references are cleared, then destructors of the dead run. In a minor collection only
    /// young ones can be concerned.
    pub(crate) fn settle<R: Roots, V: Reach>(&mut self, roots: &mut R, all: bool, visitor: &mut V) {
        while self.reach_more(all, visitor) {
            visitor.finish();
        }
        self.settle_weak(roots, all, visitor);
        self.begin_drops(if all { 0 } else { self.young_drops_from });
        self.settle_drops(usize::MAX, visitor);
    }

    /// Starts what [`Common::settle_drops`] does, at the entry `from`.
    pub(crate) fn begin_drops(&mut self, from: usize) {
        self.drop_cursor = DropCursor { kept: from, next: from };
    }

    /// Reaches what is kept by ephemerons and, when there is no more of that, for finalisers.
    /// Returns whether there was something; the visitor has to finish then.
    pub(crate) fn reach_more<V: Reach>(&mut self, all: bool, visitor: &mut V) -> bool {
        self.pairs.reach_values(all, visitor) || self.finals.resurrect(all, visitor)
    }

    /// As [`Common::reach_more`] in a cycle in slices, for some entries of the tables, after
    /// everything was reached. Returns whether there is nothing left to do.
    pub(crate) fn reach_some(&mut self, marker: &mut Marker<M>) -> bool {
        let marked = marker.marked();
        self.pairs.reach_some(ENTRIES, marked, marker)
            && self.finals.resurrect_some(ENTRIES, marker)
    }

    /// Begins what [`Common::settle_some`] does.
    pub(crate) fn begin_settle(&mut self) {
        self.table = 0;
        self.pairs.begin_settle();
        self.finals.begin_pass();
        self.identities.begin_settle();
    }

    /// As [`Common::settle_weak`] of the heap's own tables where nothing has moved, for some of their
    /// entries; returns whether these were the last.
    pub(crate) fn settle_some(&mut self, marker: &Marker<M>) -> bool {
        let done = match self.table {
            0 => self.pairs.settle_some(ENTRIES, marker),
            1 => self.finals.settle_some(ENTRIES, marker),
            _ => self.identities.settle_some(ENTRIES, marker),
        };
        self.table += usize::from(done);
        self.table == 3
    }

    /// Clears weak references to the dead, and takes over where the others are.
    pub(crate) fn settle_weak<R: Roots, V: Reach>(
        &mut self,
        roots: &mut R,
        all: bool,
        visitor: &V,
    ) {
        roots.settle(&mut |object| visitor.settled(object));
        self.pairs.settle(all, visitor);
        self.finals.settle(all, visitor);
        self.identities.settle(all, visitor);
    }

    /// Looks at up to `count` more objects with destructors, and runs those of the dead. Returns
    /// whether that were all.
    pub(crate) fn settle_drops<V: Reach>(&mut self, count: usize, visitor: &V) -> bool {
        let cursor = &mut self.drop_cursor;
        let end = self.drops.as_slice().len().min(cursor.next.saturating_add(count));
        for index in cursor.next..end {
            let object = self.drops.as_slice()[index];
            match visitor.settled(object) {
                Some(object) => {
                    self.drops.as_mut_slice()[cursor.kept] = object;
                    cursor.kept += 1;
                }
                // SAFETY: not reached from any root, so nobody uses the payload again; the cursor
                // has passed the entry, so this happens once.
                None => unsafe { M::drop_payload(object) },
            }
        }
        cursor.next = end;
        if end < self.drops.as_slice().len() {
            return false;
        }
        self.drops.truncate(cursor.kept);
        cursor.next = cursor.kept;
        self.young_drops_from = cursor.kept;
        true
    }

    /// The objects whose destructor has not run, when no collection will look at them any more.
    pub(crate) fn take_drops(&mut self) -> &mut Table<ObjectRef> {
        let DropCursor { kept, next } = self.drop_cursor;
        let drops = self.drops.as_mut_slice();
        drops.copy_within(next.., kept);
        let len = drops.len() - (next - kept);
        self.drops.truncate(len);
        self.drop_cursor = DropCursor { kept: 0, next: 0 };
        &mut self.drops
    }

    /// Shows all roots to `visitor`.
    pub(crate) fn trace_roots<R: Roots, V: Visitor>(&mut self, roots: &mut R, visitor: &mut V) {
        roots.trace(visitor);
        self.finals.trace(visitor);
    }

    /// As [`Common::trace_roots`] in a cycle in slices, to move what the roots refer to.
    pub(crate) fn trace_rest<R: Roots, V: Visitor>(&mut self, roots: &mut R, visitor: &mut V) {
        roots.trace_rest(visitor);
        self.finals.trace(visitor);
    }

    /// How many threads are worth it to mark what is reachable in a heap with as much in use
    /// outside the large space.
    pub(crate) fn mark_threads(&self, small_bytes: usize) -> usize {
        let bytes = small_bytes + self.large.occupied_bytes();
        if bytes >= PARALLEL_BYTES_MIN { self.config.threads } else { 1 }
    }

    /// How many threads are worth it to copy about `expected` bytes, `most` at most, with as much in
    /// use in all, the copies apart. One if what several leave unused would not fit in the limit.
    pub(crate) fn copy_threads(&self, expected: usize, most: usize, in_use: usize) -> usize {
        let threads = self.config.threads;
        let held = in_use.saturating_add(most).saturating_add(spare_bytes(most, threads));
        let is_worth_it = expected >= PARALLEL_COPY_BYTES_MIN;
        if is_worth_it && held <= self.config.limit_bytes { threads } else { 1 }
    }

    /// Replaces every reference of the heap's tables, when nothing in them is dead.
    pub(crate) fn relocate_tables(&mut self, place: &mut dyn FnMut(ObjectRef) -> ObjectRef) {
        self.pairs.relocate(place);
        self.finals.slide(&mut *place);
        self.identities.slide(&mut *place);
        for object in self.drops.as_mut_slice() {
            *object = place(*object);
        }
    }

    /// Bytes of large objects and outside the heap.
    pub(crate) fn other_bytes(&self) -> usize {
        self.large.occupied_bytes() + self.shared.external_bytes()
    }

    /// Whether a full collection should start with as much in use outside the large space.
    pub(crate) fn is_full_due(&self, small_bytes: usize, reserve_bytes: usize) -> bool {
        let occupied = small_bytes + self.other_bytes();
        self.is_urgent
            || occupied >= self.trigger_bytes
            || occupied + reserve_bytes >= self.near_limit_bytes
    }

    /// Notes the end of a full collection that left `small_bytes` outside the large space.
    pub(crate) fn end_full(&mut self, small_bytes: usize) {
        let live = small_bytes + self.other_bytes();
        self.statistics.live_bytes = live;
        self.statistics.full_collections += 1;
        self.controller.after_full(&self.config, &mut self.statistics);
        self.trigger_bytes = self.config.trigger_after(live, self.controller.growth_percent);
        self.near_limit_bytes = self.config.near_limit_after(live);
        self.is_urgent = false;
    }

    /// How many bytes of free memory to keep for allocation until the next collection: what is
    /// likely to be allocated until then. Giving it back would cost a page fault for every page.
    pub(crate) fn keep_bytes(&self) -> usize {
        self.trigger_bytes.saturating_sub(self.statistics.live_bytes)
    }
}

/// What a collection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What is due.
    Due,
    /// A full collection, to its end.
    Full,
}

/// A collector over its spaces.
pub(crate) trait Plan<M: Model> {
    /// Memory for an object of `bytes`, at most [`crate::space::LARGE_BYTES`]. `cursor` is where
    /// the unused rest of the last hole begins, or null.
    fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Grant>;

    /// Bytes in use outside the large space.
    fn occupied_bytes(&self) -> usize;

    /// Bytes that the next collection may need to copy into.
    fn reserve_bytes(&self) -> usize {
        0
    }

    /// Whether there is something to do after this mutation.
    fn is_due(&self, common: &Common<M>) -> bool {
        common.is_full_due(self.occupied_bytes(), self.reserve_bytes())
    }

    /// Whether the mutator may go on with its hole after `collect`.
    fn keeps_hole(&self, _common: &Common<M>, _extent: Extent) -> bool {
        false
    }

    /// Whether a full collection leaves every reachable object with the mark bit.
    fn marks_all(&self) -> bool {
        true
    }

    /// Collects. The mutator has no hole: it gets a new one afterwards.
    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>, extent: Extent);

    /// The barrier that writes need now.
    fn barrier(&self) -> Barrier {
        Barrier::None
    }

    /// The value before a write, for the snapshot: the marker that takes it.
    fn snapshot(&mut self) -> Option<&mut Marker<M>> {
        None
    }

    /// Whether a cycle in slices knows who lives and has not cleared all weak references yet.
    fn is_settling(&self) -> bool {
        false
    }

    /// The value of a write, while a cycle in slices has candidates: the marker that remembers it.
    fn remembering(&mut self) -> Option<&mut Marker<M>> {
        None
    }

    /// A table of the heap will hold `object`: it stays where it is until the cycle ends.
    fn pin(&mut self, object: ObjectRef) {
        if let Some(marker) = self.remembering() {
            marker.pin(object);
        }
    }

    /// Where objects may be, apart from the large space.
    fn used(&self) -> [AddressRange; 2];
}

/// The addresses of a heap, cut by plan.
pub(crate) struct Layout<M: Model> {
    pub(crate) memory: Reserve,
    pub(crate) plan: AnyPlan<M>,
    pub(crate) large: LargeSpace,
    /// What is older than the nursery, for the barrier.
    pub(crate) tenured: AddressRange,
    pub(crate) nursery: AddressRange,
}

impl<M: Model> Layout<M> {
    /// Reserves addresses and makes the plan that `config` names.
    pub(crate) fn new(config: &Config) -> Result<Self, HeapError> {
        let limit = config.limit_bytes;
        // Room for runs that a first fit cannot use; addresses cost nothing.
        let large_bytes = 2 * limit;
        let (small_bytes, nursery_bytes) = match config.collector {
            Collector::Generational => (2 * limit, limit),
            _ => (limit, 0),
        };
        let memory = Reserve::new(small_bytes + large_bytes + nursery_bytes + BLOCK_BYTES)?;
        // Blocks are aligned, so that no object crosses more pages than it must.
        let skip = memory.start().align_offset(BLOCK_BYTES);
        memory.want_huge_pages(skip, small_bytes);
        memory.want_huge_pages(skip + small_bytes + large_bytes, nursery_bytes);
        let at = |offset: usize| {
            // SAFETY: the reserve has one block more than the sum of the parts.
            unsafe { memory.start().add(skip + offset) }
        };
        let small = at(0);
        let large = LargeSpace::new(at(small_bytes), large_bytes);
        let nursery = at(small_bytes + large_bytes);
        let plan = match config.collector {
            Collector::Null => AnyPlan::Null(Null::new(small, small_bytes)),
            Collector::MarkSweep => AnyPlan::MarkSweep(MarkSweep::new(small, small_bytes)?),
            Collector::MarkCompact => AnyPlan::MarkCompact(MarkCompact::new(small, small_bytes)?),
            Collector::Semispace => AnyPlan::Semispace(Semispace::new(
                small,
                at(small_bytes / 2),
                small_bytes / 2,
                config.guards,
            )),
            Collector::Generational => AnyPlan::Generational(Generational::new(
                small,
                small_bytes,
                nursery,
                nursery_bytes,
                config.guards,
            )?),
            Collector::Incremental => AnyPlan::Incremental(Incremental::new(small, small_bytes)?),
        };
        Ok(Self {
            tenured: AddressRange::new(small, small_bytes + large_bytes),
            nursery: AddressRange::new(nursery, nursery_bytes),
            large,
            plan,
            memory,
        })
    }
}

/// The plan that was chosen.
pub(crate) enum AnyPlan<M: Model> {
    Null(Null),
    MarkSweep(MarkSweep<M>),
    MarkCompact(MarkCompact<M>),
    Semispace(Semispace<M>),
    Generational(Generational<M>),
    Incremental(Incremental<M>),
}

/// Calls the chosen plan.
macro_rules! on_plan {
    ($any:expr, $plan:ident => $call:expr) => {
        match $any {
            AnyPlan::Null($plan) => $call,
            AnyPlan::MarkSweep($plan) => $call,
            AnyPlan::MarkCompact($plan) => $call,
            AnyPlan::Semispace($plan) => $call,
            AnyPlan::Generational($plan) => $call,
            AnyPlan::Incremental($plan) => $call,
        }
    };
}

impl<M: Model> Plan<M> for AnyPlan<M> {
    fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Grant> {
        on_plan!(self, plan => Plan::<M>::grant(plan, cursor, bytes))
    }

    fn occupied_bytes(&self) -> usize {
        on_plan!(self, plan => Plan::<M>::occupied_bytes(plan))
    }

    fn reserve_bytes(&self) -> usize {
        on_plan!(self, plan => Plan::<M>::reserve_bytes(plan))
    }

    fn marks_all(&self) -> bool {
        on_plan!(self, plan => Plan::<M>::marks_all(plan))
    }

    fn keeps_hole(&self, common: &Common<M>, extent: Extent) -> bool {
        on_plan!(self, plan => plan.keeps_hole(common, extent))
    }

    fn is_due(&self, common: &Common<M>) -> bool {
        on_plan!(self, plan => plan.is_due(common))
    }

    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>, extent: Extent) {
        on_plan!(self, plan => plan.collect(roots, common, extent))
    }

    fn barrier(&self) -> Barrier {
        on_plan!(self, plan => Plan::<M>::barrier(plan))
    }

    fn snapshot(&mut self) -> Option<&mut Marker<M>> {
        on_plan!(self, plan => plan.snapshot())
    }

    fn is_settling(&self) -> bool {
        on_plan!(self, plan => Plan::<M>::is_settling(plan))
    }

    fn remembering(&mut self) -> Option<&mut Marker<M>> {
        on_plan!(self, plan => plan.remembering())
    }

    fn used(&self) -> [AddressRange; 2] {
        on_plan!(self, plan => Plan::<M>::used(plan))
    }
}

//! Mutator: allocation by bumping and the log of writes, for any model of objects. What a
//! [`crate::Mutation`] and a [`crate::vm::VmHeap`] have in common.
//!
//! # Invariants
//! - A1: `cursor..limit` is unused memory of the heap, or both are null.
//! - A2: the state is borrowed for slow paths only, and no slow path runs code of the program.

use core::cell::{Cell, RefCell};
use core::ptr::NonNull;

use crate::system::{monotonic_ns, thread_cpu_ns};

use crate::locals::LocalStack;
use crate::mark::Marker;
use crate::model::Model;
use crate::object::ObjectRef;
use crate::plan::{Extent, Grant, Plan};
use crate::remember::{BorrowedCell, CopyCell};
use crate::root::{HeapRoots, Roots};
use crate::space::{AddressRange, LARGE_BYTES};
use crate::state::State;
use crate::verify::Verifier;
use crate::write_log::{Logged, LoggedCell, LoggedField, WriteLog};
use crate::{Collector, LimitReached, Pause, PauseKind};

/// What a write must do besides the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    None,
    /// Log cells outside the nursery that get a reference into it.
    Generational,
    /// Tell the cycle in slices of what is overwritten, for its snapshot, and of what is written,
    /// for the blocks that it will empty.
    Cycle,
}

/// Allocation and barriers of one heap.
pub(crate) struct Mutator<M: Model> {
    cursor: Cell<*mut u8>,
    limit: Cell<*mut u8>,
    pub(crate) mark: Cell<usize>,
    pub(crate) barrier: Cell<Barrier>,
    pub(crate) is_due: Cell<bool>,
    /// Whether a collection has begun and not ended.
    pub(crate) is_lost: Cell<bool>,
    /// Writes from here on need nothing: the end of `tenured`, which is where the nursery begins,
    /// or 0 while no write needs anything.
    watched_end: Cell<usize>,
    tenured: AddressRange,
    /// Provenance of the whole heap.
    base: NonNull<u8>,
    pub(crate) nursery: AddressRange,
    /// A write to a watched cell needs nothing if what it stores lies below: the nursery's start,
    /// as nothing of a heap lies behind the nursery, and null lies below; or 0 while what is
    /// overwritten counts.
    young_from: Cell<usize>,
    pub(crate) fields: WriteLog<LoggedField>,
    pub(crate) cells: WriteLog<LoggedCell<M>>,
    /// What handle scopes keep.
    pub(crate) locals: LocalStack,
    pub(crate) state: RefCell<State<M>>,
}

impl<M: Model> Mutator<M> {
    pub(crate) fn new(state: State<M>) -> Self {
        Self {
            cursor: Cell::new(core::ptr::null_mut()),
            limit: Cell::new(core::ptr::null_mut()),
            mark: Cell::new(state.common.mark),
            barrier: Cell::new(state.plan.barrier()),
            is_due: Cell::new(false),
            is_lost: Cell::new(false),
            watched_end: Cell::new(watched_end(&state)),
            fields: WriteLog::new(state.common.config.nursery_bytes),
            cells: WriteLog::new(state.common.config.nursery_bytes),
            young_from: Cell::new(young_from(&state)),
            tenured: state.tenured,
            base: state.base(),
            nursery: state.nursery,
            locals: LocalStack::new(),
            state: RefCell::new(state),
        }
    }

    /// Takes over what a collection has changed.
    pub(crate) fn refresh(&self) {
        let state = self.state.borrow();
        self.mark.set(state.common.mark);
        self.barrier.set(state.plan.barrier());
        self.watched_end.set(watched_end(&state));
        self.young_from.set(young_from(&state));
        self.is_due.set(state.is_due());
    }

    /// Whether a write to `place` must do something besides: none must that goes to an object of
    /// the nursery, to a root or to a value that is not in the heap yet.
    #[inline]
    pub(crate) fn is_watched(&self, place: NonNull<u8>) -> bool {
        self.is_below_young(place) && self.is_above_start(place)
    }

    /// The half of [`Mutator::is_watched`] that lets most writes through that need nothing: to young
    /// objects, to stacks, which as a rule lie above all heaps, and all while there is no barrier.
    #[inline]
    pub(crate) fn is_below_young(&self, place: NonNull<u8>) -> bool {
        place.addr().get() < self.watched_end.get()
    }

    /// The other half: not for what lies below the heap.
    #[inline]
    pub(crate) fn is_above_start(&self, place: NonNull<u8>) -> bool {
        place.addr().get() >= self.tenured.start
    }

    /// Whether the write of `word`, an address or null, to a watched cell must do something.
    #[inline]
    pub(crate) fn concerns(&self, word: usize) -> bool {
        word >= self.young_from.get()
    }

    /// The watched `place` as collections may use it, long after the reference that it comes from.
    #[inline]
    pub(crate) fn in_heap(&self, place: NonNull<u8>) -> NonNull<u8> {
        self.base.with_addr(place.addr())
    }

    /// Looks again whether a collection is due.
    pub(crate) fn note_due(&self) {
        self.is_due.set(self.state.borrow().is_due());
    }

    /// `bytes` of unused memory.
    #[inline]
    pub(crate) fn place(&self, bytes: usize) -> Result<NonNull<u8>, LimitReached> {
        let start = self.cursor.get();
        // A2: nobody changes the hole in between.
        if bytes <= self.limit.get().addr() - start.addr() && bytes <= LARGE_BYTES {
            self.cursor.set(start.wrapping_add(bytes));
            return NonNull::new(start).ok_or(LimitReached);
        }
        self.place_slow(bytes)
    }

    #[cold]
    #[inline(never)]
    fn place_slow(&self, bytes: usize) -> Result<NonNull<u8>, LimitReached> {
        let mut state = self.state.borrow_mut();
        let grant = state.grant(self.cursor.get(), bytes);
        self.is_due.set(state.is_due());
        match grant {
            None => Err(LimitReached),
            Some(Grant::Single(place)) => Ok(place),
            Some(Grant::Bump(mut hole)) => {
                let place = hole.take(bytes).ok_or(LimitReached)?;
                self.cursor.set(hole.start.as_ptr());
                self.limit.set(hole.start.as_ptr().wrapping_add(hole.bytes));
                Ok(place)
            }
        }
    }

    /// Registers a complete object; for most types this is nothing.
    #[inline]
    pub(crate) fn register(
        &self,
        object: ObjectRef,
        has_drop: bool,
        bytes: usize,
    ) -> Result<(), LimitReached> {
        if bytes > LARGE_BYTES || has_drop {
            return self.register_slow(object, has_drop, bytes);
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn register_slow(
        &self,
        object: ObjectRef,
        has_drop: bool,
        bytes: usize,
    ) -> Result<(), LimitReached> {
        let is_large = bytes > LARGE_BYTES;
        if self.state.borrow_mut().register(object, has_drop, bytes, is_large) {
            Ok(())
        } else {
            Err(LimitReached)
        }
    }

    /// Shows `object` to the marker, if a snapshot is being marked.
    #[inline]
    pub(crate) fn show(&self, object: ObjectRef) {
        if self.barrier.get() == Barrier::Cycle
            && let Some(marker) = self.state.borrow_mut().plan.snapshot()
        {
            marker.push(object);
        }
    }

    /// As [`Mutator::show`] for an object that was held weakly; returns whether it lives.
    #[inline]
    pub(crate) fn revive(&self, object: ObjectRef) -> bool {
        self.barrier.get() != Barrier::Cycle || self.revive_slow(object)
    }

    #[cold]
    #[inline(never)]
    fn revive_slow(&self, object: ObjectRef) -> bool {
        let state = &mut *self.state.borrow_mut();
        // What is looked up again and again must not keep the marker from its end.
        if object.mark_bit() == state.common.mark {
            return true;
        }
        if let Some(marker) = state.plan.snapshot() {
            marker.push(object);
            return true;
        }
        !state.plan.is_settling()
    }

    /// Takes away the handles above the first `len`.
    #[inline]
    pub(crate) fn truncate_locals(&self, len: usize) {
        if self.locals.concerns_cycle(len) {
            self.leave_locals(len);
        }
        self.locals.truncate(len);
    }

    /// Of the handles from `base` on keeps that with this index; returns its new one.
    #[inline]
    pub(crate) fn keep_local(&self, base: usize, index: usize) -> usize {
        if self.locals.concerns_cycle(base) {
            self.leave_locals(base);
        }
        self.locals.keep_one(base, index)
    }

    #[cold]
    #[inline(never)]
    fn leave_locals(&self, len: usize) {
        self.locals.leave(len, &mut |object| self.show(object));
    }

    /// What is written to `cell`, which is watched, shown by `visit`, may refer to a block that will be emptied.
    pub(crate) fn remember_write(
        &self,
        cell: NonNull<u8>,
        copy: CopyCell<M>,
        visit: impl FnOnce(&mut Marker<M>),
    ) {
        if let Some(marker) = self.state.borrow_mut().plan.remembering() {
            marker.remember_cell(cell, copy, visit);
        }
    }

    /// As [`Mutator::remember_write`] for a cell that may be written until the mutation ends.
    pub(crate) fn remember_borrow(
        &self,
        cell: NonNull<u8>,
        copy: CopyCell<M>,
        mark: unsafe fn(NonNull<u8>, &mut Marker<M>),
    ) {
        if let Some(marker) = self.state.borrow_mut().plan.remembering()
            && let Some(remembered) = &mut marker.remembered
        {
            remembered.borrowed.push(BorrowedCell { cell, mark, copy });
        }
    }

    fn swap_logs(&self, logged: &mut Logged<M>) {
        self.fields.swap(&mut logged.fields);
        self.cells.swap(&mut logged.cells);
    }

    /// Runs a collection between mutations.
    ///
    /// # Panics
    /// If an earlier collection panicked.
    pub(crate) fn collect<R: Roots>(&self, outer: &mut R, extent: Extent) {
        assert!(!self.is_lost.get(), "{LOST}");
        let state = &mut *self.state.borrow_mut();
        let State { plan, common, dynamic, .. } = state;
        let extent = if common.config.stress { Extent::Full } else { extent };
        common.cursor = self.cursor.get();
        self.swap_logs(&mut common.logged);
        if !plan.keeps_hole(common, extent) {
            self.cursor.set(core::ptr::null_mut());
            self.limit.set(core::ptr::null_mut());
        }
        let occupied = plan.occupied_bytes() + common.other_bytes();
        let peak = &mut common.statistics.occupied_bytes_max;
        *peak = occupied.max(*peak);
        let verify = common.config.verify;
        let mut roots = HeapRoots { outer, dynamic, locals: &self.locals };
        let before = verify.then(|| Verifier::run(&mut roots, plan, common, None));
        let full = common.statistics.full_collections;
        // Stays set if what follows panics.
        self.is_lost.set(true);
        let (begin_ns, begin_cpu_ns) = (monotonic_ns(), thread_cpu_ns());
        plan.collect(&mut roots, common, extent);
        self.swap_logs(&mut common.logged);
        let cpu_ns = thread_cpu_ns() - begin_cpu_ns;
        let wall_ns = monotonic_ns() - begin_ns;
        common.statistics.add_pause(wall_ns, cpu_ns);
        if common.statistics.full_collections == full {
            let trigger_bytes = common.trigger_bytes;
            let took = (begin_cpu_ns, cpu_ns);
            common.controller.after_minor(&common.config, took, trigger_bytes);
        }
        if common.config.record_pauses {
            let kind = if common.config.collector == Collector::Incremental {
                PauseKind::Slice
            } else if common.statistics.full_collections > full {
                PauseKind::Full
            } else {
                PauseKind::Minor
            };
            // Without memory for it the entry is lost, and nothing else.
            let _ = common.pauses.try_push(Pause { begin_ns, wall_ns, cpu_ns, kind });
        }
        let has_marked = full != common.statistics.full_collections && plan.marks_all();
        let mark = has_marked.then_some(common.mark);
        let after = verify.then(|| Verifier::run(&mut roots, plan, common, mark));
        // What is kept for finalisers was not reachable before, and is now.
        let same = if common.finals.has_queue() { before <= after } else { before == after };
        assert!(same, "reachable before {before:?}, after {after:?}");
        self.is_lost.set(false);
    }
}

/// The end of the addresses where writes must do something.
fn watched_end<M: Model>(state: &State<M>) -> usize {
    let tenured = state.tenured;
    if state.plan.barrier() == Barrier::None { 0 } else { tenured.start + tenured.bytes }
}

/// Addresses from here on concern a write to a watched cell.
fn young_from<M: Model>(state: &State<M>) -> usize {
    if state.plan.barrier() == Barrier::Cycle { 0 } else { state.nursery.start }
}

pub(crate) const LOST: &str = "the heap is lost: a collection of it panicked";

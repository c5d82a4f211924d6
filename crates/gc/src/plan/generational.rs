//! Generational: a nursery that is emptied into blocks and lines; those are marked and swept when
//! they have grown.
//!
//! A minor collection's roots are the roots, the logged cells and the large objects younger than
//! the last collection. Its work depends on what survives, never on the size of the old space.

use core::ptr::NonNull;

use crate::HeapError;
use crate::copying::{self, Places, Room, spare_bytes};
use crate::mark::Marker;
#[cfg(heapwright_gc_without = "touches")]
use crate::memory::populate;
use crate::model::Model;
use crate::mutator::Barrier;
use crate::object::{Field, prefetch};
use crate::plan::mark_sweep::{mark_and_sweep, marker_of};
use crate::plan::{Common, Extent, Grant, Plan};
use crate::relocate::Copier;
use crate::root::Roots;
use crate::space::{AddressRange, BlockSpace, BumpSpace, GRANT_BYTES, Hole};
use crate::trace::Visitor;
#[cfg(all(heapwright_gc_without = "barrier", not(heapwright_gc_without = "scan")))]
use crate::verify::Verifier;
use crate::write_log::{Logged, LoggedField};

/// Log entries between prefetch and visit: cells lie anywhere in the old space.
const LOG_AHEAD: usize = 16;

/// The nursery's default size.
const USUAL_BYTES: usize = 4 << 20;

pub(crate) struct Generational<M: Model> {
    nursery: BumpSpace,
    /// Promotes; has the old space.
    copier: Copier<M>,
    marker: Marker<M>,
    /// Nursery memory that stays resident: the most of recent use, so that mutations which need
    /// more than the nursery's size do not fault its pages in again each time.
    kept_bytes: usize,
    /// The share of the nursery that survives, in 256ths: that of the last minor collection, or
    /// what is left of an earlier one's.
    survival: usize,
}

/// Parts in which survival is counted.
const WHOLE: usize = 256;

impl<M: Model> Generational<M> {
    pub(crate) fn new(
        old: NonNull<u8>,
        old_bytes: usize,
        nursery: NonNull<u8>,
        nursery_bytes: usize,
        guards: bool,
    ) -> Result<Self, HeapError> {
        let mut blocks = BlockSpace::new(old, old_bytes)?;
        let marker = marker_of(&mut blocks)?;
        let mut nursery = BumpSpace::new(nursery, nursery_bytes);
        if guards {
            nursery.guard();
        }
        // For measuring what writes cost, in a nursery that is never full: a first touch takes as
        // long as hundreds of writes, and differs from process to process. As much as the bench's
        // workloads allocate.
        #[cfg(heapwright_gc_without = "touches")]
        // SAFETY: whole pages of the heap's reservation.
        unsafe {
            populate(nursery.start(), nursery_bytes.min(1280 << 20));
        }
        Ok(Self { nursery, copier: Copier::new(Some(blocks)), marker, kept_bytes: 0, survival: 0 })
    }

    fn old_bytes(&self) -> usize {
        self.copier.blocks.as_ref().map_or(0, BlockSpace::occupied_bytes)
    }

    /// Has memory ready for what the next minor collection copies, before it runs: for a nursery
    /// of the usual size all of it may survive, of what is beyond the share that did before.
    fn prepare(&mut self) {
        let used = self.nursery.occupied_bytes();
        let usual = used.min(USUAL_BYTES);
        let expected = usual + (used - usual) / WHOLE * self.survival;
        if let Some(blocks) = &mut self.copier.blocks {
            blocks.prepare(expected, None);
        }
    }

    /// How many threads collect a nursery with `used` bytes in it.
    fn threads(&self, used: usize, common: &Common<M>) -> usize {
        let expected = used / WHOLE * self.survival;
        let in_use = self.old_bytes() + used + common.other_bytes();
        let threads = common.copy_threads(expected, used, in_use);
        let most = used + spare_bytes(used, threads);
        let has_room =
            self.copier.blocks.as_ref().is_some_and(|blocks| blocks.has_blocks_for(most));
        if has_room { threads } else { 1 }
    }

    fn minor<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>) {
        #[cfg(all(heapwright_gc_without = "barrier", not(heapwright_gc_without = "scan")))]
        let reachable = Verifier::reachable(roots, self.used(), common);
        let used = self.nursery.occupied_bytes();
        let threads = self.threads(used, common);
        let copier = &mut self.copier;
        if let Some(blocks) = &mut copier.blocks {
            // More than was expected may survive; the nursery may have what it does not need.
            blocks.prepare(used, Some(&mut self.nursery));
        }
        copier.from = self.nursery.range();
        copier.copied_bytes = 0;
        common.trace_roots(roots, copier);
        #[cfg(all(heapwright_gc_without = "barrier", not(heapwright_gc_without = "scan")))]
        for object in reachable.as_slice() {
            if !copier.from.contains(object.address()) {
                copier.scan(*object);
            }
        }
        visit_cells(&mut common.logged, copier);
        for index in common.large.young_from()..common.large.count() {
            copier.scan(common.large.object(index));
        }
        common.large.age();
        if threads > 1 {
            // What was scanned here has to be settled: a logged field may lie in it (K2).
            copier.flush();
        }
        if threads > 1
            && let Some(mut blocks) = copier.blocks.take()
        {
            let places = Places { fields: common.logged.fields.as_slice(), entries: &[] };
            copying::copy(copier, Room::Blocks(&mut blocks), places, threads);
            copier.blocks = Some(blocks);
            common.logged.fields.clear();
        } else {
            visit_fields(&mut common.logged, copier);
        }
        copier.drain();
        common.settle(roots, false, copier);
        let recent = self.kept_bytes - self.kept_bytes / 8;
        common.controller.note_minor(used, copier.copied_bytes);
        let survival = copier.copied_bytes / (used / WHOLE).max(1);
        self.survival = (self.survival - self.survival / 8).max(survival).min(WHOLE);
        self.kept_bytes = recent.max(used).max(common.config.nursery_bytes);
        self.nursery.reset(0, self.kept_bytes);
        common.statistics.minor_collections += 1;
    }
}

/// The room below the limit, for the nursery and its copies, without which the old space is
/// collected: with less there would be minor collections of next to nothing, and without end where
/// nothing survives them. Room for a piece of the nursery and its copies, as one that is due with
/// its first piece would be collected after each mutation; and half of what a full collection
/// leaves at most.
fn least_room<M: Model>(common: &Common<M>) -> usize {
    let part = (common.controller.nursery_bytes / 4).min(common.config.limit_bytes / 256);
    2 * part.max(GRANT_BYTES)
}

/// Visits the cells of one word that were written, whose targets may be young.
fn visit_fields<M: Model>(logged: &mut Logged<M>, copier: &mut Copier<M>) {
    let fields = logged.fields.as_slice();
    for (index, LoggedField(cell)) in fields.iter().enumerate() {
        if let Some(later) = fields.get(index + LOG_AHEAD) {
            prefetch(later.0.as_ptr());
        }
        // SAFETY: the cell lies in an old object, none of which has moved or been freed since it
        // was logged, and it is still that cell (C1): a word, a reference or none.
        let field = unsafe { Field::new(cell.cast()) };
        if !field.is_null() {
            copier.visit(field);
        }
    }
    logged.fields.clear();
}

/// As [`visit_fields`] for the cells of other types.
fn visit_cells<M: Model>(logged: &mut Logged<M>, copier: &mut Copier<M>) {
    let cells = logged.cells.as_slice();
    for (index, logged) in cells.iter().enumerate() {
        if let Some(later) = cells.get(index + LOG_AHEAD) {
            prefetch(later.cell.as_ptr());
        }
        // SAFETY: as above, for a cell of the type that was logged.
        unsafe { (logged.copy)(logged.cell, copier) };
    }
    logged.cells.clear();
}

impl<M: Model> Plan<M> for Generational<M> {
    fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Grant> {
        // All of it may survive, and holes may be too short for any of it.
        let copies = self.nursery.occupied_bytes() + BumpSpace::granted_bytes(bytes);
        if !self.copier.blocks.as_ref().is_some_and(|blocks| blocks.has_blocks_for(copies)) {
            return None;
        }
        let hole = self.nursery.grant(cursor, bytes)?;
        self.prepare();
        Some(Grant::Bump(hole))
    }

    fn occupied_bytes(&self) -> usize {
        self.old_bytes() + self.nursery.occupied_bytes()
    }

    fn reserve_bytes(&self) -> usize {
        self.nursery.occupied_bytes()
    }

    fn is_due(&self, common: &Common<M>) -> bool {
        self.nursery.occupied_bytes() >= common.controller.nursery_bytes
            // What is in the nursery counts for the limit only: the rest of it is likely to die.
            || common.is_full_due(self.old_bytes(), self.nursery.occupied_bytes() + self.reserve_bytes())
    }

    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>, extent: Extent) {
        self.minor(roots, common);
        if extent == Extent::Due && !common.is_full_due(self.old_bytes(), least_room(common)) {
            return;
        }
        // The sweep finds the rest of the hole again.
        self.copier.to = Hole::EMPTY;
        self.copier.spare.clear();
        if let Some(blocks) = &mut self.copier.blocks {
            mark_and_sweep(&mut self.marker, blocks, roots, common);
        }
    }

    fn barrier(&self) -> Barrier {
        Barrier::Generational
    }

    fn used(&self) -> [AddressRange; 2] {
        let old = self.copier.blocks.as_ref().map_or(AddressRange::EMPTY, BlockSpace::used);
        [old, self.nursery.used()]
    }
}

//! Evacuation: empties the blocks with the least in them by copying their objects elsewhere, when
//! marking has ended; the blocks are free then.
//!
//! Candidates are chosen before marking by what the last cycle left in them; marking remembers
//! what refers to them ([`crate::remember`]). A few blocks are emptied at a time: the roots and
//! what is remembered are visited, and all references into these blocks lead to the copies then.
//! So the mutator never sees an old place, and needs no read barrier.
//!
//! Sources: Blackburn, McKinley, "Immix", PLDI 2008, for opportunistic evacuation; Ben-Yitzhak et
//! al., "An algorithm for parallel incremental compaction", ISMM 2002, for remembering while
//! marking.

use core::marker::PhantomData;
use core::mem::swap;

use crate::copying::{self, Places, Room};
use crate::mark::{Marker, REMEMBERED_PART_BYTES};
use crate::memory::Table;
use crate::model::Model;
use crate::object::ObjectRef;
use crate::plan::Common;
use crate::relocate::Copier;
use crate::remember::Unit;
use crate::root::Roots;
use crate::space::{BLOCK_BYTES, BlockSpace, Hole};

/// Blocks that are emptied at a time in a slice, and what may refer to them together.
const BLOCKS_AT_ONCE: usize = if cfg!(debug_assertions) { 1 } else { 8 };
const UNITS_AT_ONCE: u32 = 2048;
/// Remembered places between prefetch and visit.
const UNITS_AHEAD: usize = 16;
/// Of what is in use, the part that is copied at most in a cycle.
const PART_MAX: usize = 4;

/// How much is done at a time, and by how many threads.
#[derive(Clone, Copy, Debug)]
struct Portion {
    blocks: usize,
    units: u32,
    threads: usize,
}

/// Moves the objects of candidates.
pub(crate) struct Mover<M: Model> {
    /// The candidate that is looked at next.
    next: usize,
    /// Where the next copy goes, and whole blocks after that.
    to: Hole,
    spare: Table<Hole>,
    /// The copier's stack between two steps.
    grey: Table<ObjectRef>,
    model: PhantomData<M>,
}

impl<M: Model> Mover<M> {
    pub(crate) fn new() -> Self {
        Self {
            next: 0,
            to: Hole::EMPTY,
            spare: Table::new(),
            grey: Table::new(),
            model: PhantomData,
        }
    }

    /// Chooses the candidates of the cycle that begins: blocks of which less than
    /// `evacuate_percent` is in use, as far as there is room for copies. The marker remembers from
    /// now on what refers to them; `at_once` if all will be emptied in one step.
    pub(crate) fn begin(
        &mut self,
        at_once: bool,
        marker: &mut Marker<M>,
        blocks: &mut BlockSpace,
        common: &Common<M>,
    ) {
        self.next = 0;
        let Some(remembered) = &mut marker.remembered else { return };
        remembered.at_once = at_once;
        let used = blocks.occupied_bytes() + common.other_bytes();
        let room = common.config.limit_bytes.saturating_sub(used) / 2;
        let bytes = room.min(blocks.occupied_bytes() / PART_MAX);
        // In a cycle in slices the program goes on, with the holes that are left.
        let holes = if at_once { usize::MAX } else { blocks.room_bytes() / 2 };
        blocks.choose_sparse(common.config.evacuate_percent, bytes, holes, &mut |block| {
            remembered.add_candidate(block);
        });
        marker.remember(true);
    }

    /// Empties all candidates that are left, by up to `threads` threads. Nobody uses the heap
    /// meanwhile.
    pub(crate) fn move_all<R: Roots>(
        &mut self,
        marker: &mut Marker<M>,
        blocks: &mut BlockSpace,
        roots: &mut R,
        common: &mut Common<M>,
        threads: usize,
    ) {
        let all = Portion { blocks: usize::MAX, units: u32::MAX, threads };
        while self.move_some(all, marker, blocks, roots, common) {}
        self.end(marker, blocks);
    }

    /// Empties a few candidates; returns whether there may be more. O(roots) and what refers to
    /// them.
    pub(crate) fn step<R: Roots>(
        &mut self,
        marker: &mut Marker<M>,
        blocks: &mut BlockSpace,
        roots: &mut R,
        common: &mut Common<M>,
    ) -> bool {
        let few = Portion { blocks: BLOCKS_AT_ONCE, units: UNITS_AT_ONCE, threads: 1 };
        let more = self.move_some(few, marker, blocks, roots, common);
        if !more {
            self.end(marker, blocks);
        }
        more
    }

    fn end(&mut self, marker: &mut Marker<M>, blocks: &mut BlockSpace) {
        while let Some(hole) = self.spare.pop() {
            blocks.give_up(hole);
        }
        // The rest of the last copy's block is found by the sweep after the next cycle.
        self.to = Hole::EMPTY;
        marker.remember(false);
    }

    fn move_some<R: Roots>(
        &mut self,
        portion: Portion,
        marker: &mut Marker<M>,
        blocks: &mut BlockSpace,
        roots: &mut R,
        common: &mut Common<M>,
    ) -> bool {
        let Some(remembered) = &mut marker.remembered else { return false };
        let first = self.next;
        let (mut count, mut units, mut bytes) = (0, 0u32, 0);
        while let Some(candidate) = remembered.candidates().get(self.next).copied() {
            if count == portion.blocks || units >= portion.units {
                break;
            }
            self.next += 1;
            if remembered.map.begin_move(candidate.block) {
                count += 1;
                units = units.saturating_add(candidate.units);
                bytes += blocks.marked_bytes(candidate.block);
            }
        }
        let threads = portion.threads;
        // A cycle in slices: the program may have used the room up since the candidates were chosen.
        let used = blocks.occupied_bytes() + common.other_bytes();
        let room = common.config.limit_bytes.saturating_sub(used);
        if count == 0 || !blocks.take_spare(bytes, threads, room, &mut self.spare) {
            return false;
        }
        let copier = &mut Copier::new(None);
        copier.from = remembered.map.range();
        copier.moving = Some(remembered.map);
        copier.to = self.to;
        swap(&mut copier.spare, &mut self.spare);
        swap(&mut copier.grey, &mut self.grey);
        if remembered.at_once {
            common.trace_roots(roots, copier);
        } else {
            common.trace_rest(roots, copier);
        }
        // A machine's weak tables may have got more since they were settled.
        roots.settle(&mut |object| Some(copier.relocate(object)));
        if remembered.at_once {
            // In slices what is in the heap's own tables is pinned.
            common.relocate_tables(&mut |object| copier.relocate(object));
            let entries = remembered.entries();
            if threads > 1 {
                copier.flush();
                let places = Places { fields: &[], entries };
                let room = Room::Spare(core::mem::replace(&mut copier.spare, Table::new()));
                if let Room::Spare(rest) = copying::copy(copier, room, places, threads) {
                    copier.spare = rest;
                }
            } else {
                for (index, entry) in entries.iter().enumerate() {
                    if let Some(later) = entries.get(index + UNITS_AHEAD) {
                        later.prefetch();
                    }
                    copier.visit_unit(entry.unit());
                }
            }
        }
        for index in first..self.next {
            let address = blocks.address(remembered.candidates()[index].block);
            if remembered.map.is_moving(address) {
                remembered.units(index).for_each(|unit| copier.visit_unit(unit));
            }
        }
        copier.drain();
        self.to = copier.to;
        swap(&mut copier.spare, &mut self.spare);
        swap(&mut copier.grey, &mut self.grey);
        debug_assert!(copier.copied_bytes <= count * BLOCK_BYTES);
        common.statistics.evacuated_bytes += copier.copied_bytes as u64;
        for index in first..self.next {
            let block = remembered.candidates()[index].block;
            if remembered.map.is_moving(blocks.address(block)) {
                blocks.empty(block);
                common.statistics.evacuated_blocks += 1;
            }
            remembered.map.remove(block);
        }
        true
    }
}

impl<M: Model> Copier<M> {
    /// Where `object` is from now on.
    fn relocate(&mut self, object: ObjectRef) -> ObjectRef {
        if !self.is_moving(object.address()) {
            return object;
        }
        object.forwarded().unwrap_or_else(|| self.copy(object))
    }

    /// Visits what may refer to an object that moves.
    pub(crate) fn visit_unit(&mut self, unit: Unit<M>) {
        match unit {
            Unit::Object(object) => {
                // In a block that moves now, its copy is visited if anything refers to it.
                if !self.is_moving(object.address()) {
                    // Moved by an earlier step, it left its new place (R2).
                    let object = object.forwarded().unwrap_or(object);
                    self.scan(object);
                }
            }
            Unit::Part(array, from) => {
                if !self.is_moving(array.address()) {
                    let array = array.forwarded().unwrap_or(array);
                    M::copy_part(array, from, REMEMBERED_PART_BYTES, self);
                }
            }
            // SAFETY: the cell lies in no candidate (R3) and in nothing that was freed since (R2),
            // and it is still that cell (C1).
            Unit::Cell(cell, copy) => unsafe { copy(cell, self) },
        }
    }
}

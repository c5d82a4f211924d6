//! Where references into candidate blocks are: what has to be visited again when a block is
//! emptied.
//!
//! Remembered are whole objects, parts of long arrays and cells, never single fields: the bytes of
//! a field may have become something else meanwhile, but a visit of the whole knows what is in it.
//!
//! # Invariants
//! - R1: while a cycle has candidates, everything marked or allocated in it that refers into a
//!   candidate from outside that block is remembered for it, or the candidate is pinned, or a
//!   root, or made since the last slice.
//! - R2: what is remembered lies in no block that was freed since: nothing is freed between the
//!   choice of the candidates and the last move. An object that has moved left its new place.
//! - R3: no remembered cell lies in a candidate.

use core::ptr::NonNull;

use crate::HeapError;
use crate::mark::Marker;
use crate::memory::{Reserve, Table};
use crate::model::Model;
use crate::object::{ObjectRef, prefetch};
use crate::relocate::Copier;
use crate::space::{AddressRange, CandidateMap};

/// A block that is referred to from more places stays: emptying it would make a long slice.
const UNITS_MAX: u32 = if cfg!(debug_assertions) { 64 } else { 4096 };
/// The end of a list.
const NONE: u32 = u32::MAX;

/// Shows a cell to the copier.
pub(crate) type CopyCell<M> = unsafe fn(NonNull<u8>, &mut Copier<M>);

/// What is visited as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit<M: Model> {
    Object(ObjectRef),
    /// A part of a long array, from an item on.
    Part(ObjectRef, usize),
    Cell(NonNull<u8>, CopyCell<M>),
}

impl<M: Model> Unit<M> {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(a), Self::Object(b)) => a == b,
            (Self::Part(a, from), Self::Part(b, other)) => a == b && from == other,
            (Self::Cell(a, _), Self::Cell(b, _)) => a == b,
            _ => false,
        }
    }

    fn address(&self) -> usize {
        match self {
            Self::Object(object) | Self::Part(object, _) => object.address(),
            Self::Cell(cell, _) => cell.addr().get(),
        }
    }
}

/// A block to be emptied, and the list of what refers to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) block: usize,
    head: u32,
    pub(crate) units: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<M: Model> {
    unit: Unit<M>,
    next: u32,
}

impl<M: Model> Entry<M> {
    /// What is visited again.
    pub(crate) fn unit(&self) -> Unit<M> {
        self.unit
    }

    /// Asks for what will be looked at first.
    pub(crate) fn prefetch(&self) {
        prefetch(core::ptr::null::<u8>().wrapping_add(self.unit.address() - 8));
    }
}

/// A cell that was borrowed to be changed: what it holds is known when the borrow has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BorrowedCell<M: Model> {
    pub(crate) cell: NonNull<u8>,
    pub(crate) mark: unsafe fn(NonNull<u8>, &mut Marker<M>),
    pub(crate) copy: CopyCell<M>,
}

/// The candidates of a cycle and what refers to them.
#[derive(Debug)]
pub(crate) struct Remembered<M: Model> {
    pub(crate) map: CandidateMap,
    /// The map's, with its owner.
    _memory: Option<Reserve>,
    candidates: Table<Candidate>,
    entries: Table<Entry<M>>,
    pub(crate) borrowed: Table<BorrowedCell<M>>,
    /// What is being visited, and the rank of its block.
    unit: Option<Unit<M>>,
    unit_rank: u32,
    /// All candidates are emptied in one step: there is one list for all.
    pub(crate) at_once: bool,
    /// The present unit is in that list.
    is_noted: bool,
}

impl<M: Model> Remembered<M> {
    /// For a block space of `range`.
    pub(crate) fn new(range: AddressRange) -> Result<Self, HeapError> {
        let (map, memory) = CandidateMap::new(range)?;
        Ok(Self { _memory: Some(memory), at_once: false, ..Self::part_of(map) })
    }

    /// For one of several threads that mark: all candidates of `map` are emptied in one step, and
    /// the owner of the map has their list.
    pub(crate) fn part_of(map: CandidateMap) -> Self {
        Self {
            map,
            _memory: None,
            candidates: Table::new(),
            entries: Table::new(),
            borrowed: Table::new(),
            unit: None,
            unit_rank: 0,
            at_once: true,
            is_noted: false,
        }
    }

    /// What is remembered, where all is in one list.
    pub(crate) fn entries(&self) -> &[Entry<M>] {
        self.entries.as_slice()
    }

    /// Takes over what other threads remembered.
    pub(crate) fn add_entries(&mut self, entries: &[Entry<M>]) {
        entries.iter().for_each(|entry| self.entries.push(*entry));
    }

    pub(crate) fn candidates(&self) -> &[Candidate] {
        self.candidates.as_slice()
    }

    /// Makes `block` a candidate.
    pub(crate) fn add_candidate(&mut self, block: usize) {
        self.candidates.push(Candidate { block, head: NONE, units: 0 });
        self.map.add(block, self.candidates.as_slice().len());
    }

    /// What follows is about `unit`; none for roots, which are visited at every move.
    #[inline]
    pub(crate) fn set_unit(&mut self, unit: Option<Unit<M>>) {
        self.unit = unit;
        self.is_noted = false;
        self.unit_rank = unit.map_or(0, |unit| self.map.rank(unit.address()));
    }

    /// The present unit refers to `target`.
    #[inline]
    pub(crate) fn note(&mut self, target: ObjectRef) {
        if self.is_noted {
            return;
        }
        let rank = self.map.rank(target.address());
        if rank != 0 && rank != self.unit_rank {
            self.note_candidate(rank, target);
        }
    }

    #[inline(never)]
    fn note_candidate(&mut self, rank: u32, target: ObjectRef) {
        let Some(unit) = self.unit else { return };
        if self.at_once {
            self.is_noted = true;
            self.entries.push(Entry { unit, next: NONE });
            return;
        }
        if matches!(unit, Unit::Cell(..)) && self.unit_rank != 0 {
            // R3: the cell's object may move first, and nobody knows where it begins.
            self.map.pin(target.address());
            return;
        }
        let candidate = &mut self.candidates.as_mut_slice()[rank as usize - 1];
        // References of one object follow each other.
        let last = self.entries.as_slice().get(candidate.head as usize);
        if last.is_some_and(|last| last.unit.is(&unit)) {
            return;
        }
        let index = self.entries.as_slice().len();
        let entry = Entry { unit, next: candidate.head };
        if candidate.units == UNITS_MAX
            || index >= NONE as usize
            || self.entries.try_push(entry).is_err()
        {
            self.map.pin(target.address());
            return;
        }
        candidate.head = index as u32;
        candidate.units += 1;
    }

    /// What refers to the candidate `index`, newest first.
    pub(crate) fn units(&self, index: usize) -> impl Iterator<Item = Unit<M>> + '_ {
        let mut next = self.candidates.as_slice()[index].head;
        core::iter::from_fn(move || {
            let entry = self.entries.as_slice().get(next as usize)?;
            next = entry.next;
            Some(entry.unit)
        })
    }

    /// Ends the cycle: there are no candidates any more. O(candidates).
    pub(crate) fn forget(&mut self) {
        for candidate in self.candidates.as_slice() {
            self.map.remove(candidate.block);
        }
        self.candidates.clear();
        self.entries.clear();
        self.borrowed.clear();
        self.unit = None;
    }
}

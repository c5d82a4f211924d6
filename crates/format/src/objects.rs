//! From addresses to objects: which free belongs to which allocation.
//!
//! An address names a block only for a while; an [`Objects`] follows the merged events and
//! gives each block a number of its own. Two things make this more than a map:
//!
//! - Within the clock's unit two threads' events can come in the wrong order: an allocation of
//!   an address whose old block is not freed yet. The old block is then set aside, and the next
//!   free of the address within [`OVERTAKEN_UNITS`] belongs to it.
//! - Blocks may be older than the recording (a forked child, a late start) and frees may have
//!   been lost: such events are counted, never guessed into other objects.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::address_map::{AddressMap, Live};
use crate::kind::{AllocKind, FreeKind};
use crate::merge::{Merged, What};
use crate::stacks::{StackId, StackTree};

/// Number of an object: position of its birth among all births of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub u32);

/// An overtaken free comes within this many time units of the allocation that overtook it
/// (about a second: a thread can lose its CPU between the clock and the allocator).
pub const OVERTAKEN_UNITS: u64 = 1 << 25;

/// What happened to which object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A new object.
    Born {
        /// Its number.
        object: ObjectId,
        /// Bytes requested.
        size: u64,
        /// log2 of the alignment asked for; 0 for none.
        align_log2: u8,
        /// Operation; [`AllocKind::Mmap`] for memory that the program mapped itself.
        kind: AllocKind,
        /// Stack.
        stack: StackId,
    },
    /// An object grew or shrank.
    Resized {
        /// Which.
        object: ObjectId,
        /// Bytes before.
        old_size: u64,
        /// Bytes requested now.
        size: u64,
        /// Whether its address changed.
        moved: bool,
        /// Stack of the resizing call.
        stack: StackId,
    },
    /// An object's life is over.
    Died {
        /// Which.
        object: ObjectId,
        /// Its size.
        size: u64,
        /// Operation.
        kind: FreeKind,
    },
    /// The program unmapped a part of memory that it had mapped itself.
    Trimmed {
        /// Which.
        object: ObjectId,
        /// First byte of the part, from the object's start at birth.
        offset: u64,
        /// Length of the part.
        bytes: u64,
    },
    /// Pages of a large object that are resident now.
    Touched {
        /// Which.
        object: ObjectId,
        /// Pages resident.
        resident_pages: u32,
        /// Pages in all.
        page_count: u32,
        /// Pairs of (pages not resident, pages resident); empty when only the count is known.
        runs: Vec<(u32, u32)>,
    },
    /// An allocation failed.
    Failed {
        /// Bytes requested.
        size: u64,
        /// Stack.
        stack: StackId,
    },
    /// The thread ended.
    ThreadEnd,
}

/// What could not be matched, and what was put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchCounts {
    /// Frees of blocks whose birth is not in the recording.
    pub unknown_frees: u64,
    /// Frees put in order after an allocation that overtook them.
    pub reordered: u64,
    /// Objects whose free is missing: their address was given out again.
    pub lost_frees: u64,
}

#[derive(Clone, Copy, Debug)]
struct Overtaken {
    live: Live,
    time: u64,
}

#[derive(Clone, Copy, Debug)]
struct MappedRange {
    object: ObjectId,
    object_start: u64,
    end: u64,
}

/// Follows a process's merged events and names the objects.
#[derive(Debug, Default)]
pub struct Objects {
    live: AddressMap,
    overtaken: FxHashMap<u64, Overtaken>,
    resizing: FxHashMap<(u32, u64), Live>,
    mapped: BTreeMap<u64, MappedRange>,
    mapped_bytes: FxHashMap<ObjectId, u64>,
    births: u32,
    counts: MatchCounts,
}

impl Objects {
    /// No objects yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Objects born so far; ids are below.
    pub fn births(&self) -> u32 {
        self.births
    }

    /// What did not fit so far.
    pub fn counts(&self) -> MatchCounts {
        self.counts
    }

    /// Takes the next merged event; passes what it means to `emit` (mostly one change,
    /// sometimes none, two when a lost free is made up for).
    pub fn feed(&mut self, merged: &Merged, stacks: &StackTree, mut emit: impl FnMut(Change)) {
        match &merged.what {
            What::Alloc { address, size, stack } => {
                self.alloc(merged.time, *address, *size, *stack, stacks, emit);
            }
            What::Free { address, kind } => match self.take(merged.time, *address) {
                Some(live) => {
                    emit(Change::Died { object: live.object, size: live.size, kind: *kind });
                }
                None => self.counts.unknown_frees += 1,
            },
            What::ResizeStart { old } => {
                if let Some(live) = self.take(merged.time, *old) {
                    self.resizing.insert((merged.thread, *old), live);
                }
            }
            What::ResizeEnd { old, new, size, stack } => {
                match self.resizing.remove(&(merged.thread, *old)) {
                    Some(live) => {
                        let (object, old_size) = (live.object, live.size);
                        self.place(merged.time, *new, Live { object, size: *size }, &mut emit);
                        let (size, moved, stack) = (*size, old != new, *stack);
                        emit(Change::Resized { object, old_size, size, moved, stack });
                    }
                    None => {
                        // Its birth is not in the recording: from here on it is known.
                        self.counts.unknown_frees += 1;
                        self.alloc(merged.time, *new, *size, *stack, stacks, emit);
                    }
                }
            }
            What::Failed { size, stack } => emit(Change::Failed { size: *size, stack: *stack }),
            What::Unmap { address, bytes } => self.unmap(*address, *bytes, emit),
            What::Touch { address, resident_pages, page_count, runs } => {
                let object = self.live.get(*address).map(|live| live.object).or_else(|| {
                    let range = self.mapped.get(address)?;
                    (range.object_start == *address).then_some(range.object)
                });
                if let Some(object) = object {
                    emit(Change::Touched {
                        object,
                        resident_pages: *resident_pages,
                        page_count: *page_count,
                        runs: runs.clone(),
                    });
                }
            }
            What::ThreadEnd => emit(Change::ThreadEnd),
        }
    }

    fn alloc(
        &mut self,
        time: u64,
        address: u64,
        size: u64,
        stack: StackId,
        stacks: &StackTree,
        mut emit: impl FnMut(Change),
    ) {
        let leaf = stacks.leaf(stack);
        let object = ObjectId(self.births);
        self.births += 1;
        if leaf.kind == AllocKind::Mmap {
            // A mapping over an old one (MAP_FIXED, or an unmap that we could not see).
            self.unmap(address, size, &mut emit);
            let range =
                MappedRange { object, object_start: address, end: address.saturating_add(size) };
            self.mapped.insert(address, range);
            self.mapped_bytes.insert(object, size);
        } else {
            self.place(time, address, Live { object, size }, &mut emit);
        }
        let (align_log2, kind) = (leaf.align_log2, leaf.kind);
        emit(Change::Born { object, size, align_log2, kind, stack });
    }

    /// Enters a block at `address`; an older one there is set aside for its late free.
    fn place(&mut self, time: u64, address: u64, live: Live, emit: &mut impl FnMut(Change)) {
        let Some(older) = self.live.insert(address, live) else { return };
        if let Some(lost) = self.overtaken.insert(address, Overtaken { live: older, time }) {
            self.lose(lost.live, emit);
        }
    }

    /// Ends the block at `address`: the overtaken one if its free is due, else the live one.
    fn take(&mut self, time: u64, address: u64) -> Option<Live> {
        if self.overtaken.is_empty() {
            return self.live.remove(address);
        }
        if let Some(overtaken) = self.overtaken.remove(&address) {
            if time <= overtaken.time + OVERTAKEN_UNITS {
                self.counts.reordered += 1;
                return Some(overtaken.live);
            }
            // Too late to be its own: that free was lost; this one is the newer block's.
            self.counts.lost_frees += 1;
        }
        self.live.remove(address)
    }

    fn lose(&mut self, live: Live, emit: &mut impl FnMut(Change)) {
        self.counts.lost_frees += 1;
        emit(Change::Died { object: live.object, size: live.size, kind: FreeKind::Free });
    }

    fn unmap(&mut self, address: u64, bytes: u64, mut emit: impl FnMut(Change)) {
        let end = address.saturating_add(bytes);
        let overlapping: Vec<(u64, MappedRange)> = self
            .mapped
            .range(..end)
            .rev()
            .take_while(|(_, range)| range.end > address)
            .map(|(&start, &range)| (start, range))
            .collect();
        for (start, range) in overlapping {
            let (cut_start, cut_end) = (start.max(address), range.end.min(end));
            self.mapped.remove(&start);
            if start < cut_start {
                self.mapped.insert(start, MappedRange { end: cut_start, ..range });
            }
            if cut_end < range.end {
                self.mapped.insert(cut_end, range);
            }
            let left = self.mapped_bytes.get_mut(&range.object).expect("entered at birth");
            *left -= cut_end - cut_start;
            if *left == 0 {
                self.mapped_bytes.remove(&range.object);
                let size = cut_end - cut_start;
                emit(Change::Died { object: range.object, size, kind: FreeKind::Free });
            } else {
                let (offset, bytes) = (cut_start - range.object_start, cut_end - cut_start);
                emit(Change::Trimmed { object: range.object, offset, bytes });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, MatchCounts, OVERTAKEN_UNITS, Objects};
    use crate::kind::{AllocKind, FreeKind, LeafKind};
    use crate::merge::{Merged, What};
    use crate::stacks::{StackId, StackTree};

    fn run(events: &[(u64, u32, What)]) -> (Vec<Change>, MatchCounts) {
        let stacks = StackTree::default();
        run_with(events, &stacks)
    }

    fn run_with(events: &[(u64, u32, What)], stacks: &StackTree) -> (Vec<Change>, MatchCounts) {
        let mut objects = Objects::new();
        let mut changes = Vec::new();
        for (time, thread, what) in events {
            let merged = Merged { time: *time, thread: *thread, what: what.clone() };
            objects.feed(&merged, stacks, |change| changes.push(change));
        }
        (changes, objects.counts())
    }

    fn alloc(address: u64, size: u64) -> What {
        What::Alloc { address, size, stack: StackId::ROOT }
    }

    fn free(address: u64) -> What {
        What::Free { address, kind: FreeKind::Free }
    }

    fn deaths(changes: &[Change]) -> Vec<(u32, u64)> {
        let death = |change: &Change| match change {
            Change::Died { object, size, .. } => Some((object.0, *size)),
            _ => None,
        };
        changes.iter().filter_map(death).collect()
    }

    #[test]
    fn a_free_ends_the_block_at_its_address() {
        let events =
            [(1, 0, alloc(16, 1)), (2, 0, alloc(32, 2)), (3, 1, free(16)), (4, 0, free(32))];
        let (changes, counts) = run(&events);
        assert_eq!(deaths(&changes), [(0, 1), (1, 2)]);
        assert_eq!(counts, MatchCounts::default());
    }

    #[test]
    fn an_address_reused_before_its_free_was_written_is_put_in_order() {
        let events =
            [(5, 0, alloc(16, 1)), (9, 1, alloc(16, 2)), (9, 0, free(16)), (20, 1, free(16))];
        let (changes, counts) = run(&events);
        assert_eq!(deaths(&changes), [(0, 1), (1, 2)], "the older block dies first");
        assert_eq!(counts.reordered, 1);
        assert_eq!(counts.unknown_frees, 0);
    }

    #[test]
    fn a_free_long_after_belongs_to_the_newer_block() {
        let late = 9 + OVERTAKEN_UNITS + 1;
        let events = [(5, 0, alloc(16, 1)), (9, 1, alloc(16, 2)), (late, 0, free(16))];
        let (changes, counts) = run(&events);
        assert_eq!(deaths(&changes), [(1, 2)]);
        assert_eq!(counts.lost_frees, 1);
    }

    #[test]
    fn an_address_reused_during_a_realloc_is_another_block() {
        let resize = What::ResizeEnd { old: 16, new: 64, size: 30, stack: StackId::ROOT };
        let events = [
            (1, 0, alloc(16, 10)),
            (2, 0, What::ResizeStart { old: 16 }),
            (3, 1, alloc(16, 5)),
            (4, 0, resize),
            (5, 1, free(16)),
            (6, 0, free(64)),
        ];
        let (changes, counts) = run(&events);
        assert_eq!(deaths(&changes), [(1, 5), (0, 30)]);
        assert_eq!(counts, MatchCounts::default());
    }

    #[test]
    fn frees_of_older_blocks_are_counted_not_guessed() {
        let (changes, counts) = run(&[(1, 0, free(4096))]);
        assert_eq!((changes.len(), counts.unknown_frees), (0, 1));
    }

    #[test]
    fn a_mapping_dies_when_its_last_part_is_unmapped() {
        let mut stacks = StackTree::default();
        let leaf = LeafKind { kind: AllocKind::Mmap, ..LeafKind::default() };
        let stack = stacks.child(StackId::ROOT, leaf.pack(), 0);
        let map = What::Alloc { address: 0x10000, size: 0x4000, stack };
        let unmap = |address, bytes| What::Unmap { address, bytes };
        let events = [
            (1, 0, map),
            (2, 0, unmap(0x11000, 0x1000)),
            (3, 0, unmap(0x10000, 0x1000)),
            (4, 0, unmap(0xf000, 0x9000)),
        ];
        let (changes, _) = run_with(&events, &stacks);
        let parts = changes.iter().filter(|change| matches!(change, Change::Trimmed { .. }));
        assert_eq!(parts.count(), 2);
        assert_eq!(deaths(&changes), [(0, 0x2000)]);
    }
}

//! Pages of the table with few live entries: those are kept in a run, and the page goes back.

use core::cell::Cell;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;

use super::areas::Part;
use super::pool::CompactingPool;
use super::table::{Entry, NONE, PAGE_ENTRIES, RETIRED};

/// Runs are cut in units of this many bytes.
pub(super) const CELL_BYTES: usize = 8;
/// What a slot can need of runs, at most: an entry and a key, and a share of the header.
pub(super) const RUN_SHARE_BYTES: usize = 11;
/// Pages with at most this many live entries are packed: most of those where every other one is.
const LIVE_MAX: u32 = PAGE_ENTRIES / 8 * 5;

/// In front of a run: `capacity` entries, then as many keys. Runs follow each other.
#[repr(C, align(8))]
#[derive(Debug)]
pub(super) struct Run {
    /// Whose entries they are; none: nobody's.
    pub(super) page: Cell<u32>,
    /// Entries and keys in use, in the order of the keys.
    pub(super) count: Cell<u16>,
    capacity: Cell<u16>,
}

const _: () = assert!(size_of::<Run>() == CELL_BYTES);

const fn cells_of(capacity: u32) -> u32 {
    1 + capacity + (capacity * 2).div_ceil(CELL_BYTES as u32)
}

impl Run {
    /// Cells from this run to the next.
    pub(super) fn cells(&self) -> u32 {
        cells_of(u32::from(self.capacity.get()))
    }
}

impl<T, B: Backing> CompactingPool<T, B> {
    pub(super) fn run(&self, cell: u32) -> &Run {
        debug_assert!(cell < self.run_cells.get());
        // SAFETY: where a run begins, a header was written.
        unsafe { self.areas.element(Part::Runs, cell as usize) }
    }

    fn cell(&self, cell: u32) -> NonNull<u8> {
        // SAFETY: cells are inside the part of the runs, or one past it.
        unsafe { self.areas.start(Part::Runs).add(cell as usize * CELL_BYTES) }
    }

    fn run_entries(&self, cell: u32) -> NonNull<Entry> {
        self.cell(cell + 1).cast()
    }

    fn run_keys(&self, cell: u32) -> NonNull<u16> {
        self.cell(cell + 1 + u32::from(self.run(cell).capacity.get())).cast()
    }

    /// Entry number `at` of a run, which is below its count.
    pub(super) fn run_entry(&self, cell: u32, at: usize) -> &Entry {
        debug_assert!(at < usize::from(self.run(cell).count.get()));
        // SAFETY: below the count.
        let entry = unsafe { self.run_entries(cell).add(at) };
        // SAFETY: written when the page was packed; changed through cells.
        unsafe { entry.as_ref() }
    }

    /// The index of entry number `at` of a run.
    pub(super) fn run_index(&self, cell: u32, at: usize) -> u32 {
        debug_assert!(at < usize::from(self.run(cell).count.get()));
        // SAFETY: below the count.
        let key = unsafe { self.run_keys(cell).add(at) };
        // SAFETY: written when the page was packed.
        let key = unsafe { key.read() };
        self.run(cell).page.get() * PAGE_ENTRIES + u32::from(key)
    }

    fn position(&self, cell: u32, index: u32) -> Option<usize> {
        let (mut low, mut high) = (0, usize::from(self.run(cell).count.get()));
        while low < high {
            let middle = (low + high) / 2;
            match self.run_index(cell, middle).cmp(&index) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
                core::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// The live entry of an index whose page is packed.
    #[cold]
    pub(super) fn find_packed(&self, index: u32) -> Option<&Entry> {
        let cell = self.record(index / PAGE_ENTRIES).run.get();
        if cell == NONE {
            return None;
        }
        self.position(cell, index).map(|at| self.run_entry(cell, at))
    }

    /// Ends a packed entry.
    pub(super) fn bury_packed(&self, index: u32) {
        let record = self.record(index / PAGE_ENTRIES);
        let cell = record.run.get();
        let Some(at) = self.position(cell, index) else {
            debug_assert!(false, "V4: a packed value has no entry");
            return;
        };
        // The next use of any index of the page begins above this one's.
        let dead = self.run_entry(cell, at).tag.get().checked_add(super::table::LIVE);
        record.floor.set(dead.map_or(RETIRED, |dead| floor_of(record.floor.get(), dead)));
        let run = self.run(cell);
        let behind = usize::from(run.count.get()) - at - 1;
        // SAFETY: an entry of the run, and those behind it.
        let entry = unsafe { self.run_entries(cell).add(at) };
        // SAFETY: at most one past the last.
        let next = unsafe { entry.add(1) };
        // SAFETY: inside the run; nobody holds a reference to them.
        unsafe { next.copy_to(entry, behind) };
        // SAFETY: as for the entries.
        let key = unsafe { self.run_keys(cell).add(at) };
        // SAFETY: as above.
        let next = unsafe { key.add(1) };
        // SAFETY: as above.
        unsafe { next.copy_to(key, behind) };
        run.count.set(run.count.get() - 1);
    }

    /// Packs a page of which `live` entries are live and whose dead ones are in no list: those
    /// lose their places. False if it stays as it is. The bytes that went back are added.
    pub(super) fn pack(&self, page: u32, live: u32, released_bytes: &mut usize) -> bool {
        let first = page * PAGE_ENTRIES;
        let is_whole = first + PAGE_ENTRIES <= self.entry_count.get();
        if live > LIVE_MAX || !is_whole || !self.areas.purges() {
            return false;
        }
        let (cell, cells) = (self.run_cells.get(), cells_of(live));
        let bytes = (cell as usize + cells as usize) * CELL_BYTES;
        if self.areas.commit(Part::Runs, bytes).is_err() {
            return false;
        }
        self.run_cells.set(cell + cells);
        let header = Run {
            page: Cell::new(page),
            count: Cell::new(live as u16),
            capacity: Cell::new(live as u16),
        };
        // SAFETY: committed above, behind all runs.
        unsafe { self.cell(cell).cast::<Run>().write(header) };
        let (entries, keys) = (self.run_entries(cell), self.run_keys(cell));
        let (mut at, mut floor) = (0, 0);
        for key in 0..PAGE_ENTRIES {
            let entry = self.entry(first + key);
            let (tag, place) = (entry.tag.get(), entry.place.get());
            if entry.is_live() {
                // SAFETY: one of the run's entries: there are as many as are live.
                let to = unsafe { entries.add(at) };
                // SAFETY: as above, nobody's yet.
                unsafe { to.write(Entry::new(tag, place)) };
                // SAFETY: one of the run's keys.
                let to = unsafe { keys.add(at) };
                // SAFETY: as above.
                unsafe { to.write(key as u16) };
                at += 1;
            } else {
                floor = floor_of(floor, tag);
                if place != NONE {
                    self.disown(place);
                }
            }
            entry.tag.set(0);
            entry.place.set(0);
        }
        debug_assert_eq!(at, live as usize);
        let record = self.record(page);
        record.floor.set(floor);
        record.run.set(cell);
        self.next_index.set(self.next_index.get().min(first));
        let page_bytes = PAGE_ENTRIES as usize * size_of::<Entry>();
        let from = page as usize * page_bytes;
        // SAFETY: entries of the page, which were just made zero; a multiple of the step.
        *released_bytes +=
            unsafe { self.areas.purge_zeros(Part::Entries, from..from + page_bytes) };
        true
    }

    /// Makes a packed page whole again.
    pub(super) fn thaw(&self, page: u32) {
        let record = self.record(page);
        let cell = record.run.get();
        if cell == NONE {
            return;
        }
        let floor = record.floor.get();
        let first = page * PAGE_ENTRIES;
        for index in first..first + PAGE_ENTRIES {
            let entry = self.entry(index);
            entry.tag.set(floor);
            entry.place.set(NONE);
        }
        for at in 0..usize::from(self.run(cell).count.get()) {
            let (from, to) = (self.run_entry(cell, at), self.entry(self.run_index(cell, at)));
            to.tag.set(from.tag.get());
            to.place.set(from.place.get());
        }
        record.run.set(NONE);
        self.run(cell).page.set(NONE);
    }

    /// Moves the run at `from` down to `to`, shorter if it has room to spare; where the next goes.
    pub(super) fn slide_run(&self, from: u32, to: u32) -> u32 {
        let run = self.run(from);
        let (page, count) = (run.page.get(), run.count.get());
        if page == NONE {
            return to;
        }
        let (old_entries, old_keys) = (self.run_entries(from), self.run_keys(from));
        let header =
            Run { page: Cell::new(page), count: Cell::new(count), capacity: Cell::new(count) };
        // SAFETY: at or below the run's own header, whose fields were read.
        unsafe { self.cell(to).cast::<Run>().write(header) };
        // SAFETY: the run's entries and, at or below them, what is nobody's; nobody refers to
        // them.
        unsafe { old_entries.copy_to(self.run_entries(to), usize::from(count)) };
        // SAFETY: as above: the new keys end where the old ones do, or below, and begin behind
        // the new entries.
        unsafe { old_keys.copy_to(self.run_keys(to), usize::from(count)) };
        self.record(page).run.set(to);
        to + cells_of(u32::from(count))
    }
}

/// The greater of two dead tags; [`RETIRED`] if one is that.
fn floor_of(one: u32, other: u32) -> u32 {
    if one == RETIRED || other == RETIRED { RETIRED } else { one.max(other) }
}

//! The log of writes: cells outside the nursery that may hold a reference into it. Written by
//! every such write of the program, so its end lies beside the state and not in it.
//!
//! There are two: of cells that are one reference, a word each, which is what programs write most;
//! and of all others, which have to tell how they are visited.
//!
//! # Invariants
//! - G1: entries below `next` are initialised, and `next <= end`; both lie in the table's memory,
//!   or nothing was logged yet.

use core::cell::{Cell, RefCell, RefMut};
use core::ptr::NonNull;

use crate::memory::Table;
use crate::model::Model;
use crate::relocate::Copier;

/// What a log has of a write.
pub(crate) trait Entry: Copy {
    /// The cell, by which repetitions are known.
    fn cell(self) -> NonNull<u8>;
}

/// A cell that is one word, a reference or none, and was given a reference to a young object.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct LoggedField(pub(crate) NonNull<u8>);

impl Entry for LoggedField {
    fn cell(self) -> NonNull<u8> {
        self.0
    }
}

/// A cell of any type that was written and may hold a reference from an old object to a young one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoggedCell<M: Model> {
    pub(crate) cell: NonNull<u8>,
    /// Shows the cell's value to the copier.
    pub(crate) copy: unsafe fn(NonNull<u8>, &mut Copier<M>),
}

impl<M: Model> Entry for LoggedCell<M> {
    fn cell(self) -> NonNull<u8> {
        self.cell
    }
}

/// What the program logged, while a collection runs.
#[derive(Debug)]
pub(crate) struct Logged<M: Model> {
    pub(crate) fields: Table<LoggedField>,
    pub(crate) cells: Table<LoggedCell<M>>,
}

impl<M: Model> Logged<M> {
    pub(crate) const fn new() -> Self {
        Self { fields: Table::new(), cells: Table::new() }
    }
}

/// The least bytes of entries at which repetitions are removed for the first time.
const BYTES_FIRST: usize = if cfg!(debug_assertions) { 1 << 10 } else { 1 << 20 };
/// Bytes of the nursery for each byte of entries until then. What the program writes between two
/// minor collections as a rule is below, so nothing is ever sorted.
const NURSERY_PART: usize = 4;
/// Whether entries are forgotten: for measuring, in a heap whose nursery is never full.
const NEVER_READ: bool = cfg!(heapwright_gc_without = "minor");

#[derive(Debug)]
pub(crate) struct WriteLog<E: Entry> {
    next: Cell<NonNull<E>>,
    end: Cell<NonNull<E>>,
    len_first: usize,
    /// Entries at which repetitions are removed.
    len_limit: Cell<usize>,
    /// Has the memory; its own length means nothing while the program runs.
    table: RefCell<Table<E>>,
}

impl<E: Entry> WriteLog<E> {
    pub(crate) fn new(nursery_bytes: usize) -> Self {
        // A build to measure the barrier with: no minor collection ever empties the log.
        let nursery_bytes = if NEVER_READ { 4 << 20 } else { nursery_bytes };
        let len_first = BYTES_FIRST.max(nursery_bytes / NURSERY_PART) / size_of::<E>();
        Self {
            next: Cell::new(NonNull::dangling()),
            end: Cell::new(NonNull::dangling()),
            len_first,
            len_limit: Cell::new(len_first),
            table: RefCell::new(Table::new()),
        }
    }

    /// Appends an entry if there is room; in O(1), without a call.
    #[inline]
    pub(crate) fn try_push(&self, entry: E) -> bool {
        let next = self.next.get();
        if next == self.end.get() {
            return false;
        }
        // SAFETY: below the end, so inside the table's memory (G1), which nobody else uses.
        unsafe { next.write(entry) };
        // SAFETY: at most the end of the table's memory.
        self.next.set(unsafe { next.add(1) });
        true
    }

    /// Appends an entry. O(1) amortised.
    #[inline]
    pub(crate) fn push(&self, entry: E) {
        if !self.try_push(entry) {
            self.push_slow(entry);
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn push_slow(&self, entry: E) {
        let mut table = self.close();
        if NEVER_READ && table.as_slice().len() >= self.len_limit.get() {
            table.clear();
        }
        if table.as_slice().len() >= self.len_limit.get() {
            // A cell that is written again and again is needed once.
            let entries = table.as_mut_slice();
            entries.sort_unstable_by_key(|entry| entry.cell());
            let mut kept = 0;
            for index in 0..entries.len() {
                if kept == 0 || entries[kept - 1].cell() != entries[index].cell() {
                    entries[kept] = entries[index];
                    kept += 1;
                }
            }
            table.truncate(kept);
            self.len_limit.set(self.len_first.max(2 * kept));
        }
        table.push(entry);
        self.open(&table);
    }

    /// The table with the entries so far.
    fn close(&self) -> RefMut<'_, Table<E>> {
        let mut table = self.table.borrow_mut();
        if table.capacity() > 0 {
            let bytes = self.next.get().addr().get() - table.items().addr().get();
            // SAFETY: as many entries lie between the first and `next`, all written (G1).
            unsafe { table.set_len(bytes / size_of::<E>()) };
        }
        table
    }

    /// Goes on after the entries of `table`.
    fn open(&self, table: &Table<E>) {
        let len = table.as_slice().len();
        let end = table.capacity().min(self.len_limit.get().max(len));
        // SAFETY: `len <= capacity`.
        self.next.set(unsafe { table.items().add(len) });
        // SAFETY: at most the capacity.
        self.end.set(unsafe { table.items().add(end) });
    }

    /// Exchanges the entries so far for those in `other`.
    pub(crate) fn swap(&self, other: &mut Table<E>) {
        let mut table = self.close();
        core::mem::swap(&mut *table, other);
        if table.as_slice().is_empty() {
            self.len_limit.set(self.len_first);
        }
        self.open(&table);
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, LoggedCell, LoggedField, WriteLog};
    use crate::memory::Table;
    use crate::model::Described;
    use crate::relocate::Copier;
    use core::ptr::NonNull;

    /// # Safety
    /// - None: it does nothing.
    unsafe fn copy(_: NonNull<u8>, _: &mut Copier<Described>) {}

    fn check<E: Entry>(entry: impl Fn(NonNull<u8>) -> E) {
        let log = WriteLog::<E>::new(0);
        let mut cells = [0u64; 300];
        for round in 0..50 {
            for cell in &mut cells[..100 + round * 4] {
                log.push(entry(NonNull::from(cell).cast()));
            }
        }
        let mut entries = Table::new();
        log.swap(&mut entries);
        assert!(entries.as_slice().len() < 50 * 100 || !cfg!(debug_assertions), "repetitions went");
        let cell_of = |entry: &E| entry.cell().addr().get();
        entries.as_mut_slice().sort_unstable_by_key(cell_of);
        let sorted = entries.as_slice().windows(2);
        let changes = sorted.filter(|pair| cell_of(&pair[0]) != cell_of(&pair[1])).count();
        assert_eq!(changes + 1, 100 + 49 * 4);
        entries.clear();
        log.swap(&mut entries);
        assert!(entries.as_slice().is_empty());
    }

    #[test]
    fn repetitions_are_removed_and_no_cell_is_lost() {
        check(LoggedField);
        check(|cell| LoggedCell::<Described> { cell, copy });
    }
}

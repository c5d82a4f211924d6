//! The log of writes: cells outside the nursery that may hold a reference into it. Written by
//! every such write of the program, so its end lies beside the state and not in it.
//!
//! # Invariants
//! - G1: entries below `next` are initialised, and `next <= end`; both lie in the table's memory,
//!   or nothing was logged yet.

use core::cell::{Cell, RefCell, RefMut};
use core::ptr::NonNull;

use crate::memory::Table;
use crate::model::Model;
use crate::relocate::Copier;

/// A field whose cell was written and that may hold a reference from an old object to a young one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoggedCell<M: Model> {
    pub(crate) cell: NonNull<u8>,
    /// Shows the cell's value to the copier.
    pub(crate) copy: unsafe fn(NonNull<u8>, &mut Copier<M>),
}

/// The least number of entries at which repetitions are removed for the first time.
const LEN_FIRST: usize = if cfg!(debug_assertions) { 64 } else { 64 << 10 };
/// Bytes of the nursery for each entry until then: the log takes a quarter of its size. What the
/// program writes between two minor collections as a rule is below, so nothing is ever sorted.
const NURSERY_BYTES_EACH: usize = 4 * size_of::<LoggedCell<crate::model::Described>>();

#[derive(Debug)]
pub(crate) struct WriteLog<M: Model> {
    next: Cell<NonNull<LoggedCell<M>>>,
    end: Cell<NonNull<LoggedCell<M>>>,
    len_first: usize,
    /// Entries at which repetitions are removed.
    len_limit: Cell<usize>,
    /// Has the memory; its own length means nothing while the program runs.
    table: RefCell<Table<LoggedCell<M>>>,
}

impl<M: Model> WriteLog<M> {
    pub(crate) fn new(nursery_bytes: usize) -> Self {
        let len_first = LEN_FIRST.max(nursery_bytes / NURSERY_BYTES_EACH);
        Self {
            next: Cell::new(NonNull::dangling()),
            end: Cell::new(NonNull::dangling()),
            len_first,
            len_limit: Cell::new(len_first),
            table: RefCell::new(Table::new()),
        }
    }

    /// Appends an entry. O(1) amortised.
    #[inline]
    pub(crate) fn push(&self, cell: NonNull<u8>, copy: unsafe fn(NonNull<u8>, &mut Copier<M>)) {
        let entry = LoggedCell { cell, copy };
        let next = self.next.get();
        if next == self.end.get() {
            return self.push_slow(entry);
        }
        // SAFETY: below the end, so inside the table's memory (G1), which nobody else uses.
        unsafe { next.write(entry) };
        // SAFETY: at most the end of the table's memory.
        self.next.set(unsafe { next.add(1) });
    }

    #[cold]
    #[inline(never)]
    fn push_slow(&self, entry: LoggedCell<M>) {
        let mut table = self.close();
        if table.as_slice().len() >= self.len_limit.get() {
            // A cell that is written again and again is needed once.
            let entries = table.as_mut_slice();
            entries.sort_unstable_by_key(|entry| entry.cell);
            let mut kept = 0;
            for index in 0..entries.len() {
                if kept == 0 || entries[kept - 1].cell != entries[index].cell {
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
    fn close(&self) -> RefMut<'_, Table<LoggedCell<M>>> {
        let mut table = self.table.borrow_mut();
        if table.capacity() > 0 {
            let bytes = self.next.get().addr().get() - table.items().addr().get();
            // SAFETY: as many entries lie between the first and `next`, all written (G1).
            unsafe { table.set_len(bytes / size_of::<LoggedCell<M>>()) };
        }
        table
    }

    /// Goes on after the entries of `table`.
    fn open(&self, table: &Table<LoggedCell<M>>) {
        let len = table.as_slice().len();
        let end = table.capacity().min(self.len_limit.get().max(len));
        // SAFETY: `len <= capacity`.
        self.next.set(unsafe { table.items().add(len) });
        // SAFETY: at most the capacity.
        self.end.set(unsafe { table.items().add(end) });
    }

    /// Exchanges the entries so far for those in `other`.
    pub(crate) fn swap(&self, other: &mut Table<LoggedCell<M>>) {
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
    use super::{LoggedCell, WriteLog};
    use crate::memory::Table;
    use crate::model::Described;
    use crate::relocate::Copier;
    use core::ptr::NonNull;

    /// # Safety
    /// - None: it does nothing.
    unsafe fn copy(_: NonNull<u8>, _: &mut Copier<Described>) {}

    #[test]
    fn repetitions_are_removed_and_no_cell_is_lost() {
        let log = WriteLog::<Described>::new(0);
        let mut cells = [0u64; 300];
        for round in 0..50 {
            for cell in &mut cells[..100 + round * 4] {
                log.push(NonNull::from(cell).cast(), copy);
            }
        }
        let mut entries = Table::new();
        log.swap(&mut entries);
        assert!(entries.as_slice().len() < 50 * 100 || !cfg!(debug_assertions), "repetitions went");
        let cell_of = |entry: &LoggedCell<Described>| entry.cell.addr().get();
        entries.as_mut_slice().sort_unstable_by_key(cell_of);
        let sorted = entries.as_slice().windows(2);
        let changes = sorted.filter(|pair| cell_of(&pair[0]) != cell_of(&pair[1])).count();
        assert_eq!(changes + 1, 100 + 49 * 4);
        entries.clear();
        log.swap(&mut entries);
        assert!(entries.as_slice().is_empty());
    }
}

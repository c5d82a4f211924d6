//! The stack of handles: read and written by every use of a handle, so it lies beside the state
//! and not in it.
//!
//! # Invariants
//! - S1: the first `len` words at `items` are objects, `len <= capacity`, and no reference to them
//!   lasts beyond a call.

use core::cell::{Cell, RefCell};
use core::ptr::NonNull;

use crate::HeapError;
use crate::memory::Table;
use crate::object::{Field, ObjectRef};
use crate::trace::Visitor;

/// Objects that handles name, by index.
#[derive(Debug)]
pub(crate) struct LocalStack {
    items: Cell<NonNull<ObjectRef>>,
    len: Cell<usize>,
    capacity: Cell<usize>,
    /// While a cycle in slices runs: of the handles that there were when it began, those below
    /// `kept` are there still, and it has looked at those from `unseen` up to there. Both are 0
    /// otherwise.
    kept: Cell<usize>,
    unseen: Cell<usize>,
    /// Has the memory; its own length means nothing.
    table: RefCell<Table<ObjectRef>>,
}

impl LocalStack {
    pub(crate) fn new() -> Self {
        Self {
            items: Cell::new(NonNull::dangling()),
            len: Cell::new(0),
            capacity: Cell::new(0),
            kept: Cell::new(0),
            unseen: Cell::new(0),
            table: RefCell::new(Table::new()),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    fn place(&self, index: usize) -> NonNull<ObjectRef> {
        debug_assert!(index < self.capacity.get());
        // SAFETY: callers stay below the capacity, so the place is inside the table's memory.
        unsafe { self.items.get().add(index) }
    }

    /// The object at `index`.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> ObjectRef {
        assert!(index < self.len.get(), "a handle of a scope that has ended");
        // SAFETY: below `len`, so initialised (S1).
        unsafe { self.place(index).read() }
    }

    /// Puts `object` on top; returns its index.
    #[inline]
    pub(crate) fn push(&self, object: ObjectRef) -> Result<usize, HeapError> {
        let index = self.len.get();
        if index == self.capacity.get() {
            self.grow()?;
        }
        // SAFETY: below the capacity, and no reference to the place exists (S1).
        unsafe { self.place(index).write(object) };
        self.len.set(index + 1);
        Ok(index)
    }

    #[cold]
    #[inline(never)]
    fn grow(&self) -> Result<(), HeapError> {
        let mut table = self.table.borrow_mut();
        table.grow()?;
        self.items.set(table.items());
        self.capacity.set(table.capacity());
        Ok(())
    }

    /// Of what lies from `base` on, keeps the object at `index` only; returns where.
    ///
    /// # Panics
    /// If it is not there.
    #[inline]
    pub(crate) fn keep_one(&self, base: usize, index: usize) -> usize {
        assert!(base <= index, "a handle of the scope that ends");
        let object = self.get(index);
        // SAFETY: `base <= index < len`, and no reference to the place exists (S1).
        unsafe { self.place(base).write(object) };
        self.len.set(base + 1);
        base
    }

    /// Takes away what lies above the first `len`.
    #[inline]
    pub(crate) fn truncate(&self, len: usize) {
        self.len.set(len.min(self.len.get()));
    }

    /// Whether a cycle has to be told before what lies above the first `len` goes.
    #[inline]
    pub(crate) fn concerns_cycle(&self, len: usize) -> bool {
        len < self.kept.get()
    }

    /// What lies above the first `len` will go: shows those that the cycle has not looked at.
    pub(crate) fn leave(&self, len: usize, visit: &mut dyn FnMut(ObjectRef)) {
        for index in len..self.unseen.get() {
            visit(self.get(index));
        }
        self.unseen.set(self.unseen.get().min(len));
        self.kept.set(self.kept.get().min(len));
    }

    /// Begins what [`LocalStack::scan_some`] does.
    pub(crate) fn begin_scan(&self) {
        self.kept.set(self.len.get());
        self.unseen.set(self.len.get());
    }

    /// Shows up to `count` more of the handles that there were when the scan began, from the top,
    /// where they go first; returns whether that was all.
    pub(crate) fn scan_some(&self, count: usize, visit: &mut dyn FnMut(ObjectRef)) -> bool {
        let from = self.unseen.get().saturating_sub(count);
        (from..self.unseen.get()).for_each(|index| visit(self.get(index)));
        self.unseen.set(from);
        from == 0
    }

    /// If more than `most` handles were made since the scan began: shows as many of them, which count
    /// as seen then. Returns whether nothing was shown.
    pub(crate) fn scan_new(&self, most: usize, visit: &mut dyn FnMut(ObjectRef)) -> bool {
        let from = self.kept.get();
        if self.len.get() - from <= most {
            return true;
        }
        (from..from + most).for_each(|index| visit(self.get(index)));
        self.kept.set(from + most);
        false
    }

    /// The cycle has ended.
    pub(crate) fn end_scan(&self) {
        self.kept.set(0);
        self.unseen.set(0);
    }

    /// As [`LocalStack::trace`] for the handles that were made since the scan began.
    pub(crate) fn trace_new<V: Visitor>(&self, visitor: &mut V) {
        self.trace_from(self.kept.get(), visitor);
    }

    /// Shows every object to `visitor`. O(handles).
    pub(crate) fn trace<V: Visitor>(&self, visitor: &mut V) {
        self.trace_from(0, visitor);
    }

    fn trace_from<V: Visitor>(&self, from: usize, visitor: &mut V) {
        for index in from..self.len.get() {
            // SAFETY: an initialised word (S1), which stays in place: no handle is made or used
            // while a collection runs.
            visitor.visit(unsafe { Field::new(self.place(index).cast()) });
        }
    }
}

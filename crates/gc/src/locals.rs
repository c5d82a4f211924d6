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
    /// Has the memory; its own length means nothing.
    table: RefCell<Table<ObjectRef>>,
}

impl LocalStack {
    pub(crate) fn new() -> Self {
        Self {
            items: Cell::new(NonNull::dangling()),
            len: Cell::new(0),
            capacity: Cell::new(0),
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

    /// Shows every object to `visitor`. O(handles).
    pub(crate) fn trace<V: Visitor>(&self, visitor: &mut V) {
        for index in 0..self.len.get() {
            // SAFETY: an initialised word (S1), which stays in place: no handle is made or used
            // while a collection runs.
            visitor.visit(unsafe { Field::new(self.place(index).cast()) });
        }
    }
}

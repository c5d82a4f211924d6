//! Cells: the only way to change a reference inside an object, so the write barrier cannot be
//! forgotten.
//!
//! # Invariants
//! - C1: a cell with references lies in no other cell and, if its owner lies in the heap, in the
//!   payload itself (never in a `Vec` or `Box`): checked at compile time through
//!   `Trace::HAS_CELLS`. So the cell at a logged address is still that cell when the log is read.

use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::ops::{Deref, DerefMut};

use crate::mutation::Mutation;
use crate::trace::{Trace, Visitor};

/// A field that may be read and replaced as a whole.
///
/// Writing needs the mutation, which is the barrier:
///
/// ```compile_fail,E0061
/// # use heapwright_gc::*;
/// fn write<'gc>(cell: &GcCell<Option<Gc<'gc, u32>>>, to: Gc<'gc, u32>) { cell.set(Some(to)) }
/// ```
///
/// outside of a cell, a field of an object is not written at all:
///
/// ```compile_fail,E0594
/// # use heapwright_gc::*;
/// #[derive(Trace)]
/// struct Node<'gc> { next: Option<Gc<'gc, Node<'gc>>> }
/// fn write<'gc>(node: Gc<'gc, Node<'gc>>) { node.next = Some(node) }
/// ```
///
/// nor do the cells of the standard library, which have no barrier, hold a reference:
///
/// ```compile_fail
/// # use heapwright_gc::*;
/// #[derive(Trace)]
/// struct Node<'gc> { next: std::cell::Cell<Option<Gc<'gc, Node<'gc>>>> }
/// ```
///
/// and cell and mutation have the brand of one heap:
///
/// ```compile_fail,E0521
/// # use heapwright_gc::*;
/// type One = rootable!['gc => GcCell<Option<Gc<'gc, u32>>>];
/// let mut a = Heap::<One>::new(Config::default(), |_| GcCell::new(None)).unwrap();
/// let mut b = Heap::<One>::new(Config::default(), |_| GcCell::new(None)).unwrap();
/// a.mutate(|mu_a, _| b.mutate(|_, cell_b| cell_b.set(mu_a, mu_a.alloc(1).ok())));
/// ```
pub struct GcCell<T> {
    value: UnsafeCell<T>,
}

impl<T> GcCell<T> {
    /// A cell with `value`; `T` may not contain cells itself.
    #[inline]
    pub fn new<'gc>(value: T) -> Self
    where
        T: Trace<'gc>,
    {
        const { assert!(!T::HAS_CELLS, "a GcCell may not lie in another cell") };
        Self { value: UnsafeCell::new(value) }
    }

    /// A copy of the value. O(1).
    #[inline]
    pub fn get(&self) -> T
    where
        T: Copy,
    {
        // SAFETY: the cell is not `Sync`, and no reference to its value leaves this module.
        unsafe { self.value.get().read() }
    }

    /// Stores `value`. O(1); a compare and the store, and with some collectors an entry in a log.
    #[inline]
    pub fn set<'gc>(&self, mutation: &Mutation<'gc>, value: T)
    where
        T: Trace<'gc>,
    {
        drop(self.replace(mutation, value));
    }

    /// Stores `value` and returns the one before. O(1).
    #[inline]
    pub fn replace<'gc>(&self, mutation: &Mutation<'gc>, value: T) -> T
    where
        T: Trace<'gc>,
    {
        // SAFETY: the cell is not `Sync`, no reference to its value leaves this module, and
        // tracing runs no code of the program.
        let value = mutation.before_write(unsafe { &mut *self.value.get() }, value);
        // SAFETY: as above; the borrow has ended.
        unsafe { self.value.get().replace(value) }
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for GcCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GcCell").field(&self.get()).finish()
    }
}

// SAFETY: visits the value; it is a cell, and says so.
unsafe impl<'gc, T: Trace<'gc>> Trace<'gc> for GcCell<T> {
    const NEEDS_TRACE: bool = T::NEEDS_TRACE;
    const HAS_CELLS: bool = T::NEEDS_TRACE;

    #[inline]
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        self.value.get_mut().trace(visitor);
    }
}

/// A field that may be borrowed, like a `RefCell`; `borrow_mut` is the barrier for the whole value.
pub struct GcRefCell<T> {
    /// Shared borrows, or -1 for an exclusive one.
    borrows: Cell<isize>,
    value: UnsafeCell<T>,
}

impl<T> GcRefCell<T> {
    /// A cell with `value`; `T` may not contain cells itself.
    #[inline]
    pub fn new<'gc>(value: T) -> Self
    where
        T: Trace<'gc>,
    {
        const { assert!(!T::HAS_CELLS, "a GcRefCell may not contain another cell") };
        Self { borrows: Cell::new(0), value: UnsafeCell::new(value) }
    }

    /// Borrows the value. O(1).
    ///
    /// # Panics
    /// If it is borrowed mutably.
    #[inline]
    pub fn borrow(&self) -> GcRef<'_, T> {
        let borrows = self.borrows.get();
        assert!(borrows >= 0, "already borrowed mutably");
        self.borrows.set(borrows + 1);
        GcRef { cell: self }
    }

    /// Borrows the value to change it. O(1), but O(value) while an incremental collection marks.
    ///
    /// # Panics
    /// If it is borrowed.
    #[inline]
    pub fn borrow_mut<'gc>(&self, mutation: &Mutation<'gc>) -> GcRefMut<'_, T>
    where
        T: Trace<'gc>,
    {
        assert!(self.borrows.get() == 0, "already borrowed");
        self.borrows.set(-1);
        // SAFETY: nobody else has borrowed the value (checked above).
        mutation.before_borrow(unsafe { &mut *self.value.get() });
        GcRefMut { cell: self }
    }
}

// SAFETY: visits the value; it is a cell, and says so.
unsafe impl<'gc, T: Trace<'gc>> Trace<'gc> for GcRefCell<T> {
    const NEEDS_TRACE: bool = T::NEEDS_TRACE;
    const HAS_CELLS: bool = T::NEEDS_TRACE;

    #[inline]
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        self.value.get_mut().trace(visitor);
    }
}

/// A shared borrow of a [`GcRefCell`].
pub struct GcRef<'a, T> {
    cell: &'a GcRefCell<T>,
}

impl<T> Deref for GcRef<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard counts as a shared borrow, so there is no exclusive one.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> Drop for GcRef<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.cell.borrows.set(self.cell.borrows.get() - 1);
    }
}

/// An exclusive borrow of a [`GcRefCell`].
pub struct GcRefMut<'a, T> {
    cell: &'a GcRefCell<T>,
}

impl<T> Deref for GcRefMut<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only borrow.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> DerefMut for GcRefMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only borrow, and it is borrowed exclusively.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl<T> Drop for GcRefMut<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.cell.borrows.set(0);
    }
}

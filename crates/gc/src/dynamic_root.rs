//! Dynamic roots: objects held from outside the heap by a handle that is dropped like any value.
//!
//! # Invariants
//! - D1: the shared part lives while a heap or a handle refers to it (`owners` counts them).
//! - D2: a slot is either free and in the free chain, or holds a live object and belongs to one
//!   handle, or leaves: its handle was dropped before a cycle in slices has looked at it, which then
//!   frees it.

use core::cell::{Cell, RefCell};
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::system::{page_bytes, release};

use crate::HeapError;
use crate::gc::Gc;
use crate::memory::{Reserve, Table};
use crate::mutation::Mutation;
use crate::object::{Field, ObjectRef};
use crate::root::{Root, Rootable};
use crate::trace::Visitor;

#[derive(Clone, Copy)]
enum Slot {
    Free {
        next: Option<usize>,
    },
    Taken(ObjectRef),
    /// Of a handle that was dropped before the cycle that runs has looked at it.
    Leaving(ObjectRef),
}

/// What the heap and the handles share, in a mapping of its own.
struct Shared {
    owners: Cell<usize>,
    free: Cell<Option<usize>>,
    slots: RefCell<Table<Slot>>,
    /// While a cycle in slices begins: slots from here up to `unseen_end` it has not looked at.
    unseen: Cell<usize>,
    unseen_end: Cell<usize>,
    memory_bytes: usize,
    /// Bytes outside the heap that its objects own.
    external_bytes: Cell<usize>,
}

/// A counted reference to the slots.
pub(crate) struct RootTable {
    shared: NonNull<Shared>,
}

impl RootTable {
    pub(crate) fn new() -> Result<Self, HeapError> {
        let memory = Reserve::new(size_of::<Shared>())?;
        let shared = memory.start().cast::<Shared>();
        let memory_bytes = page_bytes().max(size_of::<Shared>());
        let value = Shared {
            owners: Cell::new(1),
            free: Cell::new(None),
            slots: RefCell::new(Table::new()),
            unseen: Cell::new(0),
            unseen_end: Cell::new(0),
            memory_bytes,
            external_bytes: Cell::new(0),
        };
        // SAFETY: the reserve is page aligned and long enough, and nobody else knows it.
        unsafe { shared.write(value) };
        // The last owner releases it (D1).
        core::mem::forget(memory);
        Ok(Self { shared })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: D1, and this value is one of the owners counted.
        unsafe { self.shared.as_ref() }
    }

    /// Another owner of the same slots.
    pub(crate) fn share(&self) -> Self {
        self.shared().owners.set(self.shared().owners.get() + 1);
        Self { shared: self.shared }
    }

    pub(crate) fn external_bytes(&self) -> usize {
        self.shared().external_bytes.get()
    }

    pub(crate) fn change_external(&self, change: impl FnOnce(usize) -> usize) {
        let cell = &self.shared().external_bytes;
        cell.set(change(cell.get()));
    }

    fn insert(&self, object: ObjectRef) -> Result<usize, HeapError> {
        let shared = self.shared();
        let mut slots = shared.slots.borrow_mut();
        let Some(index) = shared.free.get() else {
            slots.try_push(Slot::Taken(object))?;
            return Ok(slots.as_slice().len() - 1);
        };
        if let Slot::Free { next } = slots.as_slice()[index] {
            shared.free.set(next);
        }
        slots.as_mut_slice()[index] = Slot::Taken(object);
        Ok(index)
    }

    fn remove(&self, index: usize) {
        let shared = self.shared();
        let mut slots = shared.slots.borrow_mut();
        let slot = &mut slots.as_mut_slice()[index];
        if (shared.unseen.get()..shared.unseen_end.get()).contains(&index)
            && let Slot::Taken(object) = *slot
        {
            *slot = Slot::Leaving(object);
            return;
        }
        *slot = Slot::Free { next: shared.free.get() };
        shared.free.set(Some(index));
    }

    /// Begins what [`RootTable::scan_some`] does.
    pub(crate) fn begin_scan(&self) {
        let shared = self.shared();
        debug_assert!(shared.unseen.get() == shared.unseen_end.get(), "one scan at a time");
        shared.unseen.set(0);
        shared.unseen_end.set(shared.slots.borrow().as_slice().len());
    }

    /// Shows up to `count` more of what was held when the scan began; returns whether that was all.
    /// What is dropped meanwhile is shown, too.
    pub(crate) fn scan_some(&self, count: usize, visit: &mut dyn FnMut(ObjectRef)) -> bool {
        let shared = self.shared();
        let from = shared.unseen.get();
        let end = shared.unseen_end.get().min(from + count);
        let mut slots = shared.slots.borrow_mut();
        for (index, slot) in slots.as_mut_slice()[..end].iter_mut().enumerate().skip(from) {
            match *slot {
                Slot::Taken(object) => visit(object),
                Slot::Leaving(object) => {
                    visit(object);
                    *slot = Slot::Free { next: shared.free.get() };
                    shared.free.set(Some(index));
                }
                Slot::Free { .. } => {}
            }
        }
        shared.unseen.set(end);
        end == shared.unseen_end.get()
    }

    /// Shows every object held to `visitor`. O(slots ever used at once).
    pub(crate) fn trace<V: Visitor>(&self, visitor: &mut V) {
        for slot in self.shared().slots.borrow_mut().as_mut_slice() {
            if let Slot::Taken(object) = slot {
                visitor.visit(Field::of(object));
            }
        }
    }
}

impl Drop for RootTable {
    fn drop(&mut self) {
        let owners = self.shared().owners.get() - 1;
        self.shared().owners.set(owners);
        if owners > 0 {
            return;
        }
        let bytes = self.shared().memory_bytes;
        // SAFETY: the last owner (D1); the value is not used again.
        unsafe { self.shared.drop_in_place() };
        // SAFETY: the mapping made in `new`, unused from here on. A failure keeps it mapped.
        let _ = unsafe { release(self.shared.cast(), bytes) };
    }
}

/// Holds one object of type `R` from outside its heap until it is dropped. It may outlive the
/// heap, and is then good for nothing.
///
/// ```
/// use heapwright_gc::{Config, DynamicRoot, Gc, Heap, rootable};
///
/// type Number = rootable!['gc => u64];
/// let mut heap = Heap::<rootable!['gc => ()]>::new(Config::default(), |_| ())?;
/// let held: DynamicRoot<Number> = heap
///     .mutate(|mu, _| mu.alloc(42u64).and_then(|number| mu.stash(number)))
///     .expect("an empty heap has room");
/// heap.collect();
/// assert_eq!(heap.mutate(|mu, _| held.fetch(mu).map(|number| *number)), Some(42));
/// # Ok::<(), heapwright_gc::HeapError>(())
/// ```
pub struct DynamicRoot<R: ?Sized + for<'gc> Rootable<'gc>> {
    table: RootTable,
    index: usize,
    kind: PhantomData<R>,
}

impl<R: ?Sized + for<'gc> Rootable<'gc>> DynamicRoot<R> {
    /// Takes a slot of `table` for `object`.
    pub(crate) fn new<'gc>(
        table: &RootTable,
        object: Gc<'gc, Root<'gc, R>>,
    ) -> Result<Self, HeapError> {
        let index = table.insert(object.object())?;
        Ok(Self { table: table.share(), index, kind: PhantomData })
    }

    /// The object, if `mutation` is of the heap that the handle was made in. O(1).
    pub fn fetch<'gc>(&self, mutation: &Mutation<'gc>) -> Option<Gc<'gc, Root<'gc, R>>> {
        if mutation.roots_are(|table| table.shared != self.table.shared) {
            return None;
        }
        let Slot::Taken(object) = self.table.shared().slots.borrow().as_slice()[self.index] else {
            return None;
        };
        // SAFETY: D2: the slot is this handle's, which was made from a `Gc` of this type under the
        // brand of an earlier mutation of the same heap; collections keep it up to date.
        Some(unsafe { Gc::from_payload(object.payload().cast()) })
    }
}

impl<R: ?Sized + for<'gc> Rootable<'gc>> Drop for DynamicRoot<R> {
    fn drop(&mut self) {
        self.table.remove(self.index);
    }
}

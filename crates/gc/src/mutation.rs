//! Mutation: what a program holds while it may use the heap: allocation and write barriers.

use core::cell::RefCell;
use core::marker::PhantomData;
use core::num::NonZeroUsize;
use core::ptr::NonNull;

use crate::desc::TypeDesc;
use crate::dynamic_root::{DynamicRoot, RootTable};
use crate::gc::{Gc, Invariant};
use crate::mark::Marker;
use crate::model::Described;
use crate::mutator::{Barrier, Mutator};
use crate::object::{Field, ObjectRef, write_head};
use crate::plan::Plan;
use crate::relocate::Copier;
use crate::remember::CopyCell;
use crate::root::{Root, Rootable};
use crate::space::{AddressRange, LARGE_BYTES};
use crate::state::State;
use crate::trace::sealed::Sealed;
use crate::trace::{Trace, Visitor};
use crate::write_log::{LoggedCell, LoggedField};
use crate::{HeapError, LimitReached};

/// The right to use a heap, for the length of one [`crate::Heap::mutate`].
pub struct Mutation<'gc> {
    core: Mutator<Described>,
    brand: Invariant<'gc>,
}

impl Mutation<'static> {
    pub(crate) fn new(state: State<Described>) -> Self {
        Self { core: Mutator::new(state), brand: PhantomData }
    }
}

impl<'gc> Mutation<'gc> {
    #[inline]
    pub(crate) fn core(&self) -> &Mutator<Described> {
        &self.core
    }

    #[inline]
    pub(crate) fn state(&self) -> &RefCell<State<Described>> {
        &self.core.state
    }

    /// Tells heaps apart.
    #[inline]
    pub(crate) fn address(&self) -> NonZeroUsize {
        NonNull::from(self).addr()
    }

    /// Puts `value` into the heap. O(1): a compare, an addition and the value's own stores; now
    /// and then a system call's worth of work for the next piece of memory.
    ///
    /// Its alignment is at most 8 bytes (checked at compile time).
    ///
    /// # Errors
    /// [`LimitReached`]: leave the mutation, so that a collection runs. The value is dropped.
    #[inline]
    pub fn alloc<T: Trace<'gc>>(&self, value: T) -> Result<Gc<'gc, T>, LimitReached> {
        let desc = TypeDesc::of::<T>();
        let bytes = desc.total_bytes(1);
        let start = self.core.place(bytes)?;
        // SAFETY: `place` gave as many unused bytes, a multiple of 8.
        let object = unsafe { write_head(start, desc, 1, self.core.mark.get()) };
        let payload = object.payload().cast::<T>();
        // SAFETY: the payload is inside the place, and aligned to 8.
        unsafe { payload.write(value) };
        self.core.register(object, desc.drop.is_some(), bytes)?;
        // SAFETY: written right above, in the heap with this brand.
        Ok(unsafe { Gc::from_payload(payload) })
    }

    /// Puts a slice of `len` items, made by `item` from their index, into the heap.
    ///
    /// O(`len`). If `item` fails or panics, the items made so far are dropped.
    ///
    /// # Errors
    /// [`LimitReached`], before the first item is made; or what `item` returns.
    #[inline]
    pub fn alloc_slice<T: Trace<'gc>>(
        &self,
        len: usize,
        mut item: impl FnMut(usize) -> Result<T, LimitReached>,
    ) -> Result<Gc<'gc, [T]>, LimitReached> {
        let desc = TypeDesc::of_array::<T>();
        // A quarter of the addresses is beyond any limit, and keeps the sums below from overflow.
        let fits = size_of::<T>().checked_mul(len).is_some_and(|bytes| bytes < usize::MAX / 4);
        if !fits || len > usize::MAX >> 5 {
            self.core.state.borrow_mut().refuse(usize::MAX);
            return Err(LimitReached);
        }
        let bytes = desc.total_bytes(len);
        let start = self.core.place(bytes)?;
        // SAFETY: `place` gave as many unused bytes, a multiple of 8.
        let object = unsafe { write_head(start, desc, len, self.core.mark.get()) };
        let first = object.payload().cast::<T>();
        let mut half_built = HalfBuilt { mutation: self, start, bytes, first, made: 0 };
        for index in 0..len {
            let value = item(index)?;
            // SAFETY: inside the payload of `len` items.
            let place = unsafe { first.add(index) };
            // SAFETY: as above; nobody else knows the object yet.
            unsafe { place.write(value) };
            half_built.made = index + 1;
        }
        core::mem::forget(half_built);
        self.core.register(object, desc.drop.is_some(), bytes)?;
        let slice = NonNull::slice_from_raw_parts(first, len);
        // SAFETY: all items were written above, in the heap with this brand.
        Ok(unsafe { Gc::from_payload(slice) })
    }

    /// Puts a copy of `text` into the heap. O(bytes).
    ///
    /// # Errors
    /// [`LimitReached`].
    pub fn alloc_str(&self, text: &str) -> Result<Gc<'gc, str>, LimitReached> {
        let bytes = self.alloc_slice(text.len(), |index| Ok(text.as_bytes()[index]))?;
        let payload = bytes.object().payload();
        let slice = core::ptr::slice_from_raw_parts_mut(payload.as_ptr(), text.len());
        let text = NonNull::new(slice as *mut str).ok_or(LimitReached)?;
        // SAFETY: the payload is a copy of a `str`, in the heap with this brand.
        Ok(unsafe { Gc::from_payload(text) })
    }

    /// Puts `value` into the heap at an address that it keeps until it dies, under every
    /// collector: for a buffer that foreign code holds, or a value that refers to itself. O(1); at
    /// least one OS page, so it is for few objects.
    ///
    /// ```
    /// use heapwright_gc::{Collector, Config, Gc, Heap, rootable};
    ///
    /// let config = Config::with(Collector::MarkCompact);
    /// let mut heap = Heap::<rootable!['gc => Option<Gc<'gc, [u8; 64]>>]>::new(config, |mu| {
    ///     mu.alloc_pinned([7; 64]).ok()
    /// })?;
    /// let before = heap.mutate(|_, buffer| buffer.unwrap().address());
    /// heap.collect();
    /// assert_eq!(heap.mutate(|_, buffer| buffer.unwrap().address()), before);
    /// # Ok::<(), heapwright_gc::HeapError>(())
    /// ```
    ///
    /// # Errors
    /// [`LimitReached`].
    pub fn alloc_pinned<T: Trace<'gc>>(&self, value: T) -> Result<Gc<'gc, T>, LimitReached> {
        let desc = TypeDesc::of::<T>();
        let bytes = desc.total_bytes(1);
        let place = self.core.state.borrow_mut().grant_pinned(bytes);
        self.core.note_due();
        let start = place.ok_or(LimitReached)?;
        // SAFETY: `grant_pinned` gave as many unused bytes, page aligned.
        let object = unsafe { write_head(start, desc, 1, self.core.mark.get()) };
        let payload = object.payload().cast::<T>();
        // SAFETY: the payload is inside the place, and aligned to 8.
        unsafe { payload.write(value) };
        if !self.core.state.borrow_mut().register(object, desc.drop.is_some(), bytes, true) {
            return Err(LimitReached);
        }
        // SAFETY: written above, in the heap with this brand.
        Ok(unsafe { Gc::from_payload(payload) })
    }

    /// Whether a collection is due: leave the mutation soon, so that it can run.
    #[inline]
    pub fn should_yield(&self) -> bool {
        self.core.is_due.get()
    }

    /// Holds `object` from outside the heap until the handle is dropped. O(1).
    ///
    /// # Errors
    /// [`LimitReached`] if there is no memory for the handle.
    pub fn stash<R: ?Sized + for<'a> Rootable<'a>>(
        &self,
        object: Gc<'gc, Root<'gc, R>>,
    ) -> Result<DynamicRoot<R>, LimitReached> {
        let mut state = self.core.state.borrow_mut();
        state.plan.pin(object.object());
        DynamicRoot::new(&state.dynamic, object).map_err(|HeapError::Reserve { .. }| LimitReached)
    }

    pub(crate) fn roots_are(&self, test: impl FnOnce(&RootTable) -> bool) -> bool {
        test(&self.core.state.borrow().dynamic)
    }

    /// The barrier of a cell whose value `old` becomes `new`, which it returns. By value, so that
    /// a reference stays in its register.
    #[inline]
    pub(crate) fn before_write<T: Trace<'gc>>(&self, old: &mut T, mut new: T) -> T {
        if !T::NEEDS_TRACE || cfg!(heapwright_gc_without = "barrier") {
            return new;
        }
        let cell = NonNull::from(&mut *old).cast::<u8>();
        if T::IS_REFERENCE {
            let entry = LoggedField(self.core.in_heap(cell));
            // What fails first comes first: young cells, null and old values, roots. In a cycle
            // every word concerns the heap, and the log has no room.
            if self.core.is_below_young(cell) && self.core.concerns(word_of(&new)) {
                // The rest is away from the code of the program that writes.
                core::hint::cold_path();
                if self.core.is_above_start(cell) && !self.core.fields.try_push(entry) {
                    const { assert!(!T::IS_REFERENCE || !core::mem::needs_drop::<T>()) };
                    // The slow path gets a copy and returns nothing: a value that came back would
                    // be in another register, and moved there in every write.
                    // SAFETY: such a value is a pointer or null, and has no destructor.
                    self.write_slow(old, unsafe { core::ptr::read(&raw const new) });
                }
            }
            return new;
        }
        if !self.core.is_watched(cell) {
            return new;
        }
        if self.core.barrier.get() != Barrier::Generational {
            return self.note_write(old, new);
        }
        let mut finder = YoungFinder { nursery: self.core.nursery, found: false };
        new.trace(&mut finder);
        if finder.found {
            self.core.cells.push(self.logged(cell, copy_cell::<T>));
        }
        new
    }

    /// The barrier of a cell whose value may become anything.
    #[inline]
    pub(crate) fn before_borrow<T: Trace<'gc>>(&self, value: &mut T) {
        if !T::NEEDS_TRACE || cfg!(heapwright_gc_without = "barrier") {
            return;
        }
        let cell = NonNull::from(&mut *value).cast::<u8>();
        if !self.core.is_watched(cell) {
            return;
        }
        if self.core.barrier.get() != Barrier::Generational {
            return self.note_borrow(value);
        }
        self.core.cells.push(self.logged(cell, copy_cell::<T>));
    }

    /// The barrier of a weak reference that becomes a strong one: the snapshot did not have it.
    /// Returns whether it may: a cycle may have found the object dead and not got to the reference.
    #[inline]
    pub(crate) fn before_upgrade(&self, object: ObjectRef) -> bool {
        self.core.revive(object)
    }

    #[inline]
    fn logged(&self, cell: NonNull<u8>, copy: CopyCell<Described>) -> LoggedCell<Described> {
        LoggedCell { cell: self.core.in_heap(cell), copy }
    }

    /// The write of one word that concerns the heap where the log has no room.
    #[cold]
    #[inline(never)]
    fn write_slow<T: Trace<'gc>>(&self, old: &mut T, new: T) {
        if self.core.barrier.get() != Barrier::Generational {
            self.note_write(old, new);
            return;
        }
        let cell = NonNull::from(old).cast::<u8>();
        self.core.fields.push_slow(LoggedField(self.core.in_heap(cell)));
    }

    #[cold]
    #[inline(never)]
    fn note_write<T: Trace<'gc>>(&self, old: &mut T, mut new: T) -> T {
        self.show_overwritten(old);
        let cell = self.core.in_heap(NonNull::from(old).cast::<u8>());
        self.core.remember_write(cell, copy_cell::<T>, |marker| new.trace(marker));
        new
    }

    #[inline(never)]
    fn note_borrow<T: Trace<'gc>>(&self, value: &mut T) {
        self.show_overwritten(value);
        let cell = self.core.in_heap(NonNull::from(value).cast::<u8>());
        self.core.remember_borrow(cell, copy_cell::<T>, mark_cell::<T>);
    }

    fn show_overwritten<T: Trace<'gc>>(&self, old: &mut T) {
        if let Some(marker) = self.core.state.borrow_mut().plan.snapshot() {
            old.trace(marker);
        }
    }
}

/// A slice being made: undone if `item` fails or panics.
struct HalfBuilt<'a, 'gc, T> {
    mutation: &'a Mutation<'gc>,
    start: NonNull<u8>,
    bytes: usize,
    first: NonNull<T>,
    made: usize,
}

impl<T> Drop for HalfBuilt<'_, '_, T> {
    fn drop(&mut self) {
        // Whoever walks the hole finds bytes without references; first, as a destructor may panic.
        let (desc, mark) = (TypeDesc::of_array::<u8>(), self.mutation.core.mark.get());
        // SAFETY: the same place; an array of bytes with the same length, which is at least that
        // of an array's head and one word.
        unsafe { write_head(self.start, desc, self.bytes - desc.head_bytes(), mark) };
        let made = core::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.made);
        // SAFETY: as many items were written, and nobody knows the object.
        unsafe { core::ptr::drop_in_place(made) };
        if self.bytes > LARGE_BYTES {
            self.mutation.core.state.borrow_mut().common.large.unplace(self.start, self.bytes);
        }
    }
}

/// The address in a value that is one word, or 0.
#[inline]
fn word_of<'gc, T: Trace<'gc>>(value: &T) -> usize {
    const { assert!(!T::IS_REFERENCE || size_of::<T>() == size_of::<*const u8>()) };
    // SAFETY: such a value is a pointer or null, so its bytes are a raw pointer.
    unsafe { core::mem::transmute_copy::<T, *const u8>(value) }.addr()
}

/// Shows the cell at `cell` to the copier.
///
/// # Safety
/// - A cell with a `T` lies at `cell`, and nobody else uses it during the call.
unsafe fn copy_cell<'gc, T: Trace<'gc>>(cell: NonNull<u8>, copier: &mut Copier<Described>) {
    // SAFETY: the caller's promise.
    let value = unsafe { cell.cast::<T>().as_mut() };
    value.trace(copier);
}

/// Shows the cell at `cell` to the marker.
///
/// # Safety
/// - As for [`copy_cell`].
unsafe fn mark_cell<'gc, T: Trace<'gc>>(cell: NonNull<u8>, marker: &mut Marker<Described>) {
    // SAFETY: the caller's promise.
    let value = unsafe { cell.cast::<T>().as_mut() };
    value.trace(marker);
}

/// Looks for a reference into the nursery.
struct YoungFinder {
    nursery: AddressRange,
    found: bool,
}

impl Sealed for YoungFinder {}

impl Visitor for YoungFinder {
    #[inline]
    fn visit(&mut self, field: Field) {
        let object = field.object::<Described>();
        self.found |= object.is_some_and(|object| self.nursery.contains(object.address()));
    }
}

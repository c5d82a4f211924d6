//! The pointer.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use crate::object::{Field, ObjectRef};
use crate::trace::{Trace, Visitor};

/// `'gc` may be neither lengthened nor shortened.
pub(crate) type Invariant<'gc> = PhantomData<fn(&'gc ()) -> &'gc ()>;

/// A pointer to an object of the heap with the brand `'gc`: `Copy`, one word (two for slices,
/// strings and trait objects), and as fast as a reference.
///
/// It lives until the end of the mutation that it belongs to:
///
/// ```compile_fail
/// # use heapwright_gc::*;
/// let mut heap = Heap::<rootable!['gc => ()]>::new(Config::default(), |_| ()).unwrap();
/// let escaped = heap.mutate(|mu, _| mu.alloc(1u32).unwrap()); // may not leave
/// ```
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// # use heapwright_gc::*;
/// fn send<T: Send>(_: T) {}
/// let mut heap = Heap::<rootable!['gc => ()]>::new(Config::default(), |_| ()).unwrap();
/// heap.mutate(|mu, _| send(mu.alloc(1u32).unwrap())); // is not Send
/// ```
#[repr(transparent)]
pub struct Gc<'gc, T: ?Sized> {
    payload: NonNull<T>,
    brand: Invariant<'gc>,
}

impl<T: ?Sized> Clone for Gc<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Gc<'_, T> {}

impl<'gc, T: ?Sized> Gc<'gc, T> {
    /// Wraps the address of a payload.
    ///
    /// # Safety
    /// - `payload` is an initialised payload in the heap with the brand `'gc`.
    #[inline]
    pub(crate) unsafe fn from_payload(payload: NonNull<T>) -> Self {
        Self { payload, brand: PhantomData }
    }

    /// The object, for as long as the mutation lasts. O(1).
    #[inline]
    pub fn reference(self) -> &'gc T
    where
        T: 'gc,
    {
        // SAFETY: `from_payload`'s caller promised an initialised payload; nothing is collected or
        // moved while the brand `'gc` lives, and nobody has it as `&mut` outside of a collection.
        unsafe { self.payload.as_ref() }
    }

    /// Whether both point to the same object. O(1).
    #[inline]
    pub fn ptr_eq(self, other: Self) -> bool {
        self.payload.cast::<u8>() == other.payload.cast::<u8>()
    }

    /// A number that tells this object from others until the end of the mutation; afterwards the
    /// object may have moved.
    #[inline]
    pub fn address(self) -> usize {
        self.payload.cast::<u8>().addr().get()
    }

    #[inline]
    pub(crate) fn object(self) -> ObjectRef {
        // SAFETY: the payload of an object of a heap that exists while `'gc` does (O1).
        unsafe { ObjectRef::new(self.payload.cast()) }
    }

    /// The same object under a type that it coerces to. [`crate::unsize`] calls this.
    #[doc(hidden)]
    #[inline]
    pub fn coerce<U: ?Sized + 'gc>(self, coerce: impl FnOnce(&'gc T) -> &'gc U) -> Gc<'gc, U>
    where
        T: 'gc,
    {
        let wide = NonNull::from(coerce(self.reference()));
        assert!(wide.cast::<u8>() == self.payload.cast::<u8>(), "coerced to another object");
        // Provenance of the whole heap, as `payload` has it, with the new type's metadata.
        // SAFETY: the same payload, checked above; the type is what a reference coerced to.
        unsafe { Gc::from_payload(with_provenance_of(wide, self.payload.cast())) }
    }
}

/// `wide` with the provenance of `source`, which has the same address.
#[inline]
fn with_provenance_of<U: ?Sized>(wide: NonNull<U>, source: NonNull<u8>) -> NonNull<U> {
    let mut pointer = wide.as_ptr();
    // SAFETY: the data address is the first word of every pointer, thin or wide (checked right
    // below); only that word is written, with the same address.
    unsafe { (&raw mut pointer).cast::<*mut u8>().write(source.as_ptr()) };
    debug_assert!(pointer.cast::<u8>() == source.as_ptr(), "a wide pointer of another layout");
    NonNull::new(pointer).unwrap_or(wide)
}

/// Turns a `Gc<T>` into a `Gc` of a trait object or a slice that `&T` coerces to.
///
/// ```
/// use heapwright_gc::{Config, Gc, Heap, Trace, rootable, unsize};
///
/// trait Shape { fn area(&self) -> f64; }
/// #[derive(Trace)]
/// struct Square(f64);
/// impl Shape for Square { fn area(&self) -> f64 { self.0 * self.0 } }
///
/// let mut heap = Heap::<rootable!['gc => Option<Gc<'gc, dyn Shape>>]>::new(Config::default(), |mu| {
///     Some(unsize!(mu.alloc(Square(3.0)).ok()? => dyn Shape))
/// })?;
/// heap.collect();
/// assert_eq!(heap.mutate(|_, shape| shape.map(|shape| shape.area())), Some(9.0));
/// # Ok::<(), heapwright_gc::HeapError>(())
/// ```
#[macro_export]
macro_rules! unsize {
    ($gc:expr => $type:ty) => {
        $crate::Gc::coerce::<$type>($gc, |reference| reference)
    };
}

impl<T: ?Sized> Deref for Gc<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: as in `reference`; the borrow of the pointer is shorter than `'gc`.
        unsafe { self.payload.as_ref() }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Gc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for Gc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

// SAFETY: visits the one reference that it is. Only a `Gc` of the same brand is traced.
unsafe impl<'gc, T: ?Sized> Trace<'gc> for Gc<'gc, T> {
    const NEEDS_TRACE: bool = true;
    const HAS_CELLS: bool = false;
    const IS_REFERENCE: bool = size_of::<Self>() == size_of::<*mut u8>();

    #[inline]
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        debug_assert!(self.payload.cast::<u8>() == self.object().payload());
        // The address is the first word of every pointer, thin or wide: `with_provenance_of`
        // checks it where wide ones are made.
        let place = NonNull::from(&mut self.payload).cast::<*mut u8>();
        // SAFETY: the word is a payload's address. The value that it is a part of is visited
        // where it lies, by a collection that has everything to itself.
        visitor.visit(unsafe { Field::new(place) });
    }
}

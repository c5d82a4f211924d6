//! Tracing: a type shows its references to a visitor.

use core::cell::Cell;
use core::marker::PhantomData;

use crate::object::Field;

pub(crate) mod sealed {
    /// Keeps visitors inside this crate.
    pub trait Sealed {}
}

/// What the heap does with a reference; only this crate has visitors.
pub trait Visitor: sealed::Sealed {
    /// Sees the reference in `field` and may replace it, now or before the visit of everything
    /// ends.
    fn visit(&mut self, field: Field);
}

/// A value that may lie in a heap with the brand `'gc`. Derive it.
///
/// The brand is in the trait so that no object can hold a reference into another heap: that does
/// not compile.
///
/// A traced type has no `Drop` of its own:
///
/// ```compile_fail,E0119
/// # use heapwright_gc::Trace;
/// #[derive(Trace)]
/// struct Guarded(u32);
/// impl Drop for Guarded { fn drop(&mut self) {} } // the derive conflicts with it
/// ```
///
/// Every field is traced, or the derive does not compile:
///
/// ```compile_fail,E0277
/// # use heapwright_gc::Trace;
/// #[derive(Trace)]
/// struct Shared(std::rc::Rc<u32>); // in a `Static` it would be accepted
/// ```
///
/// A cell with references lies neither in a cell nor in a `Vec`:
///
/// ```compile_fail
/// # use heapwright_gc::{Gc, GcCell, GcRefCell};
/// fn nested<'gc>() -> GcRefCell<Vec<GcCell<Option<Gc<'gc, u32>>>>> { GcRefCell::new(Vec::new()) }
/// fn main() { nested(); }
/// ```
///
/// # Safety
/// - `trace` visits every [`crate::Gc`] in the value exactly once, and does nothing else that a
///   program could see; it does not panic.
/// - `NEEDS_TRACE` is true if there can be one; `HAS_CELLS` is true if the value contains a
///   [`crate::GcCell`] or [`crate::GcRefCell`]; `IS_REFERENCE` is what its documentation says.
/// - `trace` may run on another thread, while the thread of the heap waits: it uses nothing that
///   belongs to a thread.
/// - Dropping the value does not look at anything a `Gc` in it points to.
pub unsafe trait Trace<'gc> {
    /// Whether a value can contain a [`crate::Gc`]. If not, it is never visited.
    const NEEDS_TRACE: bool;
    /// Whether a value contains a cell with a write barrier; such a value may lie neither in
    /// another cell nor outside the heap (in a `Vec`), where the barrier could not name it.
    const HAS_CELLS: bool;
    /// Whether a value is one word, a [`crate::Gc`] or null. Writes of such values are logged with
    /// less work. Never true of a derived type.
    #[doc(hidden)]
    const IS_REFERENCE: bool = false;
    /// Shows every reference in the value to `visitor`.
    fn trace<V: Visitor>(&mut self, visitor: &mut V);
}

/// Any `'static` value as a payload, its destructor included; it cannot hold a `Gc`.
///
/// ```
/// use heapwright_gc::Static;
/// assert_eq!(Static(7).0, 7);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Static<T: 'static>(pub T);

/// Types without references.
macro_rules! leaves {
    ($([$($generics:tt)*] $type:ty),* $(,)?) => { $(
        // SAFETY: a value of this type cannot contain a `Gc` or a cell of ours.
        unsafe impl<'gc, $($generics)*> Trace<'gc> for $type {
            const NEEDS_TRACE: bool = false;
            const HAS_CELLS: bool = false;
            #[inline]
            fn trace<V: Visitor>(&mut self, _visitor: &mut V) {}
        }
    )* };
}

leaves! {
    [] (), [] bool, [] char, [] u8, [] u16, [] u32, [] u64, [] u128, [] usize,
    [] i8, [] i16, [] i32, [] i64, [] i128, [] isize, [] f32, [] f64, [] &'static str,
    [T: 'static] Static<T>, [T: ?Sized] PhantomData<T>, [T: Copy + 'static] Cell<T>,
}

// SAFETY: visits the value inside, if there is one; the constants are its.
unsafe impl<'gc, T: Trace<'gc>> Trace<'gc> for Option<T> {
    const NEEDS_TRACE: bool = T::NEEDS_TRACE;
    const HAS_CELLS: bool = T::HAS_CELLS;
    // A `Gc` is never null, so `None` takes that place; if it does not, the sizes differ.
    const IS_REFERENCE: bool = T::IS_REFERENCE && size_of::<Self>() == size_of::<T>();
    #[inline]
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        if let Some(value) = self {
            value.trace(visitor);
        }
    }
}

// SAFETY: visits the value that is there.
unsafe impl<'gc, T: Trace<'gc>, E: Trace<'gc>> Trace<'gc> for Result<T, E> {
    const NEEDS_TRACE: bool = T::NEEDS_TRACE || E::NEEDS_TRACE;
    const HAS_CELLS: bool = T::HAS_CELLS || E::HAS_CELLS;
    #[inline]
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        match self {
            Ok(value) => value.trace(visitor),
            Err(error) => error.trace(visitor),
        }
    }
}

// SAFETY: visits every item.
unsafe impl<'gc, T: Trace<'gc>, const N: usize> Trace<'gc> for [T; N] {
    const NEEDS_TRACE: bool = T::NEEDS_TRACE;
    const HAS_CELLS: bool = T::HAS_CELLS;
    #[inline]
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        for item in self {
            item.trace(visitor);
        }
    }
}

/// Tuples of traced values.
macro_rules! tuples {
    ($(($($type:ident $index:tt),*))*) => { $(
        // SAFETY: visits every field; the constants are the disjunction of theirs.
        unsafe impl<'gc, $($type: Trace<'gc>),*> Trace<'gc> for ($($type,)*) {
            const NEEDS_TRACE: bool = false $(|| $type::NEEDS_TRACE)*;
            const HAS_CELLS: bool = false $(|| $type::HAS_CELLS)*;
            #[inline]
            fn trace<V: Visitor>(&mut self, visitor: &mut V) {
                $(self.$index.trace(visitor);)*
            }
        }
    )* };
}

tuples! { (A 0) (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) }

#[cfg(feature = "alloc")]
mod owned {
    use super::{Trace, Visitor};
    use alloc::{boxed::Box, string::String, vec::Vec};

    leaves! { [] String }

    // SAFETY: visits the boxed value; cells are refused at compile time.
    unsafe impl<'gc, T: Trace<'gc>> Trace<'gc> for Box<T> {
        const NEEDS_TRACE: bool = {
            assert!(!Self::HAS_CELLS);
            T::NEEDS_TRACE
        };
        const HAS_CELLS: bool = {
            assert!(!T::HAS_CELLS, "a GcCell lies in the heap itself, not in a Box");
            false
        };
        #[inline]
        fn trace<V: Visitor>(&mut self, visitor: &mut V) {
            T::trace(self, visitor);
        }
    }

    // SAFETY: visits every item; cells are refused at compile time.
    unsafe impl<'gc, T: Trace<'gc>> Trace<'gc> for Vec<T> {
        const NEEDS_TRACE: bool = {
            assert!(!Self::HAS_CELLS);
            T::NEEDS_TRACE
        };
        const HAS_CELLS: bool = {
            assert!(!T::HAS_CELLS, "a GcCell lies in the heap itself, not in a Vec");
            false
        };
        #[inline]
        fn trace<V: Visitor>(&mut self, visitor: &mut V) {
            for item in self {
                item.trace(visitor);
            }
        }
    }
}

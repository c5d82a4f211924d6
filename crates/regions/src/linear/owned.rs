//! A value in an arena that is dropped with its owner.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::Counts;

use super::arena::{Linear, out_of_memory};

/// Owns a value in an arena: dropping this drops the value; its memory stays the arena's.
///
/// Made by [`Linear::alloc_box`]. Forgetting it forgets the value.
pub struct Owned<'a, T: ?Sized> {
    /// Dropped by our own `Drop` only, or taken by `into_inner`.
    value: &'a mut ManuallyDrop<T>,
}

impl<T> Owned<'_, T> {
    /// The value itself.
    pub fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used or dropped again, so the value is taken once.
        unsafe { ManuallyDrop::take(this.value) }
    }
}

impl<T: ?Sized> Deref for Owned<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T: ?Sized> DerefMut for Owned<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

impl<T: ?Sized> Drop for Owned<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the only drop of the value: `into_inner` forgets `self`.
        unsafe { ManuallyDrop::drop(self.value) };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Owned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<B: Backing, C: Counts, const ALIGN: usize> Linear<B, C, ALIGN> {
    /// Puts a value into the arena; its owner drops it.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`]; `value` is dropped then.
    pub fn try_alloc_box<T>(&self, value: T) -> Result<Owned<'_, T>, AllocError> {
        let place = self.try_alloc_uninit::<ManuallyDrop<T>>()?;
        Ok(Owned { value: place.write(ManuallyDrop::new(value)) })
    }

    /// As [`Self::try_alloc_box`].
    ///
    /// # Panics
    /// If there is no memory.
    pub fn alloc_box<T>(&self, value: T) -> Owned<'_, T> {
        self.try_alloc_box(value).unwrap_or_else(|error| out_of_memory(error))
    }
}

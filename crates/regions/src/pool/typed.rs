//! A pool of values of one type.

use core::alloc::Layout;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use core::marker::PhantomData;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Counts, NoCounts, RegionStatistics};

use super::blocks::Pool;

/// Values of one type, each of which goes back when its owner is dropped.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, TypedPool};
///
/// let pool: TypedPool<String, _> = TypedPool::new_in(AnonymousPages);
/// let mut name = pool.alloc(String::from("row")).expect("memory");
/// name.push('s');
/// assert_eq!(*name, "rows");
/// # }
/// ```
/// A value does not outlive its pool:
/// ```compile_fail,E0597
/// # use heapwright_regions::{AnonymousPages, TypedPool};
/// let value = {
///     let pool: TypedPool<u8, _> = TypedPool::new_in(AnonymousPages);
///     pool.alloc(1).expect("memory")
/// };
/// drop(value);
/// ```
/// A pool of values that must stay in their thread stays there too:
/// ```compile_fail,E0277
/// # use heapwright_regions::{AnonymousPages, TypedPool};
/// fn send(_: impl Send) {}
/// send(TypedPool::<std::rc::Rc<u8>, _>::new_in(AnonymousPages));
/// ```
#[derive(Debug)]
pub struct TypedPool<T, B: Backing, C: Counts = NoCounts> {
    pool: Pool<B, C>,
    /// Values are made and dropped through this.
    value: PhantomData<T>,
}

impl<T, B: Backing> TypedPool<T, B> {
    /// A growing pool. Takes no memory until it is used.
    pub const fn new_in(backing: B) -> Self {
        Self { pool: Pool::new_in(backing, Layout::new::<T>()), value: PhantomData }
    }

    /// A pool of `count` values and never more, all memory taken now.
    ///
    /// # Errors
    /// What the backing says.
    pub fn bounded(backing: B, count: usize) -> Result<Self, AllocError> {
        let pool = Pool::bounded(backing, Layout::new::<T>(), count)?;
        Ok(Self { pool, value: PhantomData })
    }
}

impl<T, B: Backing, C: Counts> TypedPool<T, B, C> {
    /// Puts `value` into a slot.
    ///
    /// # Errors
    /// The value itself, when there is no slot.
    #[inline]
    pub fn alloc(&self, value: T) -> Result<Pooled<'_, T, B, C>, T> {
        let Some(slot) = self.pool.alloc() else { return Err(value) };
        let slot = slot.cast::<T>();
        // SAFETY: a live block of the layout of `T` that nobody else knows.
        unsafe { slot.write(value) };
        Ok(Pooled { slot, pool: &self.pool, value: PhantomData })
    }

    /// What the pool holds now; see [`Pool::statistics`].
    pub fn statistics(&self) -> RegionStatistics {
        self.pool.statistics()
    }
}

/// Owns a value in a [`TypedPool`].
pub struct Pooled<'a, T, B: Backing, C: Counts = NoCounts> {
    /// A live slot with a value; ours alone. The reference to the pool keeps this value from
    /// other threads, as the pool is not `Sync`.
    slot: NonNull<T>,
    pool: &'a Pool<B, C>,
    value: PhantomData<T>,
}

impl<T, B: Backing, C: Counts> Pooled<'_, T, B, C> {
    /// Takes the value out; its slot is free.
    pub fn into_inner(self) -> T {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: the live value, which is not used again: `this` is not dropped.
        let value = unsafe { this.slot.read() };
        // SAFETY: a live block of that pool, empty now.
        unsafe { this.pool.free(this.slot.cast()) };
        value
    }
}

impl<T, B: Backing, C: Counts> Deref for Pooled<'_, T, B, C> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a live value of ours alone, borrowed as we are.
        unsafe { self.slot.as_ref() }
    }
}

impl<T, B: Backing, C: Counts> DerefMut for Pooled<'_, T, B, C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a live value of ours alone, borrowed as we are.
        unsafe { self.slot.as_mut() }
    }
}

impl<T, B: Backing, C: Counts> Drop for Pooled<'_, T, B, C> {
    #[inline]
    fn drop(&mut self) {
        /// Gives the slot back even if the value's destructor panics.
        struct GiveBack<'a, B: Backing, C: Counts>(&'a Pool<B, C>, NonNull<u8>);
        impl<B: Backing, C: Counts> Drop for GiveBack<'_, B, C> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: a live block of that pool; its value has been dropped.
                unsafe { self.0.free(self.1) };
            }
        }
        let _after = GiveBack(self.pool, self.slot.cast());
        // SAFETY: the live value, dropped here only.
        unsafe { self.slot.drop_in_place() };
    }
}

impl<T: fmt::Debug, B: Backing, C: Counts> fmt::Debug for Pooled<'_, T, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::TypedPool;
    use crate::AnonymousPages;
    use std::rc::Rc;

    #[test]
    fn a_value_is_dropped_and_its_slot_used_again() {
        let shared = Rc::new(1);
        let pool = TypedPool::bounded(AnonymousPages, 1).expect("memory");
        let value = pool.alloc(shared.clone()).expect("a slot");
        let returned = pool.alloc(shared.clone()).expect_err("one slot only");
        assert_eq!((Rc::strong_count(&shared), *returned), (3, 1));
        drop(value);
        assert_eq!(Rc::strong_count(&shared), 2);
        let value = pool.alloc(returned).expect("the slot came back");
        assert_eq!(*value.into_inner(), 1);
        assert_eq!(pool.statistics().live_count.value(), Some(0));
    }

    #[test]
    fn a_destructor_that_panics_still_frees_the_slot() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("boom");
            }
        }
        let pool = TypedPool::bounded(AnonymousPages, 1).expect("memory");
        let bomb = pool.alloc(Bomb).ok().expect("a slot");
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(bomb)));
        assert!(caught.is_err());
        assert_eq!(pool.statistics().live_count.value(), Some(0));
    }
}

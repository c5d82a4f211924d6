//! Pools whose handles the compiler keeps apart.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::RegionStatistics;

use super::handles::{Handle, HandlePool, Iter, Values};

/// A lifetime that stands for one brand and fits no other, longer or shorter: neither way of
/// subtyping is left.
type Invariant<'id> = PhantomData<fn(&'id ()) -> &'id ()>;

/// A brand, for one pool: see [`with_brand`].
#[derive(Debug)]
pub struct Brand<'id> {
    lifetime: Invariant<'id>,
}

/// Calls `f` with a brand that nothing else in the program has: a lifetime that only this call
/// knows. What is made of it, [`ScopedPool`] and its handles, cannot leave the call.
///
/// Source: Kiselyov and Shan, "Lightweight Static Capabilities", 2007.
pub fn with_brand<R>(f: impl for<'id> FnOnce(Brand<'id>) -> R) -> R {
    f(Brand { lifetime: PhantomData })
}

/// Names a value of one [`ScopedPool`]: 8 bytes, as is an `Option` of it.
pub struct ScopedHandle<'id, T: ?Sized> {
    handle: Handle<T>,
    brand: Invariant<'id>,
}

impl<T: ?Sized> Clone for ScopedHandle<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for ScopedHandle<'_, T> {}
impl<T: ?Sized> PartialEq for ScopedHandle<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.handle == other.handle
    }
}
impl<T: ?Sized> Eq for ScopedHandle<'_, T> {}
impl<T: ?Sized> Hash for ScopedHandle<'_, T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.handle.hash(state);
    }
}
impl<T: ?Sized> fmt::Debug for ScopedHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// A [`HandlePool`] whose handles no other pool takes, which the compiler sees to: a look-up is the
/// comparison of the generation and nothing else, the index needs none.
///
/// It lives within the call of [`with_brand`] that made its brand: around a program's main loop, or
/// a frame, or a request. Where that does not fit: [`BrandedPool`](crate::BrandedPool).
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, ScopedPool, with_brand};
///
/// let found = with_brand(|brand| {
///     let mut names = ScopedPool::new_in(brand, AnonymousPages);
///     let ada = names.insert("Ada").expect("memory");
///     let grace = names.insert("Grace").expect("memory");
///     names.remove(ada);
///     (names.get(ada).copied(), names.get(grace).copied())
/// });
/// assert_eq!(found, (None, Some("Grace")));
/// # }
/// ```
/// Another pool's handle does not compile:
/// ```compile_fail
/// # use heapwright_regions::{AnonymousPages, ScopedPool, with_brand};
/// with_brand(|brand| {
///     let mut names = ScopedPool::new_in(brand, AnonymousPages);
///     let ada = names.insert("Ada").expect("memory");
///     with_brand(|brand| {
///         let places = ScopedPool::<&str, _>::new_in(brand, AnonymousPages);
///         places.get(ada);
///     });
/// });
/// ```
/// nor a second pool of one brand, nor a handle that outlives it:
/// ```compile_fail,E0382
/// # use heapwright_regions::{AnonymousPages, ScopedPool, with_brand};
/// with_brand(|brand| {
///     let names = ScopedPool::<&str, _>::new_in(brand, AnonymousPages);
///     let places = ScopedPool::<&str, _>::new_in(brand, AnonymousPages);
/// });
/// ```
/// ```compile_fail
/// # use heapwright_regions::{AnonymousPages, ScopedPool, with_brand};
/// let ada = with_brand(|brand| {
///     ScopedPool::new_in(brand, AnonymousPages).insert("Ada").expect("memory")
/// });
/// ```
pub struct ScopedPool<'id, T, B: Backing> {
    /// The only one that ever made a handle of this brand.
    pool: HandlePool<T, B>,
    brand: Brand<'id>,
}

impl<'id, T, B: Backing> ScopedPool<'id, T, B> {
    /// An empty pool; see [`HandlePool::new_in`].
    pub const fn new_in(brand: Brand<'id>, backing: B) -> Self {
        Self { pool: HandlePool::new_in(backing), brand }
    }

    /// An empty pool of at most `capacity_max` values.
    pub const fn with_capacity_max(brand: Brand<'id>, backing: B, capacity_max: u32) -> Self {
        Self { pool: HandlePool::with_capacity_max(backing, capacity_max), brand }
    }

    const fn branded(&self, handle: Handle<T>) -> ScopedHandle<'id, T> {
        ScopedHandle { handle, brand: self.brand.lifetime }
    }

    /// Values in the pool.
    pub const fn len(&self) -> usize {
        self.pool.len()
    }

    /// Whether there is no value.
    pub const fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// Puts a value in. O(1).
    ///
    /// # Errors
    /// The value, if there is no room.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<ScopedHandle<'id, T>, T> {
        let handle = self.pool.insert(value)?;
        Ok(self.branded(handle))
    }

    /// The value named `handle`, unless it was removed. One comparison.
    #[inline]
    pub fn get(&self, handle: ScopedHandle<'id, T>) -> Option<&T> {
        // SAFETY: of our brand, so made by our pool, whose count of used entries never falls.
        unsafe { self.pool.get_in_range(handle.handle) }
    }

    /// The value named `handle`, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, handle: ScopedHandle<'id, T>) -> Option<&mut T> {
        // SAFETY: as in `get`.
        unsafe { self.pool.get_mut_in_range(handle.handle) }
    }

    /// Whether `handle` names a value.
    #[inline]
    pub fn contains(&self, handle: ScopedHandle<'id, T>) -> bool {
        self.get(handle).is_some()
    }

    /// Takes the value named `handle` out; no handle names it any more. O(1).
    #[inline]
    pub fn remove(&mut self, handle: ScopedHandle<'id, T>) -> Option<T> {
        // SAFETY: as in `get`.
        unsafe { self.pool.remove_in_range(handle.handle) }
    }

    /// The handle of a number that [`ScopedHandle::to_bits`] gave; none if it names no value now.
    #[inline]
    pub fn handle_of(&self, bits: u64) -> Option<ScopedHandle<'id, T>> {
        let handle = Handle::from_bits(bits).filter(|handle| self.pool.contains(*handle))?;
        Some(self.branded(handle))
    }

    /// Takes memory for `more` values beyond those that fit now without more.
    ///
    /// # Errors
    /// As [`HandlePool::try_reserve`].
    pub fn try_reserve(&mut self, more: u32) -> Result<(), AllocError> {
        self.pool.try_reserve(more)
    }

    /// Removes all values. Handles of before name nothing.
    pub fn clear(&mut self) {
        self.pool.clear();
    }

    /// All values with their handles, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (ScopedHandle<'id, T>, &T)> {
        let all: Iter<'_, T, B> = self.pool.iter();
        all.map(|(handle, value)| (self.branded(handle), value))
    }

    /// All values, in the order of their places.
    pub fn values(&self) -> Values<'_, T, B> {
        self.pool.values()
    }

    /// What the pool holds now.
    pub fn statistics(&self) -> RegionStatistics {
        self.pool.statistics()
    }
}

impl<T: ?Sized> ScopedHandle<'_, T> {
    /// The handle as a number, never zero: for what cannot keep a lifetime.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.handle.to_bits()
    }
}

impl<T: fmt::Debug, B: Backing> fmt::Debug for ScopedPool<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{ScopedPool, with_brand};
    use crate::Buffer;
    use core::mem::MaybeUninit;

    #[test]
    fn trap_11_a_scoped_handle_is_stale_after_its_value_and_never_another_ones() {
        let mut memory = [MaybeUninit::uninit(); 2048];
        with_brand(|brand| {
            let mut pool = ScopedPool::new_in(brand, Buffer::new(&mut memory));
            let first = pool.insert(1).expect("room");
            assert_eq!(pool.handle_of(first.to_bits()), Some(first));
            assert_eq!(pool.remove(first), Some(1));
            let second = pool.insert(2).expect("room");
            assert_ne!(first, second);
            for made_up in [0, first.to_bits(), second.to_bits() + 1, u64::MAX] {
                assert_eq!(pool.handle_of(made_up), None, "{made_up:#x}");
            }
            assert_eq!(pool.get(first), None);
            assert_eq!(pool.get_mut(first), None);
            assert_eq!(pool.remove(first), None);
            *pool.get_mut(second).expect("live") += 1;
            assert!(pool.iter().eq([(second, &3)]) && pool.values().eq([&3]));
            pool.clear();
            assert!(!pool.contains(second) && pool.is_empty());
            assert_eq!(size_of_val(&Some(second)), 8);
        });
    }
}

//! Handles that know their pool.

use core::fmt;

use heapwright_core::backing::Backing;
use heapwright_core::region_statistics::RegionStatistics;
use heapwright_sync::atomic::{AtomicU64, Ordering};

use crate::misuse::Misuse;

use super::handles::{Handle, HandlePool, Iter};

/// The number of the next pool. 64 bits do not come round.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// Names a value of one [`BrandedPool`]: 16 bytes, 8 more than a [`Handle`].
pub struct BrandedHandle<T> {
    handle: Handle<T>,
    pool: u64,
}

impl<T> Clone for BrandedHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for BrandedHandle<T> {}
impl<T> PartialEq for BrandedHandle<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.handle, self.pool) == (other.handle, other.pool)
    }
}
impl<T> Eq for BrandedHandle<T> {}
impl<T> core::hash::Hash for BrandedHandle<T> {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        (self.handle, self.pool).hash(state);
    }
}
impl<T> fmt::Debug for BrandedHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of pool {}", self.handle, self.pool)
    }
}

/// Why a branded handle names nothing here. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleError {
    /// What it named was removed.
    Stale,
    /// It is another pool's.
    Foreign,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Misuse::from(*self).fmt(f)
    }
}

impl core::error::Error for HandleError {}

/// A [`HandlePool`] that never takes another pool's handle for its own: each pool of the process
/// has a number, which its handles carry. One comparison more for each use.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, BrandedPool, HandleError};
///
/// let mut names = BrandedPool::new_in(AnonymousPages);
/// let mut places = BrandedPool::new_in(AnonymousPages);
/// let name = names.insert("Ada").expect("memory");
/// let place = places.insert("Turin").expect("memory");
/// assert_eq!(names.get(name), Ok(&"Ada"));
/// assert_eq!(names.get(place), Err(HandleError::Foreign));
/// assert_eq!(names.remove(name), Ok("Ada"));
/// assert_eq!(names.get(name), Err(HandleError::Stale));
/// # }
/// ```
pub struct BrandedPool<T, B: Backing> {
    pool: HandlePool<T, B>,
    number: u64,
}

impl<T, B: Backing> BrandedPool<T, B> {
    /// An empty pool; see [`HandlePool::new_in`].
    pub fn new_in(backing: B) -> Self {
        Self::of(HandlePool::new_in(backing))
    }

    /// An empty pool of at most `capacity_max` values.
    pub fn with_capacity_max(backing: B, capacity_max: u32) -> Self {
        Self::of(HandlePool::with_capacity_max(backing, capacity_max))
    }

    fn of(pool: HandlePool<T, B>) -> Self {
        // Relaxed: only the number counts, nothing is published with it.
        Self { pool, number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    fn own(&self, handle: BrandedHandle<T>) -> Result<Handle<T>, HandleError> {
        if handle.pool == self.number { Ok(handle.handle) } else { Err(HandleError::Foreign) }
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
    pub fn insert(&mut self, value: T) -> Result<BrandedHandle<T>, T> {
        let handle = self.pool.insert(value)?;
        Ok(BrandedHandle { handle, pool: self.number })
    }

    /// The value named `handle`.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn get(&self, handle: BrandedHandle<T>) -> Result<&T, HandleError> {
        self.pool.get(self.own(handle)?).ok_or(HandleError::Stale)
    }

    /// The value named `handle`.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn get_mut(&mut self, handle: BrandedHandle<T>) -> Result<&mut T, HandleError> {
        let own = self.own(handle)?;
        self.pool.get_mut(own).ok_or(HandleError::Stale)
    }

    /// Takes the value named `handle` out. O(1).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn remove(&mut self, handle: BrandedHandle<T>) -> Result<T, HandleError> {
        let own = self.own(handle)?;
        self.pool.remove(own).ok_or(HandleError::Stale)
    }

    /// All values with their handles, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (BrandedHandle<T>, &T)> {
        let pool = self.number;
        let all: Iter<'_, T, B> = self.pool.iter();
        all.map(move |(handle, value)| (BrandedHandle { handle, pool }, value))
    }

    /// What the pool holds now.
    pub fn statistics(&self) -> RegionStatistics {
        self.pool.statistics()
    }
}

impl<T: fmt::Debug, B: Backing> fmt::Debug for BrandedPool<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{BrandedPool, HandleError};
    use crate::Buffer;
    use core::mem::MaybeUninit;

    #[test]
    fn trap_11_a_foreign_handle_is_never_ones_own() {
        let mut memory = [[MaybeUninit::uninit(); 1024]; 2];
        let [first, second] = &mut memory;
        let mut first = BrandedPool::new_in(Buffer::new(first));
        let mut second = BrandedPool::new_in(Buffer::new(second));
        for number in 0..8 {
            let own = first.insert(number).expect("room");
            let other = second.insert(number + 100).expect("room");
            if number == 0 {
                assert_eq!(own.handle, other.handle, "without their pools they are the same");
            }
            assert_ne!(own, other);
            assert_eq!(
                (first.get(own), first.get(other)),
                (Ok(&number), Err(HandleError::Foreign))
            );
            assert_eq!(first.get_mut(other), Err(HandleError::Foreign));
            assert_eq!(first.remove(other), Err(HandleError::Foreign));
            assert_eq!(second.remove(other), Ok(number + 100));
            assert_eq!(second.get(other), Err(HandleError::Stale));
        }
        assert_eq!((first.len(), second.len()), (8, 0));
        assert!(first.iter().all(|(handle, value)| first.get(handle) == Ok(value)));
        assert_eq!(size_of_val(&first.iter().next().expect("eight").0), 16);
    }
}

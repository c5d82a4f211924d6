//! Values of one type that may be moved.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::RegionStatistics;

use super::access::AccessError;
use super::compaction::{Compaction, Moved};
use super::guard::{PinnedValue, PinnedValueMut};
use super::header::GRANULE_BYTES;
use super::heap::CompactingHeap;
use super::walk::PoolValues;
use crate::pool::Handle;

/// Values of one type under handles that may be moved while nobody has them pinned: a
/// [`CompactingHeap`] whose blocks are values, with its costs.
///
/// A [`HandlePool`](crate::HandlePool) keeps values in place and is faster; this one gives the
/// memory of dead values back whatever is left.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, CompactingPool};
///
/// let pool = CompactingPool::new_in(AnonymousPages);
/// let first = pool.insert([1u64; 8]).expect("memory");
/// let second = pool.insert([2u64; 8]).expect("memory");
/// assert_eq!(pool.remove(first).expect("live"), [1; 8]);
/// pool.compact();
/// pool.pin_mut(second).expect("live")[0] = 3;
/// assert_eq!(pool.pin(second).expect("live")[0], 3);
/// assert!(pool.pin(first).is_err());
/// # }
/// ```
pub struct CompactingPool<T, B: Backing> {
    pub(super) heap: CompactingHeap<B>,
    /// Values are written through shared references, as a cell's.
    value: PhantomData<Cell<T>>,
}

impl<T, B: Backing> CompactingPool<T, B> {
    /// An empty pool; see [`CompactingHeap::new_in`]. Does not compile for values aligned to more
    /// than 16 bytes.
    pub const fn new_in(backing: B) -> Self {
        Self::with_capacity_max(backing, usize::MAX)
    }

    /// An empty pool of at most `bytes_max` bytes, bookkeeping included.
    pub const fn with_capacity_max(backing: B, bytes_max: usize) -> Self {
        const {
            assert!(align_of::<T>() <= GRANULE_BYTES, "values align to 16 at most");
            assert!(size_of::<T>() < 1 << 31, "values are shorter than 2 GiB");
        }
        Self { heap: CompactingHeap::with_capacity_max(backing, bytes_max), value: PhantomData }
    }

    /// Values in the pool.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Puts a value in. O(1).
    ///
    /// # Errors
    /// As [`CompactingHeap::insert`], with the value.
    #[inline]
    pub fn insert(&self, value: T) -> Result<Handle<T>, (AllocError, T)> {
        match self.heap.alloc_uninit(size_of::<T>()) {
            Ok((handle, place)) => {
                // SAFETY: a fresh block for a `T`; blocks are aligned to 16, a `T` to no more.
                unsafe { self.heap.memory.data(place).cast::<T>().write(value) };
                let (index, generation) = handle.parts();
                Ok(Handle::of_parts(index, generation))
            }
            Err(error) => Err((error, value)),
        }
    }

    /// Takes the value out; no handle names it any more. O(1).
    ///
    /// # Errors
    /// [`AccessError::Stale`], or [`AccessError::InUse`] if it is pinned.
    #[inline]
    pub fn remove(&self, handle: Handle<T>) -> Result<T, AccessError> {
        let found = self.heap.find_to_remove(handle.parts())?;
        // SAFETY: a live value, whole, which nobody has pinned; it is gone with the next line.
        let value = unsafe { self.heap.memory.data(found.place).cast::<T>().read() };
        self.heap.remove_found(found, size_of::<T>() as u32);
        Ok(value)
    }

    /// The value, which stays where it is while the guard lives.
    ///
    /// # Errors
    /// [`AccessError`]; [`AccessError::InUse`] if it is pinned for writing.
    #[inline]
    pub fn pin(&self, handle: Handle<T>) -> Result<PinnedValue<'_, T, B>, AccessError> {
        let (place, _) = self.heap.pin_raw(handle.parts())?;
        Ok(PinnedValue::new(self, place))
    }

    /// The value for one who writes.
    ///
    /// # Errors
    /// [`AccessError`]; [`AccessError::InUse`] if it is pinned.
    #[inline]
    pub fn pin_mut(&self, handle: Handle<T>) -> Result<PinnedValueMut<'_, T, B>, AccessError> {
        let (place, _) = self.heap.pin_mut_raw(handle.parts())?;
        Ok(PinnedValueMut::new(self, place))
    }

    /// Whether `handle` names a value.
    pub fn contains(&self, handle: Handle<T>) -> bool {
        let (index, generation) = handle.parts();
        self.heap.find(index, generation).is_some()
    }

    /// All values; see [`CompactingHeap::iter`].
    pub fn iter(&self) -> PoolValues<'_, T, B> {
        PoolValues::new(self)
    }

    /// Calls `visit` with all values; see [`CompactingHeap::for_each_mut`].
    pub fn for_each_mut(&mut self, mut visit: impl FnMut(Handle<T>, &mut T)) {
        self.heap.finish_move();
        let mut place = 0;
        while let Some((at, (index, generation), next)) = self.heap.next_live(place) {
            // SAFETY: a live value, borrowed exclusively as the pool is: no guard lives.
            let value = unsafe { self.heap.memory.data(at).cast::<T>().as_mut() };
            visit(Handle::of_parts(index, generation), value);
            place = next;
        }
    }

    /// See [`CompactingHeap::compact`].
    pub fn compact(&self) -> Compaction {
        self.heap.compact()
    }

    /// See [`CompactingHeap::compact_step`].
    pub fn compact_step(
        &self,
        work_bytes: usize,
        mut on_move: impl FnMut(&Moved<T>),
    ) -> Compaction {
        self.heap.compact_step(work_bytes, |moved| on_move(&of_value(moved)))
    }

    /// See [`CompactingHeap::compact_for`].
    #[cfg(feature = "os")]
    pub fn compact_for(
        &self,
        time: core::time::Duration,
        mut on_move: impl FnMut(&Moved<T>),
    ) -> Compaction {
        self.heap.compact_for(time, |moved| on_move(&of_value(moved)))
    }

    /// What the pool holds now; see [`CompactingHeap::statistics`].
    pub fn statistics(&self) -> RegionStatistics {
        self.heap.statistics()
    }
}

fn of_value<T>(moved: &Moved<[u8]>) -> Moved<T> {
    let (index, generation) = moved.handle.parts();
    let Moved { from, to, bytes, .. } = *moved;
    Moved { handle: Handle::of_parts(index, generation), from, to, bytes }
}

impl<T, B: Backing> Drop for CompactingPool<T, B> {
    /// Drops all values. If a destructor panics, the rest is leaked.
    fn drop(&mut self) {
        if core::mem::needs_drop::<T>() {
            self.heap.finish_move();
            let mut place = 0;
            while let Some((at, _, next)) = self.heap.next_live(place) {
                // SAFETY: a live value, which nobody can reach any more, dropped once.
                unsafe { self.heap.memory.data(at).cast::<T>().drop_in_place() };
                place = next;
            }
        }
    }
}

impl<T, B: Backing> fmt::Debug for CompactingPool<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.heap.fmt(f)
    }
}

//! Walks over all values, in the order of their addresses.

use core::fmt;
use core::marker::PhantomData;

use heapwright_core::backing::Backing;

use super::guard::PinnedValue;
use super::pool::CompactingPool;
use super::table::NONE;
use crate::compacting::access::AccessError;
use crate::pool::Handle;

impl<T, B: Backing> CompactingPool<T, B> {
    /// The next live value at or after `place`: its place and name.
    #[inline]
    pub(super) fn next_live(&self, place: u32) -> Option<(u32, (u32, u32))> {
        (place..self.end()).find_map(|place| {
            let index = self.owner(place);
            if index == NONE {
                return None;
            }
            let entry = self.entry_of(index);
            entry.is_live().then(|| (place, (index, entry.name())))
        })
    }

    /// All values with their handles, in the order of their addresses, each pinned while its guard
    /// lives; those made meanwhile may be among them. Nothing moves during a walk.
    ///
    /// [`AccessError::InUse`] for a value that is pinned for writing.
    pub fn iter(&self) -> PoolValues<'_, T, B> {
        self.walk_count.set(self.walk_count.get() + 1);
        PoolValues { pool: self, next: 0, value: PhantomData }
    }

    /// Calls `visit` with all values, in the order of their addresses: one pass over dense memory
    /// after a compaction.
    pub fn for_each_mut(&mut self, mut visit: impl FnMut(Handle<T>, &mut T)) {
        let mut next = 0;
        while let Some((place, (index, tag))) = self.next_live(next) {
            // SAFETY: a live value, borrowed exclusively as the pool is: no guard lives.
            let value = unsafe { self.slot(place).cast::<T>().as_mut() };
            visit(Handle::of_parts(index, tag), value);
            next = place + 1;
        }
    }
}

/// Of [`CompactingPool::iter`].
pub struct PoolValues<'a, T, B: Backing> {
    pool: &'a CompactingPool<T, B>,
    next: u32,
    value: PhantomData<&'a T>,
}

impl<'a, T, B: Backing> Iterator for PoolValues<'a, T, B> {
    type Item = (Handle<T>, Result<PinnedValue<'a, T, B>, AccessError>);

    fn next(&mut self) -> Option<Self::Item> {
        let (place, (index, tag)) = self.pool.next_live(self.next)?;
        self.next = place + 1;
        let handle = Handle::of_parts(index, tag);
        Some((handle, self.pool.pin(handle)))
    }
}

impl<T, B: Backing> Drop for PoolValues<'_, T, B> {
    fn drop(&mut self) {
        self.pool.walk_count.set(self.pool.walk_count.get() - 1);
    }
}

impl<T, B: Backing> fmt::Debug for PoolValues<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolValues").field("next", &self.next).finish_non_exhaustive()
    }
}

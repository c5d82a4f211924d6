//! Walks over all values, in the order of their indices, which is that of addresses until
//! compaction moves some.

use core::fmt;
use core::marker::PhantomData;

use heapwright_core::backing::Backing;

use super::guard::PinnedValue;
use super::pool::CompactingPool;
use super::spot::{DEAD, Spot, key_pins};
use super::table::PAGE_TAGS;
use crate::compacting::access::AccessError;
use crate::pool::Handle;

impl<T, B: Backing> CompactingPool<T, B> {
    /// The next live value at or after `index`: its index, name and place.
    pub(super) fn next_live(&self, index: u32) -> Option<(u32, u32, u32)> {
        self.next_live_below(index, self.tag_count.get())
    }

    /// The next live value at or after `index` and below `end`.
    pub(super) fn next_live_below(&self, index: u32, end: u32) -> Option<(u32, u32, u32)> {
        let mut index = index;
        while index < end {
            let page = index / PAGE_TAGS;
            let page_end = ((page + 1) * PAGE_TAGS).min(end);
            let Some(cell) = self.record(page).packed() else {
                if let Some(index) = (index..page_end).find(|index| self.is_live(*index)) {
                    let spot = Spot::Table(self.tag(index));
                    return Some((index, self.name_at(&spot), self.place_of(index, &spot)));
                }
                index = page_end;
                continue;
            };
            let count = usize::from(self.run(cell).count);
            let at = (self.position(cell, index % PAGE_TAGS)..count)
                .find(|at| key_pins(self.run_key(cell, *at).get()) != DEAD);
            match at.map(|at| (self.run_index(cell, at), at)) {
                Some((index, at)) if index < page_end => {
                    return Some((index, self.run_name(cell, at), self.run_place(cell, at)));
                }
                _ => index = page_end,
            }
        }
        None
    }

    /// All values with their handles, each pinned while its guard lives, in the order of their
    /// addresses but for those that compaction has moved; those made meanwhile may be among them.
    /// Nothing moves during a walk.
    ///
    /// [`AccessError::InUse`] for a value that is pinned for writing.
    pub fn iter(&self) -> PoolValues<'_, T, B> {
        self.walk_count.set(self.walk_count.get() + 1);
        PoolValues { pool: self, next: 0, value: PhantomData }
    }

    /// Calls `visit` with all values, in the order of [`Self::iter`].
    pub fn for_each_mut(&mut self, mut visit: impl FnMut(Handle<T>, &mut T)) {
        let mut next = 0;
        while let Some((index, name, place)) = self.next_live(next) {
            // SAFETY: a live value, borrowed exclusively as the pool is: no guard lives.
            let value = unsafe { self.slot(place).cast::<T>().as_mut() };
            visit(Handle::of_parts(index, name), value);
            next = index + 1;
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
        let (index, name, _) = self.pool.next_live(self.next)?;
        self.next = index + 1;
        let handle = Handle::of_parts(index, name);
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

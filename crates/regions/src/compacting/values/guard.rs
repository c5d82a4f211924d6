//! Pins of values, which end by themselves.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use heapwright_core::backing::Backing;

use super::pool::CompactingPool;

/// A value that stays where it is.
pub struct PinnedValue<'a, T, B: Backing> {
    pool: &'a CompactingPool<T, B>,
    name: (u32, u32),
    place: u32,
    value: PhantomData<&'a T>,
}

impl<'a, T, B: Backing> PinnedValue<'a, T, B> {
    /// For a pin that was just taken, of the value that `name` names.
    #[inline(always)]
    pub(super) fn new(pool: &'a CompactingPool<T, B>, name: (u32, u32), place: u32) -> Self {
        Self { pool, name, place, value: PhantomData }
    }
}

impl<T, B: Backing> Deref for PinnedValue<'_, T, B> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: a live value; while it is pinned for reading, it stays (V5) and nobody writes.
        unsafe { self.pool.slot(self.place).cast().as_ref() }
    }
}

impl<T, B: Backing> Drop for PinnedValue<'_, T, B> {
    #[inline(always)]
    fn drop(&mut self) {
        self.pool.unpin(self.name);
    }
}

impl<T: fmt::Debug, B: Backing> fmt::Debug for PinnedValue<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A value that stays where it is and nobody else has pinned.
pub struct PinnedValueMut<'a, T, B: Backing> {
    pool: &'a CompactingPool<T, B>,
    name: (u32, u32),
    place: u32,
    value: PhantomData<&'a mut T>,
}

impl<'a, T, B: Backing> PinnedValueMut<'a, T, B> {
    /// For a writer's pin that was just taken, of the value that `name` names.
    #[inline(always)]
    pub(super) fn new(pool: &'a CompactingPool<T, B>, name: (u32, u32), place: u32) -> Self {
        Self { pool, name, place, value: PhantomData }
    }
}

impl<T, B: Backing> Deref for PinnedValueMut<'_, T, B> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: as for a reader; only we have it pinned.
        unsafe { self.pool.slot(self.place).cast().as_ref() }
    }
}

impl<T, B: Backing> DerefMut for PinnedValueMut<'_, T, B> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for a reader; only we have it pinned, and we are borrowed exclusively.
        unsafe { self.pool.slot(self.place).cast().as_mut() }
    }
}

impl<T, B: Backing> Drop for PinnedValueMut<'_, T, B> {
    #[inline(always)]
    fn drop(&mut self) {
        self.pool.unpin(self.name);
    }
}

impl<T: fmt::Debug, B: Backing> fmt::Debug for PinnedValueMut<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

//! A quota on a backing.

use core::alloc::Layout;
use core::cell::Cell;
use core::ops::Range;

use heapwright_core::backing::{Backing, BackingError, Extent, NodePolicy, Prepare, Purge, Purged};

use super::pass_on::{Route, pass_on};

/// At most `limit_bytes` committed at a time; reserved addresses are free (design/backing.md#I6).
#[derive(Debug)]
pub struct Limited<B> {
    inner: B,
    limit_bytes: usize,
    committed_bytes: Cell<usize>,
}

impl<B> Limited<B> {
    /// A quota of `limit_bytes` on `inner`.
    pub const fn new(inner: B, limit_bytes: usize) -> Self {
        Self { inner, limit_bytes, committed_bytes: Cell::new(0) }
    }

    /// What counts against the quota now.
    pub fn committed_bytes(&self) -> usize {
        self.committed_bytes.get()
    }

    /// The quota.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Changes the quota; what is committed above it stays.
    pub fn set_limit_bytes(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    fn route(&self, extent: &Extent) -> Route<'_>
    where
        B: Backing,
    {
        Route::straight(&self.inner, extent)
    }

    fn afford(&self, bytes: usize) -> Result<usize, BackingError> {
        let committed = self.committed_bytes.get();
        match committed.checked_add(bytes) {
            Some(sum) if sum <= self.limit_bytes => Ok(sum),
            _ => Err(BackingError::OverLimit {
                requested_bytes: bytes,
                committed_bytes: committed,
                limit_bytes: self.limit_bytes,
            }),
        }
    }
}

// SAFETY: extents are those of the backing inside, unchanged. What a commit adds is counted in
// the extents' own bytes: the caller tells at the release how much was committed.
unsafe impl<B: Backing> Backing for Limited<B> {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let extent = self.inner.reserve(layout)?;
        match self.afford(extent.committed_bytes) {
            Ok(sum) => {
                self.committed_bytes.set(sum);
                Ok(extent)
            }
            Err(error) => {
                // SAFETY: just reserved, unused.
                unsafe { self.inner.release(extent) };
                Err(error)
            }
        }
    }

    unsafe fn release(&self, extent: Extent) {
        let left = self.committed_bytes.get().saturating_sub(extent.committed_bytes);
        self.committed_bytes.set(left);
        // SAFETY: the caller's promise, passed on.
        unsafe { self.inner.release(extent) }
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        self.inner.reserve_hint(bytes_min)
    }

    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        let sum = self.afford(range.len())?;
        // SAFETY: the caller's promise, passed on.
        unsafe { self.inner.commit(extent, range) }?;
        self.committed_bytes.set(sum);
        Ok(())
    }

    unsafe fn decommit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        let bytes = range.len();
        // SAFETY: the caller's promise, passed on.
        unsafe { self.inner.decommit(extent, range) }?;
        self.committed_bytes.set(self.committed_bytes.get().saturating_sub(bytes));
        Ok(())
    }

    pass_on!(purge, guard, alias, bind, prepare, resident_bytes);
}

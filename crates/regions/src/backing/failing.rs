//! A backing that fails when told to: every path of an allocator can be tested with it.

use core::alloc::Layout;
use core::cell::Cell;
use core::ops::Range;

use heapwright_core::backing::{Backing, BackingError, Extent, NodePolicy, Prepare, Purge, Purged};

use super::pass_on::{Route, pass_on};

/// Fails its `n`-th reserve or commit, and if wanted all after it.
#[derive(Debug)]
pub struct Failing<B> {
    inner: B,
    calls_left: Cell<u64>,
    for_ever: bool,
}

impl<B> Failing<B> {
    /// Fails the call after `calls` good ones, once.
    pub const fn once_after(inner: B, calls: u64) -> Self {
        Self { inner, calls_left: Cell::new(calls), for_ever: false }
    }

    /// Fails every call after `calls` good ones.
    pub const fn for_ever_after(inner: B, calls: u64) -> Self {
        Self { inner, calls_left: Cell::new(calls), for_ever: true }
    }

    /// Whether a call has failed.
    pub fn has_failed(&self) -> bool {
        self.calls_left.get() == u64::MAX || (self.for_ever && self.calls_left.get() == 0)
    }

    fn route(&self, extent: &Extent) -> Route<'_>
    where
        B: Backing,
    {
        Route::straight(&self.inner, extent)
    }

    fn step(&self, bytes: usize) -> Result<(), BackingError> {
        let left = self.calls_left.get();
        match left {
            u64::MAX => Ok(()),
            0 => {
                if !self.for_ever {
                    self.calls_left.set(u64::MAX);
                }
                Err(BackingError::Exhausted { requested_bytes: bytes, available_bytes: 0 })
            }
            _ => {
                self.calls_left.set(left - 1);
                Ok(())
            }
        }
    }
}

// SAFETY: what succeeds is done by the backing inside; what fails has done nothing.
unsafe impl<B: Backing> Backing for Failing<B> {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        self.step(layout.size())?;
        self.inner.reserve(layout)
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        self.inner.reserve_hint(bytes_min)
    }

    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        self.step(range.len())?;
        // SAFETY: the caller's promise, passed on.
        unsafe { self.inner.commit(extent, range) }
    }

    pass_on!(release, decommit, purge, guard, alias, bind, prepare, resident_bytes);
}

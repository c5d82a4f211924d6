//! Pages only as they are touched.

use core::alloc::Layout;
use core::ops::Range;

use heapwright_core::backing::{Backing, BackingError, Extent, NodePolicy, Purge, Purged};

use super::pass_on::{Route, pass_on};

/// Memory of `inner` that allocators do not make ready ahead of its use: each page comes in at its
/// first touch, and none is huge unless `inner` says so.
///
/// Allocators bring in what comes next while they grow, up to a quarter of what they have, and all
/// but arenas ask for huge pages from 4 MiB on: less time, up to 2 MiB more resident. This is for many allocators
/// of which each wants as little as it can, and for a program that counts its pages.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, Lazy, Linear};
///
/// let arena: Linear<_> = Linear::new_in(Lazy::new(AnonymousPages));
/// assert_eq!(*arena.alloc(7), 7);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Lazy<B> {
    inner: B,
}

impl<B> Lazy<B> {
    /// `inner`, without anything done ahead.
    pub const fn new(inner: B) -> Self {
        Self { inner }
    }
}

impl<B: Backing> Lazy<B> {
    fn route(&self, extent: &Extent) -> Route<'_> {
        Route::straight(&self.inner, extent)
    }
}

// SAFETY: extents are those of the backing inside, unchanged; `prepare` is refused and changes
// nothing.
unsafe impl<B: Backing> Backing for Lazy<B> {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        self.inner.reserve(layout)
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        self.inner.reserve_hint(bytes_min)
    }

    pass_on!(release, commit, decommit, purge, guard, alias, bind, resident_bytes);
}

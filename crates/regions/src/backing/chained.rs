//! A second backing for when the first one is used up.

use core::alloc::Layout;
use core::ops::Range;

use heapwright_core::backing::{Backing, BackingError, Extent, NodePolicy, Prepare, Purge, Purged};

use super::pass_on::{Route, pass_on};

/// Extents of `first` while it has any, then of `second`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chained<A, B> {
    first: A,
    second: B,
}

impl<A, B> Chained<A, B> {
    /// `first`, then `second`.
    pub const fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

impl<A: Backing, B: Backing> Chained<A, B> {
    fn route(&self, extent: &Extent) -> Route<'_> {
        let backing: &dyn Backing =
            if extent.tag & 1 == SECOND { &self.second } else { &self.first };
        let extent = Extent { tag: extent.tag >> 1, ..*extent };
        Route { backing, extent, shift_bytes: 0 }
    }
}

/// The lowest bit of a tag of ours tells whose the extent is, the others are the tag of its
/// backing.
const FIRST: usize = 0;
const SECOND: usize = 1;

fn tagged(extent: Extent, whose: usize) -> Extent {
    debug_assert!(extent.tag <= usize::MAX / 2, "tags have a bit to spare");
    Extent { tag: extent.tag << 1 | whose, ..extent }
}

// SAFETY: each extent is one of either backing, and all calls about it go to that one with the
// tag it gave.
unsafe impl<A: Backing, B: Backing> Backing for Chained<A, B> {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        match self.first.reserve(layout) {
            Ok(extent) => Ok(tagged(extent, FIRST)),
            Err(_) => self.second.reserve(layout).map(|extent| tagged(extent, SECOND)),
        }
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        self.first.reserve_hint(bytes_min)
    }

    pass_on!(release, commit, decommit, purge, guard, alias, bind, prepare, resident_bytes);
}

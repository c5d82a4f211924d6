//! A second backing for when the first one is used up.

use core::alloc::Layout;
use core::ops::Range;

use heapwright_core::backing::{Backing, BackingError, Extent, NodePolicy, Purge, Purged};

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

/// The lowest bit of a tag of ours tells whose the extent is, the others are the tag of its
/// backing.
fn tagged(extent: Extent, second: usize) -> Extent {
    debug_assert!(extent.tag <= usize::MAX / 2, "tags have a bit to spare");
    Extent { tag: extent.tag << 1 | second, ..extent }
}

fn untagged(extent: &Extent) -> Extent {
    Extent { tag: extent.tag >> 1, ..*extent }
}

fn is_second(extent: &Extent) -> bool {
    extent.tag & 1 == 1
}

// SAFETY: each extent is one of either backing, and all calls about it go to that one with the
// tag it gave.
unsafe impl<A: Backing, B: Backing> Backing for Chained<A, B> {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        match self.first.reserve(layout) {
            Ok(extent) => Ok(tagged(extent, 0)),
            Err(_) => self.second.reserve(layout).map(|extent| tagged(extent, 1)),
        }
    }

    unsafe fn release(&self, extent: Extent) {
        let inside = untagged(&extent);
        if is_second(&extent) {
            // SAFETY: the caller's promise; the tag tells that the second one gave it.
            unsafe { self.second.release(inside) }
        } else {
            // SAFETY: the caller's promise; the tag tells that the first one gave it.
            unsafe { self.first.release(inside) }
        }
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        self.first.reserve_hint(bytes_min)
    }

    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        let inside = untagged(extent);
        if is_second(extent) {
            // SAFETY: the caller's promise; the tag tells that the second one gave it.
            unsafe { self.second.commit(&inside, range) }
        } else {
            // SAFETY: the caller's promise; the tag tells that the first one gave it.
            unsafe { self.first.commit(&inside, range) }
        }
    }

    unsafe fn decommit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        let inside = untagged(extent);
        if is_second(extent) {
            // SAFETY: the caller's promise; the tag tells that the second one gave it.
            unsafe { self.second.decommit(&inside, range) }
        } else {
            // SAFETY: the caller's promise; the tag tells that the first one gave it.
            unsafe { self.first.decommit(&inside, range) }
        }
    }

    unsafe fn purge(
        &self,
        extent: &Extent,
        range: Range<usize>,
        when: Purge,
    ) -> Result<Purged, BackingError> {
        let inside = untagged(extent);
        if is_second(extent) {
            // SAFETY: the caller's promise; the tag tells that the second one gave it.
            unsafe { self.second.purge(&inside, range, when) }
        } else {
            // SAFETY: the caller's promise; the tag tells that the first one gave it.
            unsafe { self.first.purge(&inside, range, when) }
        }
    }

    unsafe fn guard(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        let inside = untagged(extent);
        if is_second(extent) {
            // SAFETY: the caller's promise; the tag tells that the second one gave it.
            unsafe { self.second.guard(&inside, range) }
        } else {
            // SAFETY: the caller's promise; the tag tells that the first one gave it.
            unsafe { self.first.guard(&inside, range) }
        }
    }

    unsafe fn alias(
        &self,
        extent: &Extent,
        from: Range<usize>,
        to: usize,
    ) -> Result<(), BackingError> {
        let inside = untagged(extent);
        if is_second(extent) {
            // SAFETY: the caller's promise; the tag tells that the second one gave it.
            unsafe { self.second.alias(&inside, from, to) }
        } else {
            // SAFETY: the caller's promise; the tag tells that the first one gave it.
            unsafe { self.first.alias(&inside, from, to) }
        }
    }

    unsafe fn bind(
        &self,
        extent: &Extent,
        range: Range<usize>,
        policy: NodePolicy,
    ) -> Result<(), BackingError> {
        let inside = untagged(extent);
        if is_second(extent) {
            // SAFETY: the caller's promise; the tag tells that the second one gave it.
            unsafe { self.second.bind(&inside, range, policy) }
        } else {
            // SAFETY: the caller's promise; the tag tells that the first one gave it.
            unsafe { self.first.bind(&inside, range, policy) }
        }
    }

    unsafe fn resident_bytes(&self, extent: &Extent, range: Range<usize>) -> Option<usize> {
        let inside = untagged(extent);
        if is_second(extent) {
            // SAFETY: the caller's promise; the tag tells that the second one gave it.
            unsafe { self.second.resident_bytes(&inside, range) }
        } else {
            // SAFETY: the caller's promise; the tag tells that the first one gave it.
            unsafe { self.first.resident_bytes(&inside, range) }
        }
    }
}

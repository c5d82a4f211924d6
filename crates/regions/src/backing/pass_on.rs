//! What backings around other backings share: calls about an extent go to whoever gave it.

use core::ops::Range;

use heapwright_core::backing::{Backing, Extent};

/// Where a call about an extent goes.
pub(super) struct Route<'a> {
    /// The backing inside that gave the extent.
    pub(super) backing: &'a dyn Backing,
    /// The extent as that backing gave it.
    pub(super) extent: Extent,
    /// How much further into the extent inside every offset lies.
    pub(super) shift_bytes: usize,
}

impl<'a> Route<'a> {
    /// To `backing`, whose extents are handed on as they are.
    pub(super) fn straight(backing: &'a dyn Backing, extent: &Extent) -> Self {
        Self { backing, extent: *extent, shift_bytes: 0 }
    }

    /// `range` in the extent inside.
    pub(super) fn range(&self, range: Range<usize>) -> Range<usize> {
        range.start + self.shift_bytes..range.end + self.shift_bytes
    }
}

/// Methods of [`Backing`] for a type with `fn route(&self, &Extent) -> Route`: those that are
/// named go to the backing inside. None is on a hot path, so a call by pointer does no harm.
macro_rules! pass_on {
    ($($method:ident),+ $(,)?) => { $(pass_on!(@ $method);)+ };
    (@ release) => {
        unsafe fn release(&self, extent: Extent) {
            let route = self.route(&extent);
            // SAFETY: the caller's promise; the route leads to who gave the extent, as it was.
            unsafe { route.backing.release(route.extent) }
        }
    };
    (@ commit) => {
        unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
            let route = self.route(extent);
            // SAFETY: as for `release`; the range inside is the same memory.
            unsafe { route.backing.commit(&route.extent, route.range(range)) }
        }
    };
    (@ decommit) => {
        unsafe fn decommit(
            &self,
            extent: &Extent,
            range: Range<usize>,
        ) -> Result<(), BackingError> {
            let route = self.route(extent);
            // SAFETY: as for `commit`.
            unsafe { route.backing.decommit(&route.extent, route.range(range)) }
        }
    };
    (@ purge) => {
        unsafe fn purge(
            &self,
            extent: &Extent,
            range: Range<usize>,
            when: Purge,
        ) -> Result<Purged, BackingError> {
            let route = self.route(extent);
            // SAFETY: as for `commit`.
            unsafe { route.backing.purge(&route.extent, route.range(range), when) }
        }
    };
    (@ guard) => {
        unsafe fn guard(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
            let route = self.route(extent);
            // SAFETY: as for `commit`.
            unsafe { route.backing.guard(&route.extent, route.range(range)) }
        }
    };
    (@ alias) => {
        unsafe fn alias(
            &self,
            extent: &Extent,
            from: Range<usize>,
            to: usize,
        ) -> Result<(), BackingError> {
            let route = self.route(extent);
            let to = to + route.shift_bytes;
            // SAFETY: as for `commit`, of both ranges.
            unsafe { route.backing.alias(&route.extent, route.range(from), to) }
        }
    };
    (@ bind) => {
        unsafe fn bind(
            &self,
            extent: &Extent,
            range: Range<usize>,
            policy: NodePolicy,
        ) -> Result<(), BackingError> {
            let route = self.route(extent);
            // SAFETY: as for `commit`.
            unsafe { route.backing.bind(&route.extent, route.range(range), policy) }
        }
    };
    (@ prepare) => {
        unsafe fn prepare(
            &self,
            extent: &Extent,
            range: Range<usize>,
            how: Prepare,
        ) -> Result<(), BackingError> {
            let route = self.route(extent);
            // SAFETY: as for `commit`.
            unsafe { route.backing.prepare(&route.extent, route.range(range), how) }
        }
    };
    (@ resident_bytes) => {
        unsafe fn resident_bytes(&self, extent: &Extent, range: Range<usize>) -> Option<usize> {
            let route = self.route(extent);
            // SAFETY: as for `commit`.
            unsafe { route.backing.resident_bytes(&route.extent, route.range(range)) }
        }
    };
}

pub(super) use pass_on;

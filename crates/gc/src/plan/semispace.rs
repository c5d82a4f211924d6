//! Semispace: copies what is reachable into the other half, which then is the heap.
//!
//! Source: Cheney, "A nonrecursive list compacting algorithm", CACM 1970; with an explicit stack of
//! grey objects in place of the scan pointer, so that copies need not be parsed.

use core::ptr::NonNull;

use crate::model::Model;
use crate::plan::{Common, Extent, Grant, Plan};
use crate::relocate::Copier;
use crate::root::Roots;
use crate::space::{AddressRange, BumpSpace, Hole};

pub(crate) struct Semispace<M: Model> {
    current: BumpSpace,
    other: BumpSpace,
    copier: Copier<M>,
}

impl<M: Model> Semispace<M> {
    /// Two halves of `bytes` each.
    pub(crate) fn new(first: NonNull<u8>, second: NonNull<u8>, bytes: usize, guards: bool) -> Self {
        let mut current = BumpSpace::new(first, bytes);
        let mut other = BumpSpace::new(second, bytes);
        if guards {
            current.guard();
            other.guard();
        }
        Self { current, other, copier: Copier::new(None) }
    }
}

impl<M: Model> Plan<M> for Semispace<M> {
    fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Grant> {
        self.current.grant(cursor, bytes).map(Grant::Bump)
    }

    fn occupied_bytes(&self) -> usize {
        self.current.occupied_bytes()
    }

    fn reserve_bytes(&self) -> usize {
        self.current.occupied_bytes()
    }

    fn marks_all(&self) -> bool {
        // Only large objects; the others are copied.
        false
    }

    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>, _extent: Extent) {
        let copier = &mut self.copier;
        copier.mark = common.flip_mark();
        copier.from = self.current.range();
        copier.large = common.large.range();
        copier.to = Hole { start: self.other.start(), bytes: self.current.occupied_bytes() };
        self.other.open(copier.to.bytes);
        copier.copied_bytes = 0;
        common.trace_roots(roots, copier);
        copier.drain();
        common.settle(roots, true, copier);
        common.large.sweep(common.mark);
        let live = copier.copied_bytes;
        common.end_full(live);
        // The survivors count twice towards the limit.
        common.near_limit_bytes = common.config.near_limit_after(2 * live);
        self.other.reset(live, live + common.keep_bytes());
        // The next collection copies about as much as this one into the old half.
        self.current.reset(0, live);
        core::mem::swap(&mut self.current, &mut self.other);
    }

    fn used(&self) -> [AddressRange; 2] {
        [self.current.used(), AddressRange::EMPTY]
    }
}

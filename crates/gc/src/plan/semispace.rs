//! Semispace: copies what is reachable into the other half, which then is the heap.
//!
//! Source: Cheney, "A nonrecursive list compacting algorithm", CACM 1970; with an explicit stack of
//! grey objects in place of the scan pointer, so that copies need not be parsed.

use core::ptr::NonNull;

use crate::copying::{self, Places, Room, spare_bytes};
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
        let used = self.current.occupied_bytes();
        let mut threads = match common.mark_threads(used) {
            1 => 1,
            _ => common.copy_threads(used, used, used + common.other_bytes()),
        };
        let mut bytes = used;
        if threads > 1 {
            bytes += spare_bytes(used, threads);
            if bytes > self.other.range().bytes {
                (bytes, threads) = (used, 1);
            }
        }
        copier.to = Hole { start: self.other.start(), bytes };
        self.other.open(bytes);
        copier.copied_bytes = 0;
        common.trace_roots(roots, copier);
        if threads > 1 {
            copier.flush();
            let room = Room::Half(core::mem::replace(&mut copier.to, Hole::EMPTY));
            let places = Places { fields: &[], entries: &[] };
            if let Room::Half(rest) = copying::copy(copier, room, places, threads) {
                copier.to = rest;
            }
        }
        copier.drain();
        common.settle(roots, true, copier);
        common.large.sweep(common.mark);
        // Several threads leave some of it unused.
        let live = copier.to.start.addr().get() - self.other.start().addr().get();
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

//! Null: allocates and never collects.

use core::ptr::NonNull;

use crate::model::Model;
use crate::plan::{Common, Extent, Grant, Plan};
use crate::root::Roots;
use crate::space::{AddressRange, BumpSpace};

pub(crate) struct Null {
    space: BumpSpace,
}

impl Null {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Self {
        Self { space: BumpSpace::new(start, bytes) }
    }
}

impl<M: Model> Plan<M> for Null {
    fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Grant> {
        self.space.grant(cursor, bytes).map(Grant::Bump)
    }

    fn occupied_bytes(&self) -> usize {
        self.space.occupied_bytes()
    }

    fn is_due(&self, _common: &Common<M>) -> bool {
        false
    }

    fn collect<R: Roots>(&mut self, _roots: &mut R, common: &mut Common<M>, _extent: Extent) {
        common.is_urgent = false;
    }

    fn used(&self) -> [AddressRange; 2] {
        [self.space.used(), AddressRange::EMPTY]
    }
}

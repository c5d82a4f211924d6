//! An allocator that C holds by pointer, and the backing that it took over from C.

use crate::backing::{HwBacking, Inner, Owned};
use crate::error::Error;
use crate::object;

/// What stands behind `hw_slab`, `hw_pool` and the others.
#[derive(Debug)]
pub struct Over<A> {
    /// Above its backing, so that it goes first.
    pub(crate) allocator: A,
    backing: Owned,
}

impl<A> Over<A> {
    /// Makes an allocator over `backing` with `make`. After an error the backing is C's again.
    ///
    /// # Safety
    /// - `backing` is null or of ours, not taken over before, and the caller gives it up.
    pub(crate) unsafe fn make<E: Into<Error>>(
        backing: *mut HwBacking,
        make: impl FnOnce(Inner) -> Result<A, E>,
    ) -> Result<*mut Self, Error> {
        // SAFETY: the caller gives the backing up.
        let own = unsafe { Owned::take(backing) }?;
        // SAFETY: kept in the field below the allocator.
        let inner = unsafe { own.backing() };
        match make(inner) {
            Ok(allocator) => {
                object::make(Self { allocator, backing: own }).map_err(|(error, object)| {
                    drop(object.allocator);
                    object.backing.give_back(backing);
                    error
                })
            }
            Err(error) => {
                own.give_back(backing);
                Err(error.into())
            }
        }
    }
}

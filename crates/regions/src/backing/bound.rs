//! Memory of chosen NUMA nodes.

use core::alloc::Layout;
use core::ops::Range;

use heapwright_core::backing::{Backing, BackingError, Extent, NodePolicy, Prepare, Purge, Purged};

use super::pass_on::{Route, pass_on};

/// Extents of `inner` whose pages come from where `policy` says.
///
/// One system call an extent, at its reservation; none later. With [`NodePolicy::Bind`] a page
/// that its nodes cannot give is a fault that the kernel answers by ending the process: bind what
/// fits, prefer where it may not.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, Bound, Linear, NodePolicy};
///
/// let node_0 = Bound::new(AnonymousPages, NodePolicy::Prefer(0));
/// let arena: Linear<_> = Linear::new_in(node_0);
/// // A kernel or sandbox without NUMA refuses.
/// if let Ok(number) = arena.try_alloc(7) {
///     assert_eq!(*number, 7);
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bound<B> {
    inner: B,
    policy: NodePolicy,
}

impl<B> Bound<B> {
    /// `inner` under `policy`.
    pub const fn new(inner: B, policy: NodePolicy) -> Self {
        Self { inner, policy }
    }

    /// Where pages come from.
    pub const fn policy(&self) -> NodePolicy {
        self.policy
    }
}

impl<B: Backing> Bound<B> {
    fn route(&self, extent: &Extent) -> Route<'_> {
        Route::straight(&self.inner, extent)
    }
}

// SAFETY: extents are those of the backing inside, unchanged; a policy changes no contents.
unsafe impl<B: Backing> Backing for Bound<B> {
    /// As the backing inside, and bound.
    ///
    /// # Errors
    /// As there; as its `bind`: nothing is reserved then.
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let extent = self.inner.reserve(layout)?;
        let whole = extent.reserved_bytes & !(extent.step_bytes - 1);
        // SAFETY: a live extent of the backing inside, and all steps of it.
        match unsafe { self.inner.bind(&extent, 0..whole, self.policy) } {
            Ok(()) => Ok(extent),
            Err(error) => {
                // SAFETY: just reserved, unused.
                unsafe { self.inner.release(extent) };
                Err(error)
            }
        }
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        self.inner.reserve_hint(bytes_min)
    }

    pass_on!(release, commit, decommit, purge, guard, alias, bind, prepare, resident_bytes);
}

#[cfg(test)]
mod tests {
    use super::Bound;
    use crate::{Buffer, Linear};
    use core::mem::MaybeUninit;
    use heapwright_core::backing::{Backing, BackingError, NodePolicy, Operation};

    #[test]
    fn memory_without_nodes_is_given_back_and_refused() {
        let mut memory = [MaybeUninit::uninit(); 64];
        let buffer = Buffer::new(&mut memory);
        let bound = Bound::new(&buffer, NodePolicy::Local);
        let refused = bound.reserve(core::alloc::Layout::new::<u64>());
        assert_eq!(refused, Err(BackingError::Unsupported(Operation::Bind)));
        assert_eq!(buffer.free_bytes(), 64, "nothing was kept");
        let arena: Linear<_> = Linear::new_in(bound);
        assert!(arena.try_alloc(1).is_err());
    }
}

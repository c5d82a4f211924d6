//! Memory between guards: running off either end is a fault.

use core::alloc::Layout;
use core::ops::Range;

use heapwright_core::backing::{Backing, BackingError, Extent, NodePolicy, Prepare, Purge, Purged};

use super::pass_on::{Route, pass_on};

/// Extents of `inner` with `guard_bytes` that nobody can touch before and behind them.
///
/// ```text
/// inside  ├── guard ──┼────── extent ──────┼── guard ──┤
/// ```
/// What runs off an extent's end by less than `guard_bytes` faults at once, instead of reaching
/// what lies beside. Two guards an extent: free of mappings from Linux 6.13 on, two each before.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, Guarded, Linear};
///
/// let arena: Linear<_> = Linear::new_in(Guarded::new(AnonymousPages, 4096));
/// assert_eq!(*arena.alloc(7), 7);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Guarded<B> {
    inner: B,
    guard_bytes: usize,
}

/// `EINVAL`: what the kernel says of a range that is not whole pages.
const NOT_WHOLE_STEPS: i32 = 22;

impl<B> Guarded<B> {
    /// `inner` with guards of `guard_bytes`, a power of two and at least a step (an OS page or a
    /// huge page) of what `inner` gives: checked at each reservation.
    pub const fn new(inner: B, guard_bytes: usize) -> Self {
        Self { inner, guard_bytes }
    }

    /// The length of a guard.
    pub const fn guard_bytes(&self) -> usize {
        self.guard_bytes
    }
}

/// What is in front of an extent is a multiple of its alignment, too, and the tag of ours says
/// how much: the exponent in the lowest bits, the tag of the backing inside above.
const TAG_BITS: u32 = 6;

impl<B: Backing> Guarded<B> {
    fn route(&self, extent: &Extent) -> Route<'_> {
        let lead_bytes = 1 << (extent.tag & ((1 << TAG_BITS) - 1));
        // SAFETY: `reserve` moved the start up by that much.
        let start = unsafe { extent.start.sub(lead_bytes) };
        let extent = Extent {
            start,
            reserved_bytes: extent.reserved_bytes + lead_bytes + self.guard_bytes,
            tag: extent.tag >> TAG_BITS,
            ..*extent
        };
        Route { backing: &self.inner, extent, shift_bytes: lead_bytes }
    }
}

// SAFETY: an extent is the middle of one of the backing inside (I1), committed where that is (I2);
// what fails gives the whole of it back (I3). The guards are never handed out. Calls about it go
// to the backing inside with its own start, length and tag (I5).
unsafe impl<B: Backing> Backing for Guarded<B> {
    /// As the backing inside, between guards.
    ///
    /// # Errors
    /// As there; as its `guard`; error 22 if a guard is not whole steps.
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let bytes = layout.size().max(1);
        let exhausted = BackingError::Exhausted { requested_bytes: bytes, available_bytes: 0 };
        let misfit = BackingError::Kernel { errno: NOT_WHOLE_STEPS, bytes: self.guard_bytes };
        if !self.guard_bytes.is_power_of_two() {
            return Err(misfit);
        }
        let lead_bytes = self.guard_bytes.max(layout.align());
        let all = bytes
            .checked_next_multiple_of(self.guard_bytes)
            .and_then(|bytes| bytes.checked_add(lead_bytes)?.checked_add(self.guard_bytes));
        let align = layout.align().max(self.guard_bytes);
        let around = Layout::from_size_align(all.ok_or(exhausted)?, align);
        let inside = self.inner.reserve(around.map_err(|_| exhausted)?)?;
        debug_assert!(inside.tag >> (usize::BITS - TAG_BITS) == 0, "tags have bits to spare");
        let step = inside.step_bytes;
        // The guard behind is the last whole one, so an extent that came longer stays longer.
        let end = (inside.reserved_bytes & !(step - 1)) - self.guard_bytes;
        let guarded = if !self.guard_bytes.is_multiple_of(step) {
            Err(misfit)
        } else {
            // SAFETY: a live extent, just reserved; nobody uses it; the ranges are inside.
            let front =
                unsafe { self.inner.guard(&inside, lead_bytes - self.guard_bytes..lead_bytes) };
            // SAFETY: as above.
            front.and_then(|()| unsafe { self.inner.guard(&inside, end..end + self.guard_bytes) })
        };
        if let Err(error) = guarded {
            // SAFETY: just reserved, unused.
            unsafe { self.inner.release(inside) };
            return Err(error);
        }
        // SAFETY: `lead_bytes` into an extent that is longer.
        let start = unsafe { inside.start.add(lead_bytes) };
        let reserved_bytes = end - lead_bytes;
        Ok(Extent {
            start,
            reserved_bytes,
            committed_bytes: inside.committed_bytes.saturating_sub(lead_bytes).min(reserved_bytes),
            tag: inside.tag << TAG_BITS | lead_bytes.trailing_zeros() as usize,
            ..inside
        })
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        self.inner.reserve_hint(bytes_min)
    }

    pass_on!(release, commit, decommit, purge, guard, alias, bind, prepare, resident_bytes);
}

#[cfg(all(test, feature = "os"))]
mod tests {
    use super::Guarded;
    use crate::{AnonymousPages, Chained, Limited, Pool, Upstream};
    use core::alloc::Layout;
    use heapwright_core::backing::{Backing, BackingError, Operation};
    use heapwright_os::{is_readable, page_bytes};

    #[test]
    fn both_ends_are_guarded_and_the_middle_is_ours() {
        let page = page_bytes();
        let backing = Guarded::new(AnonymousPages, page);
        for align in [1, page, 16 * page] {
            let layout = Layout::from_size_align(3 * page, align).expect("a layout");
            let extent = backing.reserve(layout).expect("addresses");
            let first = extent.start.as_ptr().addr();
            assert!(first.is_multiple_of(align) && extent.reserved_bytes >= 3 * page);
            let bytes = extent.reserved_bytes;
            // SAFETY: inside the extent.
            unsafe { backing.commit(&extent, 0..bytes) }.expect("commit");
            // SAFETY: committed above.
            unsafe { extent.start.write_bytes(1, bytes) };
            assert!(is_readable(first) && is_readable(first + bytes - 8));
            assert!(!is_readable(first - 8), "in front, align {align}");
            assert!(!is_readable(first + bytes), "behind, align {align}");
            // SAFETY: inside the extent.
            let resident = unsafe { backing.resident_bytes(&extent, 0..bytes) };
            assert_eq!(resident, Some(bytes));
            // SAFETY: given back once, unused.
            unsafe { backing.release(extent) };
        }
    }

    #[test]
    fn a_guard_that_is_not_whole_steps_or_not_possible_is_refused() {
        let layout = Layout::new::<u64>();
        for guard_bytes in [0, 3, 64] {
            let refused = Guarded::new(AnonymousPages, guard_bytes).reserve(layout);
            assert_eq!(refused, Err(BackingError::Kernel { errno: 22, bytes: guard_bytes }));
        }
        let refused = Guarded::new(Upstream(std::alloc::System), 64).reserve(layout);
        assert_eq!(refused, Err(BackingError::Unsupported(Operation::Guard)));
    }

    #[test]
    fn wrappers_go_around_each_other_in_any_order() {
        let page = page_bytes();
        let layout = Layout::new::<[u8; 100]>();
        let guarded = Guarded::new(AnonymousPages, page);
        let inside_out = Limited::new(Chained::new(guarded, AnonymousPages), 1 << 20);
        let outside_in =
            Guarded::new(Chained::new(Limited::new(AnonymousPages, 1 << 20), guarded), page);
        let (first, second) =
            (Pool::<_>::new_in(inside_out, layout), Pool::<_>::new_in(outside_in, layout));
        for _ in 0..1000 {
            let (one, other) = (first.alloc().expect("memory"), second.alloc().expect("memory"));
            // SAFETY: a block of 100 bytes.
            unsafe { one.write_bytes(1, 100) };
            // SAFETY: as above.
            unsafe { other.write_bytes(1, 100) };
        }
        assert!(first.backing().committed_bytes() >= 100_000);
    }
}

//! Anonymous private pages as a [`Backing`].

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;

use heapwright_core::backing::{
    Backing, BackingError, Extent, NodePolicy, Operation, Prepare, Purge, Purged,
};

use crate::guard::{clear_installed, guard};
use crate::huge::{advise_huge, collapse, offers_huge_pages};
use crate::memory::{Advice, Protection, advise, commit, mincore, protect, release, reserve};
use crate::placement::bind;
use crate::{Errno, page_bytes};

/// How much an allocator reserves that wants one range: address space costs nothing until it is
/// committed, and a gigabyte leaves room for many thousands of them.
const RESERVE_HINT_BYTES: usize = 1 << 30;
/// Pages that one `mincore` call looks at.
const LOOK_PAGES: usize = 256;
/// Memory of the kernel: addresses first, pages when they are committed and touched.
///
/// An extent costs up to two mappings of the budget of `vm.max_map_count`, three with huge pages.
/// Decommitted pages read as zero when they are committed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnonymousPages;

pub(crate) fn refused(errno: Errno, bytes: usize) -> BackingError {
    if errno == Errno::ENOMEM {
        BackingError::Exhausted { requested_bytes: bytes, available_bytes: 0 }
    } else {
        BackingError::Kernel { errno: errno.0, bytes }
    }
}

impl AnonymousPages {
    /// The address of `range` in `extent`.
    ///
    /// # Safety
    /// - `range` is inside the live extent `extent`.
    unsafe fn at(extent: &Extent, range: &Range<usize>) -> NonNull<u8> {
        debug_assert!(range.start < range.end && range.end <= extent.reserved_bytes);
        debug_assert!(range.start.is_multiple_of(extent.step_bytes));
        debug_assert!(range.end.is_multiple_of(extent.step_bytes));
        // SAFETY: inside the extent, as the caller promises.
        unsafe { extent.start.add(range.start) }
    }
}

// SAFETY: extents are mappings of their own (I1), made accessible by `commit` only (I2), fresh
// anonymous pages read as zero (I4), and the failing calls of the kernel change nothing, save a
// partly purged range, whose contents nobody needs (I3). The tag holds the bytes skipped for the
// alignment, so that `release` unmaps the whole mapping (I5).
unsafe impl Backing for AnonymousPages {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let page = page_bytes();
        let exhausted =
            BackingError::Exhausted { requested_bytes: layout.size(), available_bytes: 0 };
        let bytes = layout.size().max(1).checked_next_multiple_of(page).ok_or(exhausted)?;
        let spare = if layout.align() > page { layout.align() - page } else { 0 };
        let mapped_bytes = bytes.checked_add(spare).ok_or(exhausted)?;
        let mapped =
            reserve(mapped_bytes, Protection::None).map_err(|errno| refused(errno, bytes))?;
        let lead = mapped.as_ptr().addr().wrapping_neg() & (layout.align() - 1);
        debug_assert!(lead <= spare, "a page boundary is {lead} bytes before an aligned one");
        // SAFETY: at most `spare` bytes into a mapping that is longer.
        let start = unsafe { mapped.add(lead) };
        Ok(Extent {
            start,
            reserved_bytes: mapped_bytes - lead,
            committed_bytes: 0,
            step_bytes: page,
            zeroed: true,
            tag: lead,
        })
    }

    unsafe fn release(&self, extent: Extent) {
        // SAFETY: `reserve` skipped that many bytes of the same mapping.
        let mapped = unsafe { extent.start.sub(extent.tag) };
        // SAFETY: the whole mapping, which the caller gives up. The kernel can only refuse when
        // the mappings are used up; the addresses are then lost, nothing else.
        let _ = unsafe { release(mapped, extent.reserved_bytes + extent.tag) };
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        bytes_min.max(RESERVE_HINT_BYTES)
    }

    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        let bytes = range.len();
        // SAFETY: whole pages of a mapping of ours.
        unsafe { commit(start, bytes) }.map_err(|errno| refused(errno, bytes))?;
        // SAFETY: likewise; takes away what `guard` put there, if anything.
        unsafe { clear_installed(start, bytes) }.map_err(|errno| refused(errno, bytes))
    }

    unsafe fn decommit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        let bytes = range.len();
        // SAFETY: whole pages of ours whose contents nobody needs.
        unsafe { advise(start, bytes, Advice::DontNeed) }.map_err(|errno| refused(errno, bytes))?;
        // SAFETY: nobody uses the range.
        unsafe { protect(start, bytes, Protection::None) }.map_err(|errno| refused(errno, bytes))
    }

    unsafe fn purge(
        &self,
        extent: &Extent,
        range: Range<usize>,
        when: Purge,
    ) -> Result<Purged, BackingError> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        let (advice, purged) = match when {
            Purge::Lazy => (Advice::Free, Purged::Undefined),
            Purge::Now => (Advice::DontNeed, Purged::Zeroed),
        };
        // SAFETY: whole pages of ours whose contents nobody needs.
        unsafe { advise(start, range.len(), advice) }
            .map(|()| purged)
            .map_err(|errno| refused(errno, range.len()))
    }

    unsafe fn guard(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        let bytes = range.len();
        // SAFETY: whole pages of ours that nobody uses.
        unsafe { guard(start, bytes) }.map(drop).map_err(|errno| refused(errno, bytes))
    }

    unsafe fn bind(
        &self,
        extent: &Extent,
        range: Range<usize>,
        policy: NodePolicy,
    ) -> Result<(), BackingError> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        // SAFETY: whole pages of ours; a policy changes no contents.
        unsafe { bind(start, range.len(), policy) }.map_err(|errno| refused(errno, range.len()))
    }

    /// Huge pages are refused as unsupported where the machine's setting rules them out.
    unsafe fn prepare(
        &self,
        extent: &Extent,
        range: Range<usize>,
        how: Prepare,
    ) -> Result<(), BackingError> {
        if how != Prepare::Populate && !offers_huge_pages() {
            return Err(BackingError::Unsupported(Operation::Prepare));
        }
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        let bytes = range.len();
        let prepared = match how {
            // SAFETY: whole pages of ours; no contents change, here and below.
            Prepare::Populate => unsafe { advise(start, bytes, Advice::Populate) },
            // SAFETY: as above.
            Prepare::Huge => unsafe { advise_huge(start, bytes) },
            // SAFETY: as above.
            Prepare::Collapse => unsafe { collapse(start, bytes) },
        };
        prepared.map_err(|errno| refused(errno, bytes))
    }

    unsafe fn resident_bytes(&self, extent: &Extent, range: Range<usize>) -> Option<usize> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) }.as_ptr().addr();
        resident_bytes(start, range.len())
    }
}

/// How many of `bytes` from `start` are in memory; none if part of it is not mapped.
pub(crate) fn resident_bytes(start: usize, bytes: usize) -> Option<usize> {
    let page = page_bytes();
    let mut resident = 0;
    let mut pages = [0; LOOK_PAGES];
    for from in (0..bytes).step_by(LOOK_PAGES * page) {
        let count = ((bytes - from) / page).min(LOOK_PAGES);
        mincore(start + from, &mut pages[..count]).ok()?;
        resident += pages[..count].iter().filter(|seen| **seen & 1 == 1).count() * page;
    }
    Some(resident)
}

#[cfg(test)]
mod tests {
    use super::AnonymousPages;
    use crate::{Errno, page_bytes};
    use core::alloc::Layout;
    use heapwright_core::backing::{Backing, BackingError, NodePolicy, Purge, Purged};

    #[test]
    fn an_extent_is_aligned_committed_purged_guarded_and_released() {
        let page = page_bytes();
        let align = 64 * page;
        let layout = Layout::from_size_align(8 * page, align).expect("a layout");
        let extent = AnonymousPages.reserve(layout).expect("addresses");
        assert!(extent.start.as_ptr().addr().is_multiple_of(align));
        assert!(extent.reserved_bytes >= 8 * page && extent.committed_bytes == 0);
        // SAFETY: inside the extent.
        unsafe { AnonymousPages.commit(&extent, 0..4 * page) }.expect("commit");
        // SAFETY: committed above.
        unsafe { extent.start.write_bytes(1, 4 * page) };
        // SAFETY: inside the extent.
        let resident = unsafe { AnonymousPages.resident_bytes(&extent, 0..8 * page) };
        assert_eq!(resident, Some(4 * page));
        // SAFETY: the contents are not needed.
        let purged = unsafe { AnonymousPages.purge(&extent, 0..page, Purge::Now) };
        assert_eq!(purged, Ok(Purged::Zeroed));
        // SAFETY: still committed.
        assert_eq!(unsafe { extent.start.read() }, 0);
        // SAFETY: nobody uses the page.
        unsafe { AnonymousPages.guard(&extent, page..2 * page) }.expect("guard");
        // SAFETY: one byte inside.
        let guarded = unsafe { extent.start.add(page) }.as_ptr().addr();
        assert!(!crate::is_readable(guarded), "a guarded page is read");
        // SAFETY: inside the extent.
        unsafe { AnonymousPages.commit(&extent, page..2 * page) }.expect("commit again");
        assert!(crate::is_readable(guarded));
        // SAFETY: nobody uses the pages.
        unsafe { AnonymousPages.decommit(&extent, 0..4 * page) }.expect("decommit");
        assert!(!crate::is_readable(guarded));
        // SAFETY: given back once, unused.
        unsafe { AnonymousPages.release(extent) };
    }

    #[test]
    fn a_range_is_bound_to_node_0_where_there_are_nodes() {
        let page = page_bytes();
        let layout = Layout::from_size_align(page, page).expect("a layout");
        let extent = AnonymousPages.reserve(layout).expect("addresses");
        // SAFETY: inside the extent.
        let bound = unsafe { AnonymousPages.bind(&extent, 0..page, NodePolicy::Bind(1)) };
        // SAFETY: inside the extent.
        let nowhere = unsafe { AnonymousPages.bind(&extent, 0..page, NodePolicy::Prefer(64)) };
        assert!(nowhere.is_err(), "node 64 is beyond the mask");
        let lacking = [Errno::ENOSYS, Errno::EPERM]
            .map(|errno| Err(BackingError::Kernel { errno: errno.0, bytes: page }));
        assert!(bound.is_ok() || lacking.contains(&bound), "{bound:?}");
        // SAFETY: given back once, unused.
        unsafe { AnonymousPages.release(extent) };
    }

    #[test]
    fn more_than_the_address_space_is_refused_with_the_size() {
        let bytes = isize::MAX as usize - 4096;
        let layout = Layout::from_size_align(bytes, 1).expect("a layout");
        assert!(AnonymousPages.reserve(layout).is_err());
    }
}

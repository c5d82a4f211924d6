//! Where a lane's region has its memory: a stretch of the one range that all lanes are in, so that
//! one comparison tells a region's block from the program's allocator's.
//!
//! # Invariants
//! - I1: extents follow each other in the stretch and are never used again: a region keeps what it
//!   has.

use core::alloc::Layout;
use core::cell::Cell;
use core::ops::Range;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, BackingError, Extent, Prepare, Purge, Purged};
use heapwright_os::{Advice, AnonymousPages, advise, commit, page_bytes};
use heapwright_sync::atomic::{AtomicUsize, Ordering};

/// Address space of a lane.
pub(crate) const LANE_BYTES: usize = 1 << LANE_BYTES_LOG2;
pub(crate) const LANE_BYTES_LOG2: u32 = 32;
/// What an arena or a pool reserves at once, as on the kernel's own pages.
const RESERVE_BYTES: usize = 1 << 30;
const EXTENT_COUNT_MAX: usize = 16;

/// A stretch of address space.
#[derive(Debug)]
pub(crate) struct LanePages {
    start: NonNull<u8>,
    used_bytes: Cell<usize>,
    extent_count: Cell<usize>,
    /// Addresses of the extents' ends as far as they are committed; another thread may ask.
    ends: [AtomicUsize; EXTENT_COUNT_MAX],
}

impl LanePages {
    /// The stretch from `start`, [`LANE_BYTES`] of addresses that nothing may be read at yet.
    pub(crate) const fn new(start: NonNull<u8>) -> Self {
        Self {
            start,
            used_bytes: Cell::new(0),
            extent_count: Cell::new(0),
            ends: [const { AtomicUsize::new(0) }; EXTENT_COUNT_MAX],
        }
    }

    /// The stretch's first address.
    pub(crate) fn start(&self) -> usize {
        self.start.as_ptr().addr()
    }

    /// How many bytes can be read from `block` on, which is in an extent.
    pub(crate) fn readable_bytes(&self, block: NonNull<u8>) -> usize {
        let from = block.as_ptr().addr();
        // Relaxed: whoever has the block has it from somebody who saw its page committed.
        let ends = self.ends.iter().map(|end| end.load(Ordering::Relaxed));
        ends.filter(|&end| end > from).min().map_or(0, |end| end - from)
    }

    /// The address of `range` in `extent`.
    ///
    /// # Safety
    /// - `range` is inside the extent.
    unsafe fn at(extent: &Extent, range: &Range<usize>) -> NonNull<u8> {
        debug_assert!(range.start < range.end && range.end <= extent.reserved_bytes);
        // SAFETY: the caller's promise.
        unsafe { extent.start.add(range.start) }
    }
}

// SAFETY: extents do not overlap (I1) and lie in a reservation that nobody else uses; `commit`
// makes fresh anonymous pages accessible, which read as zero; failing calls change nothing.
unsafe impl Backing for LanePages {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let (used, page) = (self.used_bytes.get(), page_bytes());
        let exhausted = BackingError::Exhausted {
            requested_bytes: layout.size(),
            available_bytes: LANE_BYTES - used,
        };
        let from = used.checked_next_multiple_of(layout.align().max(page)).ok_or(exhausted)?;
        let bytes = layout.size().max(1).checked_next_multiple_of(page).ok_or(exhausted)?;
        let number = self.extent_count.get();
        if from > LANE_BYTES || bytes > LANE_BYTES - from || number == EXTENT_COUNT_MAX {
            return Err(exhausted);
        }
        self.used_bytes.set(from + bytes);
        self.extent_count.set(number + 1);
        Ok(Extent {
            // SAFETY: inside the stretch.
            start: unsafe { self.start.add(from) },
            reserved_bytes: bytes,
            committed_bytes: 0,
            step_bytes: page,
            zeroed: true,
            tag: number,
        })
    }

    unsafe fn release(&self, extent: Extent) {
        // The addresses stay used (I1), the memory goes back.
        // SAFETY: the caller gives the extent up.
        let _ = unsafe { advise(extent.start, extent.reserved_bytes, Advice::DontNeed) };
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        bytes_min.max(RESERVE_BYTES)
    }

    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        let bytes = range.len();
        // SAFETY: whole pages of the lane's reservation.
        unsafe { commit(start, bytes) }
            .map_err(|errno| BackingError::Kernel { errno: errno.0, bytes })?;
        self.ends[extent.tag].fetch_max(start.as_ptr().addr() + bytes, Ordering::Relaxed);
        Ok(())
    }

    unsafe fn purge(
        &self,
        extent: &Extent,
        range: Range<usize>,
        when: Purge,
    ) -> Result<Purged, BackingError> {
        // SAFETY: the caller's promise. The extent is of anonymous pages, and that backing keeps no
        // state of its own: its extents are just such ranges.
        unsafe { AnonymousPages.purge(extent, range, when) }
    }

    /// As on the kernel's own pages, so that a region grows as it would in a changed program.
    unsafe fn prepare(
        &self,
        extent: &Extent,
        range: Range<usize>,
        how: Prepare,
    ) -> Result<(), BackingError> {
        // SAFETY: the caller's promise, and as for `purge`.
        unsafe { AnonymousPages.prepare(extent, range, how) }
    }
}

#[cfg(test)]
mod tests {
    use core::alloc::Layout;

    use heapwright_core::backing::{Backing, Prepare};
    use heapwright_os::{AnonymousPages, Protection, page_bytes, reserve};

    use super::{LANE_BYTES, LanePages};

    #[test]
    fn extents_follow_each_other_and_tell_how_far_they_can_be_read() {
        let start = reserve(LANE_BYTES, Protection::None).expect("addresses");
        let pages = LanePages::new(start);
        let (page, layout) = (page_bytes(), Layout::new::<[u8; 100]>());
        let first = pages.reserve(layout).expect("room");
        let second = pages.reserve(Layout::from_size_align(3 * page, 64 << 10).expect("layout"));
        let second = second.expect("room");
        assert_eq!((first.start, first.reserved_bytes), (start, page));
        assert!(second.start.as_ptr().addr().is_multiple_of(64 << 10));
        // SAFETY: inside the extents.
        unsafe { pages.commit(&second, 0..2 * page) }.expect("committed");
        // SAFETY: as above.
        unsafe { pages.commit(&first, 0..page) }.expect("committed");
        // SAFETY: inside the extent.
        let inside = unsafe { second.start.add(page) };
        assert_eq!(pages.readable_bytes(inside), page);
        assert_eq!(pages.readable_bytes(first.start), page);
        // SAFETY: committed above.
        unsafe { pages.prepare(&second, 0..2 * page, Prepare::Populate) }.expect("pages");
        // SAFETY: inside the extent.
        let resident = unsafe { AnonymousPages.resident_bytes(&second, 0..3 * page) };
        assert_eq!(resident, Some(2 * page));
        assert!(pages.reserve(Layout::from_size_align(LANE_BYTES, 1).expect("layout")).is_err());
    }
}

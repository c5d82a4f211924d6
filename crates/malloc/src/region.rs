//! The one reserved range of addresses that all blocks lie in, and the way from an address to
//! its slice's descriptor.
//!
//! Descriptors and slices are one reservation, without access at first; both are committed from
//! their low ends as the pool's frontier moves up. Reserving costs no memory.

use core::ptr::NonNull;

use heapwright_os::{Protection, address_space_limit_bytes, commit, release, reserve};
use heapwright_sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::descriptor::{Descriptor, SliceIndex};

/// A slice: the unit of runs, and what one descriptor describes.
pub(crate) const SLICE_BYTES: usize = 1 << SLICE_LOG2;
/// log2 of [`SLICE_BYTES`].
pub(crate) const SLICE_LOG2: u32 = 16;

/// Reserved when the system allows it; halved until it does.
const REGION_BYTES_MAX: usize = 1 << 40;
/// Below this a region is not worth having.
const REGION_BYTES_MIN: usize = 1 << 26;
/// Alignment of the first slice: a huge page.
const REGION_ALIGN_BYTES: usize = 1 << 21;
const DESCRIPTOR_BYTES: usize = size_of::<Descriptor>();

const _: () = assert!(REGION_BYTES_MIN.is_multiple_of(REGION_ALIGN_BYTES));
const _: () = assert!(REGION_BYTES_MAX >> SLICE_LOG2 < SliceIndex::MAX as usize);

/// The first slice.
static BASE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
/// Length of the region; 0 until there is one, so that no address is inside.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static DESCRIPTORS: AtomicPtr<Descriptor> = AtomicPtr::new(core::ptr::null_mut());

/// Reserves the region; returns its length in slices, 0 when the system gives none. Called once,
/// under the pool's lock.
pub(crate) fn reserve_region() -> SliceIndex {
    let mut bytes = REGION_BYTES_MAX;
    if let Some(limit_bytes) = address_space_limit_bytes() {
        // Half of the limit: thread stacks and the program's own mappings need the rest.
        while bytes > limit_bytes / 2 && bytes > 0 {
            bytes /= 2;
        }
    }
    while bytes >= REGION_BYTES_MIN {
        let descriptors_bytes = bytes / SLICE_BYTES * DESCRIPTOR_BYTES;
        let total_bytes = descriptors_bytes + REGION_ALIGN_BYTES + bytes;
        if let Ok(start) = reserve(total_bytes, Protection::None) {
            let after = start.as_ptr().wrapping_add(descriptors_bytes);
            let base = after.map_addr(|address| address.next_multiple_of(REGION_ALIGN_BYTES));
            DESCRIPTORS.store(start.as_ptr().cast(), Ordering::Relaxed);
            BASE.store(base, Ordering::Relaxed);
            // Last, though nothing depends on it: an address inside reaches other threads only
            // by the program's own synchronisation, which orders all of these.
            BYTES.store(bytes, Ordering::Release);
            return (bytes >> SLICE_LOG2) as SliceIndex;
        }
        bytes /= 2;
    }
    0
}

/// Makes slices and descriptors from `from` to `to` usable; whether the kernel agreed. Under the
/// pool's lock; both are multiples of [`COMMIT_SLICES`].
pub(crate) fn commit_slices(from: SliceIndex, to: SliceIndex) -> bool {
    let count = (to - from) as usize;
    let Some(first) = NonNull::new(slice_start(from)) else { return false };
    let descriptors = DESCRIPTORS.load(Ordering::Relaxed).wrapping_add(from as usize);
    let Some(descriptors) = NonNull::new(descriptors.cast::<u8>()) else { return false };
    // Whole pages of the kernel's, which may be larger than 4 KiB; committing twice is harmless.
    let page = heapwright_os::page_bytes();
    let below = descriptors.as_ptr().addr() % page;
    let descriptors_start = descriptors.as_ptr().wrapping_sub(below);
    let descriptors_bytes = (below + count * DESCRIPTOR_BYTES).next_multiple_of(page);
    let Some(descriptors_start) = NonNull::new(descriptors_start) else { return false };
    // SAFETY: inside the reservation, whose start is a page's start; the gap for alignment
    // behind the descriptors is larger than what rounding up adds.
    if unsafe { commit(descriptors_start, descriptors_bytes) }.is_err() {
        return false;
    }
    // SAFETY: the slices from `from` to `to` are inside the reservation; whole pages, since a
    // slice is as large as the largest page of Linux.
    unsafe { commit(first, count * SLICE_BYTES) }.is_ok()
}

/// Slices are committed in multiples of this: one 4 KiB page of descriptors.
pub(crate) const COMMIT_SLICES: SliceIndex = 64;

/// The slice that `address` lies in; none outside the region (null and other allocators' blocks
/// too).
#[inline(always)]
pub(crate) fn slice_of(address: *mut u8) -> Option<SliceIndex> {
    let offset = address.addr().wrapping_sub(BASE.load(Ordering::Relaxed).addr());
    (offset < BYTES.load(Ordering::Relaxed)).then_some((offset >> SLICE_LOG2) as SliceIndex)
}

/// Address of slice `index`.
#[inline(always)]
pub(crate) fn slice_start(index: SliceIndex) -> *mut u8 {
    BASE.load(Ordering::Relaxed).wrapping_add((index as usize) << SLICE_LOG2)
}

/// Descriptor of slice `index`.
///
/// # Safety
/// - `index` lies below the pool's committed end (or belongs to an address that the program
///   passes off as a block, which is then its own fault).
#[inline(always)]
pub(crate) unsafe fn descriptor<'a>(index: SliceIndex) -> &'a Descriptor {
    let place = DESCRIPTORS.load(Ordering::Relaxed).wrapping_add(index as usize);
    // SAFETY: committed descriptors are zeroed memory, valid for all-atomic fields, and stay
    // mapped for the life of the process.
    unsafe { &*place }
}

/// Zeroed memory for metadata of the allocator, never given back; null when there is none.
pub(crate) fn reserve_metadata(bytes: usize) -> *mut u8 {
    reserve(bytes, Protection::ReadWrite).map_or(core::ptr::null_mut(), NonNull::as_ptr)
}

/// Gives a mapping made by [`reserve_metadata`] back.
///
/// # Safety
/// - `start` and `bytes` are a whole mapping, not used any more.
pub(crate) unsafe fn release_metadata(start: *mut u8, bytes: usize) {
    if let Some(start) = NonNull::new(start) {
        // SAFETY: the caller's promise. A refusal leaves it mapped, which is harmless.
        let _ = unsafe { release(start, bytes) };
    }
}

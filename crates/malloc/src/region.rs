//! The one reserved range of addresses that all blocks lie in, and the ways from an address to
//! its slice's descriptor and to its bits.
//!
//! Descriptors, side bitmap and slices are one reservation, without access at first; all three
//! are committed from their low ends as the pool's frontier moves up. Reserving costs no memory.
//! Slice numbers count from the start of the reservation, so descriptors need no base of their
//! own: descriptor `i` is at `base + 64 i` and slice `i` at `base + SLICE_BYTES * i`; the first slices are
//! the ones that descriptors and bitmap lie in, and are never handed out.

use core::ptr::NonNull;

use heapwright_os::{Protection, address_space_limit_bytes, commit, page_bytes, release, reserve};
use heapwright_sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use crate::descriptor::{Descriptor, SliceIndex};

/// A slice: the unit of runs, and what one descriptor describes.
pub(crate) const SLICE_BYTES: usize = 1 << SLICE_LOG2;
/// log2 of [`SLICE_BYTES`]. A span of a class that is used little keeps up to a slice resident, so
/// slices are small; but whole pages of the kernel's, which have up to 64 KiB elsewhere.
pub(crate) const SLICE_LOG2: u32 = if cfg!(target_arch = "x86_64") { 15 } else { 16 };
/// A bit of the side bitmap stands for this many bytes of addresses: the alignment of blocks.
pub(crate) const BIT_BYTES: usize = 1 << BIT_LOG2;
const BIT_LOG2: u32 = 4;
/// Bytes of addresses that one word of the bitmap covers.
pub(crate) const WORD_COVERS_BYTES: usize = BIT_BYTES * u64::BITS as usize;

/// Reserved when the system allows it; halved until it does.
const REGION_BYTES_MAX: usize = 1 << 40;
/// Below this a region is not worth having.
const REGION_BYTES_MIN: usize = 1 << 26;
/// Alignment of the region: a huge page.
const REGION_ALIGN_BYTES: usize = 1 << 21;
const DESCRIPTOR_BYTES: usize = size_of::<Descriptor>();
/// A region is this many times its descriptors.
const DESCRIPTOR_SHARE: usize = SLICE_BYTES / DESCRIPTOR_BYTES;
/// A region is this many times its bitmap.
const BITMAP_SHARE: usize = BIT_BYTES * 8;

const _: () = assert!(REGION_BYTES_MIN.is_multiple_of(REGION_ALIGN_BYTES));
const _: () = assert!(REGION_BYTES_MAX >> SLICE_LOG2 < SliceIndex::MAX as usize);

/// Start of the region: descriptor 0.
pub(crate) static BASE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
/// Length of the region; 0 until there is one, so that no address is inside.
pub(crate) static BYTES: AtomicUsize = AtomicUsize::new(0);
/// Where the bitmap starts, from the base.
static BITMAP_OFFSET: AtomicUsize = AtomicUsize::new(0);

/// The slices of a region that may be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first one; a multiple of [`COMMIT_SLICES`].
    pub(crate) first: SliceIndex,
    /// Behind the last one; a multiple of [`COMMIT_SLICES`].
    pub(crate) end: SliceIndex,
}

/// Reserves the region; none when the system gives none. Called once, under the pool's lock.
pub(crate) fn reserve_region() -> Option<Extent> {
    let mut bytes = REGION_BYTES_MAX;
    if let Some(limit_bytes) = address_space_limit_bytes() {
        // Half of the limit: thread stacks and the program's own mappings need the rest.
        while bytes > limit_bytes / 2 && bytes > 0 {
            bytes /= 2;
        }
    }
    while bytes >= REGION_BYTES_MIN {
        if let Ok(start) = reserve(bytes + REGION_ALIGN_BYTES, Protection::None) {
            let base =
                start.as_ptr().map_addr(|address| address.next_multiple_of(REGION_ALIGN_BYTES));
            let descriptors_bytes = bytes / DESCRIPTOR_SHARE;
            BASE.store(base, Ordering::Relaxed);
            BITMAP_OFFSET.store(descriptors_bytes, Ordering::Relaxed);
            // Release: pairs with nothing; other threads learn of blocks by the program's own
            // synchronisation, which orders these stores before.
            BYTES.store(bytes, Ordering::Release);
            let metadata_bytes = descriptors_bytes + bytes / BITMAP_SHARE;
            let first = (metadata_bytes.div_ceil(SLICE_BYTES) as SliceIndex)
                .next_multiple_of(COMMIT_SLICES);
            let end = (bytes >> SLICE_LOG2) as SliceIndex / COMMIT_SLICES * COMMIT_SLICES;
            return Some(Extent { first, end });
        }
        bytes /= 2;
    }
    None
}

/// Makes slices from `from` to `to` usable, with their descriptors and bits; whether the kernel
/// agreed. Under the pool's lock; both are multiples of [`COMMIT_SLICES`].
pub(crate) fn commit_slices(from: SliceIndex, to: SliceIndex) -> bool {
    let (from, to) = (from as usize, to as usize);
    let bitmap = BITMAP_OFFSET.load(Ordering::Relaxed);
    let bits = SLICE_BYTES / BITMAP_SHARE;
    commit_part(from * DESCRIPTOR_BYTES, to * DESCRIPTOR_BYTES)
        && commit_part(bitmap + from * bits, bitmap + to * bits)
        && commit_part(from * SLICE_BYTES, to * SLICE_BYTES)
}

/// Makes the bytes from `start` to `end` of the region usable, and what lies in the same pages of
/// the kernel's, which may be larger than 4 KiB; committing twice is harmless.
fn commit_part(start: usize, end: usize) -> bool {
    let page = page_bytes();
    let start = start / page * page;
    let end = end.next_multiple_of(page);
    let Some(first) = NonNull::new(BASE.load(Ordering::Relaxed).wrapping_add(start)) else {
        return false;
    };
    debug_assert!(end <= BYTES.load(Ordering::Relaxed));
    // SAFETY: inside the reservation, whole pages; only more access is given.
    unsafe { commit(first, end - start) }.is_ok()
}

/// Slices are committed in multiples of this: one 4 KiB page of descriptors.
pub(crate) const COMMIT_SLICES: SliceIndex = 64;

/// The descriptor of the slice that `address` lies in; none outside the region (null and other
/// allocators' blocks too).
#[inline(always)]
pub(crate) fn descriptor_of<'a>(address: *mut u8) -> Option<&'a Descriptor> {
    let base = BASE.load(Ordering::Relaxed);
    let offset = address.addr().wrapping_sub(base.addr());
    if offset >= BYTES.load(Ordering::Relaxed) {
        return None;
    }
    let place = base.wrapping_add((offset >> SLICE_LOG2) * DESCRIPTOR_BYTES).cast::<Descriptor>();
    // SAFETY: inside the region's descriptors, committed for each slice that ever held a block;
    // zeroed memory is valid for all-atomic fields and stays mapped for the life of the process.
    Some(unsafe { &*place })
}

/// The slice that `address` lies in; none outside the region.
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

/// Descriptor of slice `index`, which came from the runs, a descriptor or the address of a block,
/// and is therefore below the pool's committed end.
#[inline(always)]
pub(crate) fn descriptor<'a>(index: SliceIndex) -> &'a Descriptor {
    let place = BASE.load(Ordering::Relaxed).cast::<Descriptor>().wrapping_add(index as usize);
    // SAFETY: slice numbers in this crate are of committed slices (see above); zeroed memory is
    // valid for all-atomic fields and stays mapped for the life of the process.
    unsafe { &*place }
}

/// The slice that `descriptor` describes.
#[inline(always)]
pub(crate) fn index_of(descriptor: &Descriptor) -> SliceIndex {
    let offset = core::ptr::from_ref(descriptor).addr() - BASE.load(Ordering::Relaxed).addr();
    (offset / DESCRIPTOR_BYTES) as SliceIndex
}

/// Word `word` of the bits of slice `index`: a bit for each 16 bytes, 64 words a slice.
#[inline(always)]
pub(crate) fn bitmap_word<'a>(index: SliceIndex, word: usize) -> &'a AtomicU64 {
    let start = BITMAP_OFFSET.load(Ordering::Relaxed);
    let words = index as usize * (SLICE_BYTES / WORD_COVERS_BYTES) + word;
    let place = BASE.load(Ordering::Relaxed).wrapping_add(start + words * size_of::<u64>());
    // SAFETY: committed together with the slice; zeroed, aligned and mapped for ever.
    unsafe { &*place.cast::<AtomicU64>() }
}

/// Bytes of the region's addresses; 0 when there is none.
pub(crate) fn region_bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
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

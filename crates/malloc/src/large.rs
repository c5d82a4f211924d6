//! Blocks over 32 KiB: a run of slices each, its size rounded up to whole pages of the kernel's.
//! What lies behind those pages in the last slice is never touched and costs nothing.

use core::ptr::NonNull;

use heapwright_os::{move_pages, page_bytes};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::alloc::BLOCK_BYTES_MAX;
use crate::descriptor::{INTERIOR, LARGE, SliceIndex};
use crate::nodes::NodeWish;
use crate::pool::{Pool, lock};
use crate::region::{SLICE_BYTES, SLICE_LOG2, descriptor, slice_of, slice_start};
use crate::runs::{self, Run};
use crate::sampling;
use crate::span::PAGE_UNIT_BYTES;
use crate::thread_block::ThreadBlock;
use crate::zone;

/// From this size on, moving pages is cheaper than copying them.
const MOVE_BYTES_MIN: usize = 1 << 20;
/// Each move can cost mappings of the kernel's budget (65,530 by default), which never merge
/// again: then copying is the lesser evil.
const MOVE_COUNT_MAX: u32 = 4096;

static MOVE_COUNT: AtomicU32 = AtomicU32::new(0);

/// A fresh large block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LargeBlock {
    /// Its address; null when there is no memory.
    pub(crate) start: *mut u8,
    /// Whether all its bytes are zero.
    pub(crate) is_zeroed: bool,
}

/// A block of at least `bytes` at a multiple of `align_bytes` (a power of two).
#[cold]
#[inline(never)]
pub(crate) fn alloc(bytes: usize, align_bytes: usize) -> LargeBlock {
    let none = LargeBlock { start: core::ptr::null_mut(), is_zeroed: false };
    if bytes > BLOCK_BYTES_MAX {
        return none;
    }
    let mut pool = lock();
    if slices_of(bytes).is_some_and(|slices| !pool.runs.has_dirty(slices)) {
        drop(pool);
        give_tails(bytes);
        pool = lock();
    }
    if let Some(run) = take(&mut pool, bytes, align_bytes, NodeWish::Local) {
        drop(pool);
        let start = slice_start(run.index);
        sampling::large(start, bytes);
        return LargeBlock { start, is_zeroed: run.is_zeroed };
    }
    LargeBlock { start: pool.alloc_direct(bytes, align_bytes), is_zeroed: true }
}

/// Has the thread's heap give back what it can spare, since a block of `bytes` will touch new
/// pages.
fn give_tails(bytes: usize) {
    // SAFETY: heaps live for ever; null when the thread has none.
    if let Some(heap) = unsafe { ThreadBlock::current().heap.get().as_ref() } {
        let pages = u32::try_from(bytes / PAGE_UNIT_BYTES).unwrap_or(u32::MAX);
        heap.enter().give_tails(pages);
    }
}

/// [`alloc`] in the region only, near `node`; null when there is no room.
pub(crate) fn alloc_in_region(bytes: usize, align_bytes: usize, node: NodeWish) -> LargeBlock {
    let none = LargeBlock { start: core::ptr::null_mut(), is_zeroed: false };
    if bytes > BLOCK_BYTES_MAX {
        return none;
    }
    take(&mut lock(), bytes, align_bytes, node)
        .map_or(none, |run| LargeBlock { start: slice_start(run.index), is_zeroed: run.is_zeroed })
}

fn slices_of(bytes: usize) -> Option<SliceIndex> {
    bytes.max(1).div_ceil(SLICE_BYTES).try_into().ok()
}

fn take(pool: &mut Pool, bytes: usize, align_bytes: usize, node: NodeWish) -> Option<Run> {
    let slices = slices_of(bytes)?;
    let run = if align_bytes <= SLICE_BYTES {
        pool.runs.take_on(slices, node)?
    } else {
        pool.runs.take_aligned_on(
            slices,
            SliceIndex::try_from(align_bytes >> SLICE_LOG2).ok()?,
            node,
        )?
    };
    descriptor(run.index).heap.store(core::ptr::null_mut(), Ordering::Relaxed);
    descriptor(run.index).place.store(0, Ordering::Relaxed);
    describe(run.index, slices, bytes);
    pool.large_count += 1;
    pool.large_bytes += usable(bytes);
    pool.handed_large_bytes += usable(bytes) as u64;
    Some(run)
}

/// Usable bytes of a large block of `bytes`.
pub(crate) fn usable(bytes: usize) -> usize {
    // At most a slice's rest, since a slice is a multiple of every page size.
    bytes.max(1).next_multiple_of(page_bytes())
}

/// Writes head and last slice of a large block's run.
fn describe(index: SliceIndex, slices: SliceIndex, bytes: usize) {
    let last = descriptor(index + slices - 1);
    last.owner.store(INTERIOR, Ordering::Relaxed);
    last.run_slices.store(slices - 1, Ordering::Relaxed);
    let head = descriptor(index);
    head.run_slices.store(slices, Ordering::Relaxed);
    head.extra.store(usable(bytes) as u64, Ordering::Relaxed);
    head.owner.store(LARGE, Ordering::Relaxed);
}

/// Frees the large block whose head is `index`.
#[inline(never)]
pub(crate) fn free(index: SliceIndex) {
    zone::forget_large(descriptor(index));
    sampling::large_ends(descriptor(index), slice_start(index));
    let mut pool = lock();
    give(&mut pool, index, true);
}

fn give(pool: &mut Pool, index: SliceIndex, is_dirty: bool) {
    let head = descriptor(index);
    head.owner.store(INTERIOR, Ordering::Relaxed);
    let slices = head.run_slices.load(Ordering::Relaxed);
    pool.large_count -= 1;
    let usable_bytes = head.extra.load(Ordering::Relaxed) as usize;
    pool.large_bytes -= usable_bytes;
    let last = descriptor(index + slices - 1);
    // What an earlier block left behind the usable bytes is resident, too; of the last slice its
    // descriptor tells, unless it is the head.
    let earlier = if slices > 1 { last.extra.load(Ordering::Relaxed) } else { u64::MAX };
    runs::note_touched(index, slices, if is_dirty { usable_bytes } else { 0 });
    if is_dirty {
        let all = u64::MAX >> (u64::BITS as usize - SLICE_BYTES / PAGE_UNIT_BYTES);
        let touched = last.extra.load(Ordering::Relaxed) | earlier & all;
        last.extra.store(touched, Ordering::Relaxed);
    }
    pool.runs.give(index, slices, is_dirty);
}

/// Resizes the large block at `ptr` to `bytes`, in place or by moving its pages; null when
/// neither can be done, and nothing has changed then.
///
/// # Safety
/// - `ptr` is a live large block, and `bytes` is above the small sizes; after a non-null result
///   only the result is used.
pub(crate) unsafe fn resize(ptr: *mut u8, bytes: usize) -> *mut u8 {
    let none = core::ptr::null_mut();
    let (Some(index), Some(slices)) = (slice_of(ptr), slices_of(bytes)) else { return none };
    if bytes > BLOCK_BYTES_MAX {
        return none;
    }
    let head = descriptor(index);
    let old_slices = head.run_slices.load(Ordering::Relaxed);
    let old_usable = head.extra.load(Ordering::Relaxed) as usize;
    sampling::large_ends(head, ptr);
    let mut pool = lock();
    if slices > old_slices && !pool.runs.take_behind(index + old_slices, slices - old_slices) {
        if !head.heap.load(Ordering::Relaxed).is_null() {
            // A zone's: its list names this address.
            return none;
        }
        return move_to_new(&mut pool, index, bytes);
    }
    pool.large_bytes = pool.large_bytes - old_usable + usable(bytes);
    if slices <= old_slices {
        note_touched_last(index, slices, old_usable);
    }
    describe(index, slices, bytes);
    if slices < old_slices {
        let rest = old_slices - slices;
        runs::note_touched(index + slices, rest, (rest as usize) << SLICE_LOG2);
        pool.runs.give(index + slices, rest, true);
    }
    ptr
}

/// Notes in the last of a block's `slices` which of its pages may be resident when the block had
/// `usable_bytes`: those behind its new end are nowhere else.
fn note_touched_last(index: SliceIndex, slices: SliceIndex, usable_bytes: usize) {
    if slices < 2 {
        // The head tells its size there, and its slice counts as touched whole.
        return;
    }
    let last = descriptor(index + slices - 1);
    let here = usable_bytes.saturating_sub((slices as usize - 1) << SLICE_LOG2).min(SLICE_BYTES);
    let touched = (1 << here.div_ceil(PAGE_UNIT_BYTES)) - 1;
    last.extra.store(last.extra.load(Ordering::Relaxed) | touched, Ordering::Relaxed);
}

/// Moves the pages of a large block that has to grow into a longer run.
fn move_to_new(pool: &mut Pool, index: SliceIndex, bytes: usize) -> *mut u8 {
    let none = core::ptr::null_mut();
    let head = descriptor(index);
    let old_usable = head.extra.load(Ordering::Relaxed) as usize;
    if old_usable < MOVE_BYTES_MIN || MOVE_COUNT.load(Ordering::Relaxed) >= MOVE_COUNT_MAX {
        return none;
    }
    // Near its pages, which stay on their node.
    let node = pool.runs.near_to(index);
    let Some(run) = take(pool, bytes, 1, node) else { return none };
    let new_start = slice_start(run.index);
    let (Some(from), Some(to)) = (NonNull::new(slice_start(index)), NonNull::new(new_start)) else {
        return none;
    };
    // The whole run, since what an earlier block left behind the usable bytes has to go, too: the
    // old run is given back as zeroed.
    let run_bytes = (head.run_slices.load(Ordering::Relaxed) as usize) << SLICE_LOG2;
    // SAFETY: two different runs of committed slices, ours, the new one no shorter; it holds
    // nothing yet, and the old contents are wanted at their new place only.
    if unsafe { move_pages(from, to, run_bytes) }.is_err() {
        // Not on this kernel: never again.
        MOVE_COUNT.store(MOVE_COUNT_MAX, Ordering::Relaxed);
        give(pool, run.index, !run.is_zeroed);
        return none;
    }
    MOVE_COUNT.fetch_add(1, Ordering::Relaxed);
    // The pages left an empty range behind: what the kernel reads as zero.
    give(pool, index, false);
    new_start
}

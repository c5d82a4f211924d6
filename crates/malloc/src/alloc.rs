//! Getting blocks: fresh, zeroed, aligned, resized.

use heapwright_core::size_class::{
    QUANTUM_BYTES, SMALL_BYTES_MAX, class_bytes, class_of, class_of_tiny,
};

use crate::free::{free, is_in_region, usable_bytes};
use crate::geometry::class_of_aligned;
use crate::large;
use crate::life;
use crate::pool::lock;
use crate::thread_block::{Life, ThreadBlock};
use crate::zone;
use crate::{sampled_lists, sampling};

/// No block is larger (C's `PTRDIFF_MAX`).
pub(crate) const BLOCK_BYTES_MAX: usize = isize::MAX as usize;

/// A block of at least `bytes`, aligned to 16; a unique one also for 0 bytes. Null when there is
/// no memory.
///
/// About a dozen instructions up to 1 KiB, and a call and two dozen up to 32 KiB, when the thread
/// has a free block of the class.
#[inline(always)]
pub fn alloc(bytes: usize) -> *mut u8 {
    let block = alloc_at_once(bytes);
    if block.is_null() { alloc_slow(bytes) } else { block }
}

/// The inline part of [`alloc`]: a block of the thread's free list, or null when the list is
/// empty or `bytes` is above 1 KiB. Calls nothing, so that whoever it is inlined into needs no
/// frame.
#[inline(always)]
pub fn alloc_at_once(bytes: usize) -> *mut u8 {
    match class_of_tiny(bytes) {
        Some(class_index) => ThreadBlock::pop(class_index).cast(),
        None => core::ptr::null_mut(),
    }
}

#[cold]
#[inline(never)]
fn alloc_slow(bytes: usize) -> *mut u8 {
    if bytes <= SMALL_BYTES_MAX {
        let class_index = class_of(bytes);
        // Above 1 KiB nobody has looked yet.
        let block = ThreadBlock::pop(class_index);
        if !block.is_null() {
            return block.cast();
        }
        return alloc_class(class_index, bytes, QUANTUM_BYTES);
    }
    large::alloc(bytes, QUANTUM_BYTES).start
}

/// A block of `class_index`, for a request of `bytes` at a multiple of `align_bytes`, when the
/// thread's list is empty. Apart from its callers, which need no frame for a block at hand.
#[cold]
#[inline(never)]
fn alloc_class(class_index: usize, bytes: usize, align_bytes: usize) -> *mut u8 {
    let thread = ThreadBlock::current();
    // SAFETY: heaps live for ever; null when the thread has none.
    if let Some(heap) = unsafe { thread.heap.get().as_ref() } {
        let block = heap.refill_quickly(thread, class_index);
        if !block.is_null() {
            return block.cast();
        }
    }
    alloc_class_slow(class_index, bytes, align_bytes)
}

/// [`alloc_class`] under the heap's lock.
#[cold]
#[inline(never)]
fn alloc_class_slow(class_index: usize, bytes: usize, align_bytes: usize) -> *mut u8 {
    reached!(Ordinary);
    let thread = ThreadBlock::current();
    if let Some(heap) = life::heap_of(thread) {
        // Setting the heap up may have allocated, and so filled the list.
        let ready = ThreadBlock::pop(class_index);
        let block = if ready.is_null() { heap.enter().refill(thread, class_index) } else { ready };
        let due = sampled_lists::take_due(heap);
        if thread.life() == Life::Ended {
            life::give_heap_up(thread);
        }
        life::heartbeat();
        if due != 0 && !block.is_null() {
            return sampling::take(due, block.cast(), class_index, bytes, align_bytes);
        }
        if !block.is_null() {
            return block.cast();
        }
    }
    lock().alloc_direct(class_bytes(class_index), QUANTUM_BYTES)
}

/// A zeroed block of at least `bytes`; only the first `bytes` are zero for sure. Null when there
/// is no memory.
#[inline]
pub fn alloc_zeroed(bytes: usize) -> *mut u8 {
    if bytes > SMALL_BYTES_MAX {
        let block = large::alloc(bytes, QUANTUM_BYTES);
        if !block.start.is_null() && !block.is_zeroed {
            // SAFETY: a fresh block of at least `bytes`.
            unsafe { block.start.write_bytes(0, bytes) };
        }
        return block.start;
    }
    let block = alloc(bytes);
    if !block.is_null() {
        // SAFETY: a fresh block of at least `bytes`.
        unsafe { block.write_bytes(0, bytes) };
    }
    block
}

/// A block of at least `bytes` at a multiple of `align_bytes`. Null when there is no memory or
/// `align_bytes` is no power of two.
#[inline]
pub fn alloc_aligned(align_bytes: usize, bytes: usize) -> *mut u8 {
    if align_bytes <= QUANTUM_BYTES {
        return alloc(bytes);
    }
    if !align_bytes.is_power_of_two() {
        return core::ptr::null_mut();
    }
    match class_of_aligned(bytes, align_bytes) {
        Some(class_index) => {
            let mut block: *mut u8 = ThreadBlock::pop(class_index).cast();
            if block.is_null() {
                block = alloc_class(class_index, bytes, align_bytes);
            }
            if block.addr().is_multiple_of(align_bytes) {
                return block;
            }
            // A mapping of its own, page aligned only, since the region is used up.
            // SAFETY: just allocated, and nobody has seen it.
            unsafe { free(block) };
            lock().alloc_direct(bytes, align_bytes)
        }
        None => large::alloc(bytes, align_bytes).start,
    }
}

/// Resizes the block at `ptr` (null: a new one) to at least `bytes`, keeping what fits. Null when
/// there is no memory; the old block is then as before.
///
/// In place when the new size fits and is at least half of what there is. Large blocks grow into
/// free neighbours, or have their pages moved. A block of a [`Zone`](crate::Zone) stays in it.
///
/// # Safety
/// - `ptr` is null or a live block of this allocator; after a non-null result only the result is
///   used.
#[inline]
pub unsafe fn realloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
    if ptr.is_null() {
        return alloc(bytes);
    }
    // SAFETY: the caller's promise.
    let old_bytes = unsafe { usable_bytes(ptr) };
    if fits_in_place(old_bytes, bytes) {
        return ptr;
    }
    // SAFETY: the caller's promise; the usable size was just asked.
    unsafe { realloc_slow(ptr, old_bytes, bytes) }
}

/// Whether a block of `old_bytes` serves `bytes` well.
#[inline(always)]
pub(crate) fn fits_in_place(old_bytes: usize, bytes: usize) -> bool {
    bytes <= old_bytes && bytes >= old_bytes / 2
}

/// [`realloc`] of a block that changes its size class.
///
/// # Safety
/// - As for [`realloc`]; `old_bytes` is the usable size of the block.
#[inline(never)]
unsafe fn realloc_slow(ptr: *mut u8, old_bytes: usize, bytes: usize) -> *mut u8 {
    if old_bytes == 0 {
        // Another allocator's block: its size is unknown, so nothing can be kept.
        return core::ptr::null_mut();
    }
    if zone::is_in_zone(ptr) {
        // SAFETY: the caller's promise, and the line above.
        return unsafe { zone::realloc(ptr, bytes) };
    }
    if old_bytes > SMALL_BYTES_MAX && bytes > SMALL_BYTES_MAX && is_in_region(ptr) {
        // SAFETY: a live block in the region above the small sizes; the caller's promise.
        let block = unsafe { large::resize(ptr, bytes) };
        if !block.is_null() {
            sampling::large(block, bytes);
            return block;
        }
    }
    let block = alloc(bytes);
    if block.is_null() {
        return block;
    }
    // SAFETY: both blocks are live and different, and hold at least that many bytes.
    unsafe { block.copy_from_nonoverlapping(ptr, old_bytes.min(bytes)) };
    // SAFETY: the caller's promise.
    unsafe { free(ptr) };
    block
}

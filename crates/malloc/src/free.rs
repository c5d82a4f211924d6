//! Giving blocks back, and what an address tells about its block.

use heapwright_core::size_class::class_bytes;
use heapwright_sync::atomic::Ordering;

use crate::block::{self, Block};
use crate::descriptor::{ABANDONED, HEAP_MIN, LARGE, Place, SliceIndex};
use crate::fatal::fatal;
use crate::heap::{Heap, head_of};
use crate::large;
use crate::pool::lock;
use crate::region::{descriptor, slice_of};
use crate::thread_block::ThreadBlock;

/// Frees the block at `ptr`; null is nothing.
///
/// The owner's own free is about fifteen instructions. A pointer into the region that is no
/// block ends the process where that is noticed; a pointer of another allocator is ignored.
///
/// # Safety
/// - `ptr` is null or a live block of this allocator, and nobody uses it after the call.
#[inline(always)]
pub unsafe fn free(ptr: *mut u8) {
    if let Some(index) = slice_of(ptr) {
        let thread = ThreadBlock::current();
        let heap = thread.heap.get();
        // SAFETY: the slice of a block lies below the frontier.
        let span = unsafe { descriptor(index) };
        if span.owner.load(Ordering::Relaxed) == heap.addr() {
            // SAFETY: an owner that is an address is a heap, and this one is the thread's.
            let heap = unsafe { &*heap };
            // SAFETY: the span is the heap's own, `ptr` a block in it, given up by the caller.
            unsafe { heap.free_local(span, index, ptr.cast()) };
            return;
        }
    }
    // SAFETY: the caller's promise, passed on.
    unsafe { free_slow(ptr) };
}

/// [`free`] of what is not in a one-slice span of this thread.
///
/// # Safety
/// - As for [`free`].
#[cold]
#[inline(never)]
unsafe fn free_slow(ptr: *mut u8) {
    let Some(index) = head_of(ptr.cast()) else {
        if !ptr.is_null() {
            // Whether it was ours or another allocator's, there is nothing more to do.
            lock().direct.free(ptr);
        }
        return;
    };
    // SAFETY: the slice of a block lies below the frontier.
    let span = unsafe { descriptor(index) };
    let owner = span.owner.load(Ordering::Relaxed);
    if owner == LARGE {
        large::free(index);
        return;
    }
    // SAFETY: the thread's heap lives for ever; null when it has none.
    if let Some(heap) = unsafe { ThreadBlock::current().heap.get().as_ref() }
        && owner == heap.id()
    {
        // SAFETY: the span is the heap's own, `ptr` a block in it, given up by the caller.
        unsafe { heap.free_local(span, index, ptr.cast()) };
        return;
    }
    give_remote(ptr.cast(), index);
}

/// Sends `block`, given up by the program, to whoever owns its span, whose head is `index`.
pub(crate) fn give_remote(block: Block, index: SliceIndex) {
    // SAFETY: the slice of a block lies below the frontier.
    let span = unsafe { descriptor(index) };
    loop {
        // Acquire: pairs with the Release in `Pool::abandon`.
        let owner = span.owner.load(Ordering::Acquire);
        if owner >= HEAP_MIN {
            let heap = core::ptr::with_exposed_provenance::<Heap>(owner);
            // SAFETY: owners that are addresses are heaps, which live for ever; its queue is
            // made for other threads.
            let queue = unsafe { &(*heap).remote };
            // SAFETY: the block was given up and is in no list. A closed queue means that the
            // owner has changed: look again.
            if unsafe { queue.push(block, block) }.is_ok() {
                return;
            }
        } else if owner == ABANDONED {
            if free_abandoned(block, index) {
                return;
            }
        } else {
            fatal(b"heapwright: free of an address that is no live block\n");
        }
    }
}

/// Frees a block of an abandoned span; false when somebody took the span meanwhile. A thread with
/// a heap adopts the span, since it will likely free more of it.
fn free_abandoned(block: Block, index: SliceIndex) -> bool {
    // SAFETY: the slice of a block lies below the frontier.
    let span = unsafe { descriptor(index) };
    let mut pool = lock();
    if span.owner.load(Ordering::Relaxed) != ABANDONED {
        return false;
    }
    // SAFETY: the thread's heap lives for ever; null when it has none.
    if let Some(heap) = unsafe { ThreadBlock::current().heap.get().as_ref() } {
        pool.unlist_abandoned(index);
        heap.adopt(index);
        drop(pool);
        // SAFETY: the span is the heap's own since the line above.
        unsafe { heap.free_local(span, index, block) };
        return true;
    }
    // SAFETY: the block was given up; the span is ours while we hold the lock.
    unsafe { block::set_next(block, span.local_free.load(Ordering::Relaxed)) };
    span.local_free.store(block, Ordering::Relaxed);
    let used_count = span.used_count.load(Ordering::Relaxed) - 1;
    span.used_count.store(used_count, Ordering::Relaxed);
    if used_count == 0 {
        pool.unlist_abandoned(index);
        pool.give_span(index);
    } else if span.place.load(Ordering::Relaxed) == Place::Unlisted as u8 {
        pool.abandon(index, true);
    }
    true
}

/// How many bytes of the block at `ptr` the program may touch; 0 for null and for pointers that
/// are not ours. O(1).
///
/// # Safety
/// - `ptr` is null or a live block.
#[inline]
pub unsafe fn usable_bytes(ptr: *mut u8) -> usize {
    let Some(index) = head_of(ptr.cast()) else {
        return if ptr.is_null() { 0 } else { lock().direct.usable_bytes(ptr).unwrap_or(0) };
    };
    // SAFETY: the slice of a block lies below the frontier.
    let span = unsafe { descriptor(index) };
    if span.owner.load(Ordering::Relaxed) == LARGE {
        return span.usable_bytes.load(Ordering::Relaxed);
    }
    class_bytes(usize::from(span.class_index.load(Ordering::Relaxed)))
}

/// Whether `ptr` lies in the region.
pub(crate) fn is_in_region(ptr: *mut u8) -> bool {
    slice_of(ptr).is_some()
}

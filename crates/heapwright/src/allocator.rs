//! Heapwright as Rust's global allocator.

use core::alloc::{GlobalAlloc, Layout};

use heapwright_malloc as malloc;

/// What C's `malloc` aligns to without being asked.
const QUANTUM_BYTES: usize = 16;
/// No machine has smaller OS pages.
const PAGE_BYTES: usize = 4096;
/// Blocks above this have OS pages of their own.
const SMALL_BYTES_MAX: usize = 32 * 1024;

/// The general allocator, for `#[global_allocator]`.
///
/// It has no state of its own: all values are one allocator. It uses no `thread_local!` and no
/// lock of the standard library, so it works before `main`, in destructors of thread-locals, and
/// in a child after fork.
///
/// ```
/// #[global_allocator]
/// static GLOBAL: heapwright::Heapwright = heapwright::Heapwright;
///
/// let numbers: Vec<u32> = (0..1000).collect();
/// assert_eq!(numbers.iter().sum::<u32>(), 499_500);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Heapwright;

heapwright_watch::watch_from_load_to_exit!();

/// Nothing here allocates or panics, and all of it may be called at any time, from any thread.
impl Heapwright {
    /// What the allocator holds: O(slices of 32 KiB ever used), some 5 ns each, under its lock.
    pub fn stats(&self) -> malloc::Statistics {
        malloc::statistics()
    }

    /// Gives all memory back to the kernel that holds no live block, also in other threads'
    /// lists of spans; whether there was any. Milliseconds: system calls, some under locks.
    pub fn trim(&self) -> bool {
        malloc::trim()
    }

    /// The limits in force.
    pub fn limits(&self) -> malloc::Limits {
        malloc::limits()
    }

    /// Sets the limits, of what is handed out or may be resident, in bytes: above the soft one
    /// free memory goes back to the kernel at once, at the hard one allocations fail. O(1);
    /// nothing is taken away.
    pub fn limit(&self, limits: malloc::Limits) {
        malloc::set_limits(limits);
    }

    /// Every live block of every heap at this moment; see [`LiveBlocks`](malloc::LiveBlocks).
    ///
    /// # Errors
    /// [`WalkError`](malloc::WalkError) when the kernel has no memory for the snapshot.
    pub fn live_blocks(&self) -> Result<malloc::LiveBlocks, malloc::WalkError> {
        malloc::LiveBlocks::take()
    }
}

// SAFETY: `heapwright-malloc` gives blocks of the size and alignment asked for, which no other
// live block overlaps, keeps them until they are freed, and does not unwind.
unsafe impl GlobalAlloc for Heapwright {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= QUANTUM_BYTES {
            malloc::alloc(layout.size())
        } else {
            malloc::alloc_aligned(layout.align(), layout.size())
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= QUANTUM_BYTES {
            return malloc::alloc_zeroed(layout.size());
        }
        let block = malloc::alloc_aligned(layout.align(), layout.size());
        if !block.is_null() {
            // SAFETY: a fresh block of that size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, _layout: Layout) {
        // SAFETY: the caller's promise: a live block of this allocator.
        unsafe { malloc::free(ptr) }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= QUANTUM_BYTES {
            // SAFETY: the caller's promise: a live block of this allocator.
            return unsafe { malloc::realloc(ptr, new_size) };
        }
        // SAFETY: as above.
        let usable_bytes = unsafe { malloc::usable_bytes(ptr) };
        if new_size <= usable_bytes && new_size >= usable_bytes / 2 {
            return ptr;
        }
        if layout.align() <= PAGE_BYTES && usable_bytes.min(new_size) > SMALL_BYTES_MAX {
            // Large blocks begin on pages, before and after they move.
            // SAFETY: as above.
            return unsafe { malloc::realloc(ptr, new_size) };
        }
        // A moved block would be aligned as `malloc` aligns, so it is moved here.
        let block = malloc::alloc_aligned(layout.align(), new_size);
        if !block.is_null() {
            // SAFETY: two different live blocks, of at least these sizes.
            unsafe { block.copy_from_nonoverlapping(ptr, layout.size().min(new_size)) };
            // SAFETY: the caller's promise; the contents have moved.
            unsafe { malloc::free(ptr) };
        }
        block
    }
}

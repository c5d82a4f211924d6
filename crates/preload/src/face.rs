//! The allocator of modes fast and compact behind the C table, and all that they export.

use core::ffi::{CStr, c_int};

use heapwright_capi::{CAllocator, Entry, FreeEntry, Usage};

use crate::{PEER_VERSION, sampled};

/// The allocator behind the C table.
#[derive(Debug)]
pub struct Heapwright;

// SAFETY: `heapwright-malloc` promises blocks of the size and alignment asked for that no other
// live block overlaps; it does not unwind, and calls no exported symbol of the table.
unsafe impl CAllocator for Heapwright {
    const VERSION: &'static CStr = match CStr::from_bytes_with_nul(&PEER_VERSION) {
        Ok(version) => version,
        Err(_) => c"heapwright",
    };

    #[inline(always)]
    fn malloc_at_once(bytes: usize, _entry: Entry) -> *mut u8 {
        heapwright_malloc::alloc_at_once(bytes)
    }

    #[inline(always)]
    unsafe fn malloc(bytes: usize, entry: Entry) -> *mut u8 {
        let block = heapwright_malloc::alloc(bytes);
        sampled::note_maker(block, entry);
        block
    }

    #[inline(always)]
    unsafe fn calloc(count: usize, unit_bytes: usize) -> *mut u8 {
        match count.checked_mul(unit_bytes) {
            Some(bytes) => heapwright_malloc::alloc_zeroed(bytes),
            None => core::ptr::null_mut(),
        }
    }

    /// As glibc: 0 bytes free the block and give null.
    #[inline(always)]
    unsafe fn realloc(ptr: *mut u8, bytes: usize, _entry: Entry) -> *mut u8 {
        if bytes == 0 && !ptr.is_null() {
            // SAFETY: the caller's promise about `ptr`.
            unsafe { heapwright_malloc::free(ptr) };
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise about `ptr`.
        unsafe { heapwright_malloc::realloc(ptr, bytes) }
    }

    #[inline(always)]
    unsafe fn memalign(align_bytes: usize, bytes: usize, entry: Entry) -> *mut u8 {
        let block = heapwright_malloc::alloc_aligned(align_bytes, bytes);
        sampled::note_maker(block, entry);
        block
    }

    #[inline(always)]
    unsafe fn free(ptr: *mut u8, entry: FreeEntry) {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { heapwright_malloc::free_by(ptr, sampled::taker(entry)) }
    }

    #[inline(always)]
    unsafe fn usable_bytes(ptr: *mut u8) -> usize {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { heapwright_malloc::usable_bytes(ptr) }
    }

    fn trim() -> bool {
        heapwright_malloc::trim()
    }

    /// As bionic: `M_PURGE` and `M_PURGE_ALL` give all free memory back. glibc's parameters are of
    /// things that do not exist here.
    fn set_parameter(parameter: c_int, _value: c_int) -> bool {
        const M_PURGE: c_int = -101;
        const M_PURGE_ALL: c_int = -104;
        let is_purge = matches!(parameter, M_PURGE | M_PURGE_ALL);
        if is_purge {
            heapwright_malloc::trim();
        }
        is_purge
    }

    fn usage() -> Usage {
        const WINDOW_BYTES: usize = 16 * 1024;
        const PAGE_BYTES: i64 = 4096;
        let statistics = heapwright_malloc::statistics();
        let merging = heapwright_malloc::merge_statistics();
        Usage {
            arena_bytes: statistics.small_span_bytes + statistics.dirty_bytes,
            large_bytes: statistics.large_bytes,
            large_count: statistics.large_count,
            in_use_bytes: statistics.small_used_bytes + statistics.large_bytes,
            free_bytes: statistics.small_span_bytes - statistics.small_used_bytes
                + statistics.dirty_bytes,
            trimmable_bytes: statistics.dirty_bytes,
            metadata_bytes: 0,
            merged_bytes: merging.window_count * WINDOW_BYTES,
            merge_freed_bytes: usize::try_from(merging.freed_pages * PAGE_BYTES).unwrap_or(0),
        }
    }
}

heapwright_capi::export_c_symbols!(Heapwright);
heapwright_capi::export_jemalloc_symbols!(Heapwright);
heapwright_watch::watch_from_load_to_exit!();

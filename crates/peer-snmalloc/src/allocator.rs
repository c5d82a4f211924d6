//! snmalloc behind the C table.

use heapwright_capi::{CAllocator, Entry, FreeEntry};
// Links the C++ library.
use snmalloc_sys as _;

unsafe extern "C" {
    fn sn_malloc(bytes: usize) -> *mut u8;
    fn sn_calloc(count: usize, unit_bytes: usize) -> *mut u8;
    fn sn_realloc(ptr: *mut u8, bytes: usize) -> *mut u8;
    fn sn_rust_alloc(align_bytes: usize, bytes: usize) -> *mut u8;
    fn sn_free(ptr: *mut u8);
    fn sn_malloc_usable_size(ptr: *mut u8) -> usize;
}

/// Name and version, for reports: a NUL-terminated string.
#[unsafe(export_name = "heapwright_peer_version")]
pub static PEER_VERSION: [u8; 15] = *b"snmalloc 0.7.6\0";

/// snmalloc behind the C table.
#[derive(Debug)]
pub struct Snmalloc;

// SAFETY: snmalloc keeps C's rules for its functions, never unwinds, and calls its own functions,
// not the exported ones.
unsafe impl CAllocator for Snmalloc {
    const KEEPS_C_RULES: bool = true;

    #[inline(always)]
    unsafe fn malloc(bytes: usize, _entry: Entry) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { sn_malloc(bytes) }
    }

    #[inline(always)]
    unsafe fn calloc(count: usize, unit_bytes: usize) -> *mut u8 {
        // SAFETY: snmalloc checks the product.
        unsafe { sn_calloc(count, unit_bytes) }
    }

    #[inline(always)]
    unsafe fn realloc(ptr: *mut u8, bytes: usize, _entry: Entry) -> *mut u8 {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { sn_realloc(ptr, bytes) }
    }

    #[inline(always)]
    unsafe fn memalign(align_bytes: usize, bytes: usize, _entry: Entry) -> *mut u8 {
        // SAFETY: the caller's promise: a power of two.
        unsafe { sn_rust_alloc(align_bytes, bytes) }
    }

    #[inline(always)]
    unsafe fn free(ptr: *mut u8, _entry: FreeEntry) {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { sn_free(ptr) }
    }

    #[inline(always)]
    unsafe fn usable_bytes(ptr: *mut u8) -> usize {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { sn_malloc_usable_size(ptr) }
    }
}

heapwright_capi::export_c_symbols!(Snmalloc);

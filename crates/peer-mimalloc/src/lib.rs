//! mimalloc as a preloadable object, for comparisons: version 3 as its authors configure it, not
//! secure, over the same table of symbols as every other subject.
#![no_std]

use core::ffi::c_void;

use heapwright_capi::{CAllocator, Entry, FreeEntry};
// Links the C library.
use libmimalloc_sys as _;

unsafe extern "C" {
    fn mi_malloc(bytes: usize) -> *mut u8;
    fn mi_calloc(count: usize, unit_bytes: usize) -> *mut u8;
    fn mi_realloc(ptr: *mut u8, bytes: usize) -> *mut u8;
    fn mi_malloc_aligned(bytes: usize, align_bytes: usize) -> *mut u8;
    fn mi_free(ptr: *mut u8);
    fn mi_usable_size(ptr: *const c_void) -> usize;
    fn mi_collect(force: bool);
}

/// Name and version, for reports: a NUL-terminated string.
#[unsafe(export_name = "heapwright_peer_version")]
pub static PEER_VERSION: [u8; 15] = *b"mimalloc 3.3.2\0";

/// mimalloc behind the C table.
#[derive(Debug)]
pub struct Mimalloc;

// SAFETY: mimalloc keeps C's rules for its functions, never unwinds, and calls its own functions,
// not the exported ones.
unsafe impl CAllocator for Mimalloc {
    const KEEPS_C_RULES: bool = true;

    #[inline(always)]
    unsafe fn malloc(bytes: usize, _entry: Entry) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { mi_malloc(bytes) }
    }

    #[inline(always)]
    unsafe fn calloc(count: usize, unit_bytes: usize) -> *mut u8 {
        // SAFETY: mimalloc checks the product.
        unsafe { mi_calloc(count, unit_bytes) }
    }

    #[inline(always)]
    unsafe fn realloc(ptr: *mut u8, bytes: usize, _entry: Entry) -> *mut u8 {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { mi_realloc(ptr, bytes) }
    }

    #[inline(always)]
    unsafe fn memalign(align_bytes: usize, bytes: usize, _entry: Entry) -> *mut u8 {
        // SAFETY: the caller's promise: a power of two.
        unsafe { mi_malloc_aligned(bytes, align_bytes) }
    }

    #[inline(always)]
    unsafe fn free(ptr: *mut u8, _entry: FreeEntry) {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { mi_free(ptr) }
    }

    #[inline(always)]
    unsafe fn usable_bytes(ptr: *mut u8) -> usize {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { mi_usable_size(ptr.cast()) }
    }

    fn trim() -> bool {
        // SAFETY: may be called at any time.
        unsafe { mi_collect(true) };
        true
    }
}

heapwright_capi::export_c_symbols!(Mimalloc);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

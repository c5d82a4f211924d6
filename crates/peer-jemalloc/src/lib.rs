//! jemalloc as a preloadable object, for comparisons: as its authors configure it (statistics
//! compiled in, background threads off), over the same table of symbols as every other subject.
//! Its options are read from `_RJEM_MALLOC_CONF`.
#![no_std]

use heapwright_capi::{CAllocator, Entry, FreeEntry};
// Links the C library.
use tikv_jemalloc_sys as _;

unsafe extern "C" {
    fn _rjem_malloc(bytes: usize) -> *mut u8;
    fn _rjem_calloc(count: usize, unit_bytes: usize) -> *mut u8;
    fn _rjem_realloc(ptr: *mut u8, bytes: usize) -> *mut u8;
    fn _rjem_memalign(align_bytes: usize, bytes: usize) -> *mut u8;
    fn _rjem_free(ptr: *mut u8);
    fn _rjem_malloc_usable_size(ptr: *mut u8) -> usize;
}

/// Name and version, for reports: a NUL-terminated string.
#[unsafe(export_name = "heapwright_peer_version")]
pub static PEER_VERSION: [u8; 15] = *b"jemalloc 5.3.1\0";

/// jemalloc behind the C table.
#[derive(Debug)]
pub struct Jemalloc;

// SAFETY: jemalloc keeps C's rules for its functions, never unwinds, and calls its own functions,
// not the exported ones.
unsafe impl CAllocator for Jemalloc {
    const KEEPS_C_RULES: bool = true;

    #[inline(always)]
    unsafe fn malloc(bytes: usize, _entry: Entry) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { _rjem_malloc(bytes) }
    }

    #[inline(always)]
    unsafe fn calloc(count: usize, unit_bytes: usize) -> *mut u8 {
        // SAFETY: jemalloc checks the product.
        unsafe { _rjem_calloc(count, unit_bytes) }
    }

    #[inline(always)]
    unsafe fn realloc(ptr: *mut u8, bytes: usize, _entry: Entry) -> *mut u8 {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { _rjem_realloc(ptr, bytes) }
    }

    #[inline(always)]
    unsafe fn memalign(align_bytes: usize, bytes: usize, _entry: Entry) -> *mut u8 {
        // SAFETY: the caller's promise: a power of two.
        unsafe { _rjem_memalign(align_bytes, bytes) }
    }

    #[inline(always)]
    unsafe fn free(ptr: *mut u8, _entry: FreeEntry) {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { _rjem_free(ptr) }
    }

    #[inline(always)]
    unsafe fn usable_bytes(ptr: *mut u8) -> usize {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { _rjem_malloc_usable_size(ptr) }
    }
}

heapwright_capi::export_c_symbols!(Jemalloc);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

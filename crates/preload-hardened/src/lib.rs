//! `libheapwright_hardened.so`: misuse of a block ends the program, at a price for production.
//!
//! `LD_PRELOAD=.../libheapwright_hardened.so CMD` is all it takes; `HEAPWRIGHT_HARDENED` has the
//! options. The object needs libc.so.6 and nothing else. The design page is
//! `docs/design/hardened.md`.
#![no_std]

mod sampled;

use core::ffi::CStr;

use heapwright_capi::{CAllocator, Entry, FreeEntry, Told, Usage};
use heapwright_hardened::{Family, Return};

/// Name and version, for reports: a NUL-terminated string.
#[unsafe(export_name = "heapwright_peer_version")]
pub static PEER_VERSION: [u8; 26] = *b"heapwright-hardened 0.1.0\0";

const _: () = assert!(
    PEER_VERSION.len() == "heapwright-hardened ".len() + env!("CARGO_PKG_VERSION").len() + 1
);

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

extern "C" fn at_end() {
    heapwright_hardened::at_exit();
    sampled::at_end();
}

/// The hardened heap behind the C table.
#[derive(Debug)]
pub struct Hardened;

// SAFETY: `heapwright-hardened` promises blocks of the size and alignment asked for that no other
// live block overlaps; it does not unwind, and calls no exported symbol of the table.
unsafe impl CAllocator for Hardened {
    const VERSION: &'static CStr = match CStr::from_bytes_with_nul(&PEER_VERSION) {
        Ok(version) => version,
        Err(_) => c"heapwright-hardened",
    };

    #[inline(always)]
    fn malloc_at_once(bytes: usize, entry: Entry) -> *mut u8 {
        heapwright_hardened::alloc_at_once(bytes, entry.family())
    }

    #[inline(always)]
    unsafe fn malloc(bytes: usize, entry: Entry) -> *mut u8 {
        heapwright_hardened::alloc(bytes, entry.family())
    }

    #[inline(always)]
    unsafe fn calloc(count: usize, unit_bytes: usize) -> *mut u8 {
        match count.checked_mul(unit_bytes) {
            Some(bytes) => heapwright_hardened::alloc_zeroed(bytes, Family::Malloc),
            None => core::ptr::null_mut(),
        }
    }

    /// As glibc: 0 bytes free the block and give null.
    #[inline(always)]
    unsafe fn realloc(ptr: *mut u8, bytes: usize, _entry: Entry) -> *mut u8 {
        if bytes == 0 && !ptr.is_null() {
            let how = Return { family: Family::Malloc, bytes: None };
            // SAFETY: the caller's promise about `ptr`.
            unsafe { heapwright_hardened::free(ptr, how) };
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise about `ptr`.
        unsafe { heapwright_hardened::realloc(ptr, bytes) }
    }

    #[inline(always)]
    unsafe fn memalign(align_bytes: usize, bytes: usize, entry: Entry) -> *mut u8 {
        heapwright_hardened::alloc_aligned(align_bytes, bytes, entry.family())
    }

    #[inline(always)]
    unsafe fn free(ptr: *mut u8, entry: FreeEntry) {
        let how = Return { family: entry.family(), bytes: None };
        // SAFETY: the caller's promise about `ptr`.
        unsafe { heapwright_hardened::free(ptr, how) }
    }

    #[inline(always)]
    unsafe fn free_told(ptr: *mut u8, entry: FreeEntry, told: Told) {
        let how = Return { family: entry.family(), bytes: told.bytes };
        // SAFETY: the caller's promise about `ptr`.
        unsafe { heapwright_hardened::free(ptr, how) }
    }

    #[inline(always)]
    unsafe fn usable_bytes(ptr: *mut u8) -> usize {
        // SAFETY: the caller's promise about `ptr`.
        unsafe { heapwright_hardened::usable_bytes(ptr) }
    }

    fn trim() -> bool {
        heapwright_hardened::trim()
    }

    fn usage() -> Usage {
        let statistics = heapwright_hardened::statistics();
        Usage {
            arena_bytes: statistics.small_span_bytes,
            large_bytes: statistics.large_bytes,
            large_count: statistics.large_count,
            in_use_bytes: statistics.small_used_bytes + statistics.large_bytes,
            free_bytes: statistics.small_span_bytes - statistics.small_used_bytes,
            ..Usage::default()
        }
    }
}

heapwright_capi::export_c_symbols!(Hardened);
heapwright_capi::export_jemalloc_symbols!(Hardened);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

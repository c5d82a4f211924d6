//! `libheapwright_check.so`: finds each misuse of a block in any program.
//!
//! The C table over the guarded heap, and checks of the ranges that functions of the C library
//! are about to touch. `heapwright run --mode check` preloads it and turns its lines into
//! reports. The design page is `docs/design/safety.md`.
#![no_std]

mod format;
mod io;
mod life;
mod memory;
mod printf;
mod real;
mod signals;
mod strings;
mod wide;

use heapwright_capi::{CAllocator, Entry, FreeEntry, Told, Usage};
use heapwright_guard::{Request, Return};

/// Name and version, for reports: a NUL-terminated string.
#[unsafe(export_name = "heapwright_peer_version")]
pub static PEER_VERSION: [u8; 23] = *b"heapwright-check 0.1.0\0";

/// The guarded heap behind the C table.
#[derive(Debug)]
pub struct Checked;

fn request(bytes: usize, entry: Entry) -> Request {
    Request { bytes, align_bytes: 1, family: entry.family(), zeroed: false }
}

// SAFETY: `heapwright-guard` promises blocks of the size and alignment asked for that no other
// live block overlaps; it does not unwind, and calls no exported symbol of the table.
unsafe impl CAllocator for Checked {
    #[inline(never)]
    unsafe fn malloc(bytes: usize, entry: Entry) -> *mut u8 {
        heapwright_guard::alloc(request(bytes, entry))
    }

    #[inline(never)]
    unsafe fn calloc(count: usize, unit_bytes: usize) -> *mut u8 {
        match count.checked_mul(unit_bytes) {
            Some(bytes) => {
                heapwright_guard::alloc(Request { zeroed: true, ..request(bytes, Entry::Calloc) })
            }
            None => core::ptr::null_mut(),
        }
    }

    #[inline(never)]
    unsafe fn realloc(ptr: *mut u8, bytes: usize, _entry: Entry) -> *mut u8 {
        heapwright_guard::realloc(ptr, bytes)
    }

    #[inline(never)]
    unsafe fn memalign(align_bytes: usize, bytes: usize, entry: Entry) -> *mut u8 {
        heapwright_guard::alloc(Request { align_bytes, ..request(bytes, entry) })
    }

    #[inline(never)]
    unsafe fn free(ptr: *mut u8, entry: FreeEntry) {
        let family = entry.family();
        heapwright_guard::free(ptr, Return { family, bytes: None, align_bytes: None });
    }

    #[inline(never)]
    unsafe fn free_told(ptr: *mut u8, entry: FreeEntry, told: Told) {
        let family = entry.family();
        let Told { bytes, align_bytes } = told;
        heapwright_guard::free(ptr, Return { family, bytes, align_bytes });
    }

    unsafe fn usable_bytes(ptr: *mut u8) -> usize {
        heapwright_guard::usable_bytes(ptr)
    }

    fn usage() -> Usage {
        let (live_bytes, guard_bytes) = heapwright_guard::usage();
        Usage { arena_bytes: guard_bytes, in_use_bytes: live_bytes, ..Usage::default() }
    }
}

heapwright_capi::export_c_symbols!(Checked);
heapwright_capi::export_jemalloc_symbols!(Checked);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

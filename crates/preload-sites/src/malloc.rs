//! The C allocation functions.

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

use heapwright_os::{Errno, set_errno};
use heapwright_site::{alloc, free, is_served, resize, usable_bytes};
use heapwright_unwind::ReturnSlot;

use crate::caller::trampolines;
use crate::real;

trampolines! {
    malloc(1) => malloc_at;
    calloc(2) => calloc_at;
    realloc(2) => realloc_at;
    reallocarray(3) => reallocarray_at;
    posix_memalign(3) => posix_memalign_at;
    aligned_alloc(2) => aligned_alloc_at;
    memalign(2) => memalign_at;
}

/// The address of our `malloc`.
pub(crate) fn hook_address() -> usize {
    unsafe extern "C" {
        fn heapwright_sites_own_malloc(size: usize) -> *mut c_void;
    }
    heapwright_sites_own_malloc as *const () as usize
}

/// A block of the region for this call, if it is the site's.
///
/// # Safety
/// - `slot` and `fp` come from this call's trampoline, and `align` is a power of two.
#[inline(always)]
pub(crate) unsafe fn of_site(
    size: usize,
    align: usize,
    (slot, fp): (ReturnSlot, usize),
) -> *mut c_void {
    // SAFETY: the trampoline's own values.
    let caller = unsafe { slot.caller(fp) };
    // SAFETY: the hook's caller is running: it waits for this call.
    unsafe { alloc(size, align, caller) }.cast()
}

/// What a call gets while the real functions are being looked up.
#[cold]
fn no_memory() -> *mut c_void {
    set_errno(Errno::ENOMEM);
    null_mut()
}

/// The real `malloc`; null while there is none.
#[inline(always)]
pub(crate) fn plain_malloc(size: usize) -> *mut c_void {
    match real::malloc() {
        // SAFETY: the real function takes any size.
        Some(malloc) => unsafe { malloc(size) },
        None => no_memory(),
    }
}

/// The real `free`.
#[inline(always)]
pub(crate) fn plain_free(block: *mut c_void) {
    if let Some(free) = real::free() {
        // SAFETY: the hook's caller owes a live block or null.
        unsafe { free(block) };
    }
}

extern "C" fn malloc_at(size: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
    // SAFETY: the trampoline's own values.
    let block = unsafe { of_site(size, 1, (slot, fp)) };
    if block.is_null() { plain_malloc(size) } else { block }
}

extern "C" fn calloc_at(count: usize, size: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
    if let Some(bytes) = count.checked_mul(size) {
        // SAFETY: the trampoline's own values.
        let block = unsafe { of_site(bytes, 1, (slot, fp)) };
        if !block.is_null() {
            // SAFETY: a fresh block of so many bytes.
            unsafe { block.cast::<u8>().write_bytes(0, bytes) };
            return block;
        }
    }
    match real::calloc() {
        // SAFETY: the real function takes any sizes.
        Some(calloc) => unsafe { calloc(count, size) },
        None => no_memory(),
    }
}

extern "C" fn realloc_at(
    block: *mut c_void,
    size: usize,
    slot: ReturnSlot,
    fp: usize,
) -> *mut c_void {
    if block.is_null() {
        // SAFETY: the trampoline's own values.
        let fresh = unsafe { of_site(size, 1, (slot, fp)) };
        if !fresh.is_null() {
            return fresh;
        }
    } else if is_served(block.cast()) {
        // SAFETY: the hook's caller owes a live block.
        return unsafe { resize_served(block, size) };
    }
    match real::realloc() {
        // SAFETY: the hook's caller owes a live block or null.
        Some(realloc) => unsafe { realloc(block, size) },
        None => no_memory(),
    }
}

/// `realloc` of a region's block; of no bytes it frees, as glibc's.
///
/// # Safety
/// - `block` is a live one of a region.
unsafe fn resize_served(block: *mut c_void, size: usize) -> *mut c_void {
    if size == 0 {
        // SAFETY: the caller's promise.
        unsafe { free(block.cast()) };
        return null_mut();
    }
    // SAFETY: the caller's promise; the real `malloc` gives null or a fresh block.
    unsafe { resize(block.cast(), size, |size| plain_malloc(size).cast()) }.cast()
}

extern "C" fn reallocarray_at(
    block: *mut c_void,
    count: usize,
    size: usize,
    slot: ReturnSlot,
    fp: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        Some(bytes) => realloc_at(block, bytes, slot, fp),
        None => no_memory(),
    }
}

extern "C" fn posix_memalign_at(
    place: *mut *mut c_void,
    align: usize,
    size: usize,
    slot: ReturnSlot,
    fp: usize,
) -> c_int {
    if align.is_power_of_two() && align >= size_of::<usize>() {
        // SAFETY: the trampoline's own values, and a power of two.
        let block = unsafe { of_site(size, align, (slot, fp)) };
        if !block.is_null() {
            // SAFETY: the hook's caller owes a place to write to.
            unsafe { place.write(block) };
            return 0;
        }
    }
    match real::posix_memalign() {
        // SAFETY: the hook's caller owes a place to write to.
        Some(posix_memalign) => unsafe { posix_memalign(place, align, size) },
        None => Errno::ENOMEM.0,
    }
}

extern "C" fn aligned_alloc_at(
    align: usize,
    size: usize,
    slot: ReturnSlot,
    fp: usize,
) -> *mut c_void {
    if align.is_power_of_two() {
        // SAFETY: the trampoline's own values, and a power of two.
        let block = unsafe { of_site(size, align, (slot, fp)) };
        if !block.is_null() {
            return block;
        }
    }
    match real::aligned_alloc() {
        // SAFETY: the real function checks its arguments.
        Some(aligned_alloc) => unsafe { aligned_alloc(align, size) },
        None => no_memory(),
    }
}

extern "C" fn memalign_at(align: usize, size: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
    if align.is_power_of_two() {
        // SAFETY: the trampoline's own values, and a power of two.
        let block = unsafe { of_site(size, align, (slot, fp)) };
        if !block.is_null() {
            return block;
        }
    }
    match real::memalign() {
        // SAFETY: the real function checks its arguments.
        Some(memalign) => unsafe { memalign(align, size) },
        None => no_memory(),
    }
}

/// Ends a region's block; whether it is one.
#[inline(always)]
pub(crate) fn free_served(block: *mut c_void) -> bool {
    let is_served = is_served(block.cast());
    if is_served {
        // SAFETY: the hook's caller owes a live block.
        unsafe { free(block.cast()) };
    }
    is_served
}

/// # Safety
/// - The C library's rules.
#[unsafe(export_name = "free")]
unsafe extern "C" fn free_hook(block: *mut c_void) {
    if !free_served(block) {
        plain_free(block);
    }
}

/// # Safety
/// - The C library's rules.
#[unsafe(no_mangle)]
unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { free_hook(block) }
}

/// # Safety
/// - The C library's rules.
#[unsafe(no_mangle)]
unsafe extern "C" fn free_sized(block: *mut c_void, size: usize) {
    if !free_served(block) {
        match real::free_sized() {
            // SAFETY: the caller's promise.
            Some(free_sized) => unsafe { free_sized(block, size) },
            None => plain_free(block),
        }
    }
}

/// # Safety
/// - The C library's rules.
#[unsafe(no_mangle)]
unsafe extern "C" fn free_aligned_sized(block: *mut c_void, align: usize, size: usize) {
    if !free_served(block) {
        match real::free_aligned_sized() {
            // SAFETY: the caller's promise.
            Some(free_aligned_sized) => unsafe { free_aligned_sized(block, align, size) },
            None => plain_free(block),
        }
    }
}

/// # Safety
/// - The C library's rules.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    if is_served(block.cast()) {
        // SAFETY: the caller's promise.
        return unsafe { usable_bytes(block.cast()) };
    }
    match real::usable_size() {
        // SAFETY: the caller's promise.
        Some(usable_size) => unsafe { usable_size(block) },
        None => 0,
    }
}

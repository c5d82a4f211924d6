//! The C functions as generic Rust functions: argument checks, `errno`, the call.
//!
//! [`export_c_symbols!`](crate::export_c_symbols) gives them their C names.
//! Sources for the rules: POSIX.1-2024 (`posix_memalign`, `reallocarray`, errno kept by `free`),
//! C23 (`free_sized`), glibc's manual (`memalign` rounds the alignment up, `pvalloc`).

use core::ffi::c_int;

use heapwright_os::{Errno, page_bytes, set_errno};

pub use crate::report::{malloc_info, malloc_stats};
use crate::{CAllocator, Entry, FreeEntry, Told};

/// The result, with `errno` set to `ENOMEM` when it is null.
#[inline(always)]
fn checked<A: CAllocator>(block: *mut u8) -> *mut u8 {
    if !A::KEEPS_C_RULES && block.is_null() {
        no_memory();
    }
    block
}

#[cold]
#[inline(never)]
fn no_memory() {
    set_errno(Errno::ENOMEM);
}

/// Null with `errno` set.
#[cold]
#[inline(never)]
fn refuse(errno: Errno) -> *mut u8 {
    set_errno(errno);
    core::ptr::null_mut()
}

/// `malloc`.
///
/// # Safety
/// - C's rules for the result.
#[inline(always)]
pub unsafe fn malloc<A: CAllocator>(bytes: usize) -> *mut u8 {
    if A::KEEPS_C_RULES {
        // SAFETY: the caller keeps C's rules for the block.
        return unsafe { A::malloc(bytes, Entry::Malloc) };
    }
    let block = A::malloc_at_once(bytes, Entry::Malloc);
    if !block.is_null() {
        return block;
    }
    // SAFETY: as above.
    unsafe { malloc_slow::<A>(bytes) }
}

/// `malloc` when no block is at hand.
///
/// # Safety
/// - As for [`malloc`].
#[inline(never)]
unsafe fn malloc_slow<A: CAllocator>(bytes: usize) -> *mut u8 {
    // SAFETY: the caller keeps C's rules for the block.
    checked::<A>(unsafe { A::malloc(bytes, Entry::Malloc) })
}

/// `calloc`.
///
/// # Safety
/// - C's rules for the result.
#[inline(always)]
pub unsafe fn calloc<A: CAllocator>(count: usize, unit_bytes: usize) -> *mut u8 {
    // SAFETY: the caller keeps C's rules for the block.
    checked::<A>(unsafe { A::calloc(count, unit_bytes) })
}

/// `realloc`.
///
/// # Safety
/// - C's rules: `ptr` is null or a live block of this allocator.
#[inline(always)]
pub unsafe fn realloc<A: CAllocator>(ptr: *mut u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller's promise about `ptr`, passed on.
    let block = unsafe { A::realloc(ptr, bytes, Entry::Realloc) };
    if bytes == 0 { block } else { checked::<A>(block) }
}

/// `reallocarray`.
///
/// # Safety
/// - As for [`realloc`].
#[inline(always)]
pub unsafe fn reallocarray<A: CAllocator>(
    ptr: *mut u8,
    count: usize,
    unit_bytes: usize,
) -> *mut u8 {
    let Some(bytes) = count.checked_mul(unit_bytes) else { return refuse(Errno::ENOMEM) };
    // SAFETY: the caller's promise about `ptr`, passed on.
    let block = unsafe { A::realloc(ptr, bytes, Entry::Reallocarray) };
    if bytes == 0 { block } else { checked::<A>(block) }
}

/// `free` in all its forms.
///
/// # Safety
/// - C's rules: `ptr` is null or a live block of this allocator.
#[inline(always)]
pub unsafe fn free<A: CAllocator>(ptr: *mut u8, entry: FreeEntry) {
    // SAFETY: the caller's promise, passed on.
    unsafe { A::free(ptr, entry) }
}

/// A form of `free` that takes a size, an alignment or both.
///
/// # Safety
/// - As for [`free`].
#[inline(always)]
pub unsafe fn free_told<A: CAllocator>(
    ptr: *mut u8,
    entry: FreeEntry,
    bytes: Option<usize>,
    align_bytes: Option<usize>,
) {
    // SAFETY: the caller's promise, passed on.
    unsafe { A::free_told(ptr, entry, Told { bytes, align_bytes }) }
}

/// `posix_memalign`: 0, `EINVAL` or `ENOMEM`; `errno` is not set and `*out` is written on
/// success only.
///
/// # Safety
/// - `out` may be written.
#[inline]
pub unsafe fn posix_memalign<A: CAllocator>(
    out: *mut *mut u8,
    align_bytes: usize,
    bytes: usize,
) -> c_int {
    if !align_bytes.is_power_of_two() || !align_bytes.is_multiple_of(size_of::<*mut u8>()) {
        return Errno::EINVAL.0;
    }
    // SAFETY: the alignment was checked above.
    let block = unsafe { A::memalign(align_bytes, bytes, Entry::PosixMemalign) };
    if block.is_null() {
        return Errno::ENOMEM.0;
    }
    // SAFETY: the caller's promise about `out`.
    unsafe { out.write(block) };
    0
}

/// `aligned_alloc`: `EINVAL` for an alignment that is not a power of two.
///
/// # Safety
/// - C's rules for the result.
#[inline]
pub unsafe fn aligned_alloc<A: CAllocator>(align_bytes: usize, bytes: usize) -> *mut u8 {
    if !align_bytes.is_power_of_two() {
        return refuse(Errno::EINVAL);
    }
    // SAFETY: the alignment was checked above.
    checked::<A>(unsafe { A::memalign(align_bytes, bytes, Entry::AlignedAlloc) })
}

/// `memalign`: an alignment that is not a power of two is rounded up to one.
///
/// # Safety
/// - C's rules for the result.
#[inline]
pub unsafe fn memalign<A: CAllocator>(align_bytes: usize, bytes: usize) -> *mut u8 {
    let Some(align_bytes) = align_bytes.checked_next_power_of_two() else {
        return refuse(Errno::EINVAL);
    };
    // SAFETY: the alignment was rounded up to a power of two.
    checked::<A>(unsafe { A::memalign(align_bytes, bytes, Entry::Memalign) })
}

/// `valloc`: aligned to the kernel's page.
///
/// # Safety
/// - C's rules for the result.
#[inline]
pub unsafe fn valloc<A: CAllocator>(bytes: usize) -> *mut u8 {
    // SAFETY: the kernel's page size is a power of two.
    checked::<A>(unsafe { A::memalign(page_bytes(), bytes, Entry::Valloc) })
}

/// `pvalloc`: aligned to the kernel's page and rounded up to whole pages.
///
/// # Safety
/// - C's rules for the result.
#[inline]
pub unsafe fn pvalloc<A: CAllocator>(bytes: usize) -> *mut u8 {
    let page = page_bytes();
    let Some(bytes) = bytes.max(1).checked_next_multiple_of(page) else {
        return refuse(Errno::ENOMEM);
    };
    // SAFETY: the kernel's page size is a power of two.
    checked::<A>(unsafe { A::memalign(page, bytes, Entry::Pvalloc) })
}

/// `malloc_usable_size`.
///
/// # Safety
/// - C's rules: `ptr` is null or a live block of this allocator.
#[inline(always)]
pub unsafe fn malloc_usable_size<A: CAllocator>(ptr: *mut u8) -> usize {
    // SAFETY: the caller's promise, passed on.
    unsafe { A::usable_bytes(ptr) }
}

/// `mallopt`: 1 when it was done, and for those of glibc's parameters that only say how glibc is to
/// work inside. Programs take 0 for an error, and those have no meaning here.
///
/// `M_PERTURB`, which is about what the program finds in its blocks, is not done and gives 0.
#[inline]
pub fn mallopt<A: CAllocator>(parameter: c_int, value: c_int) -> c_int {
    const M_MXFAST: c_int = 1;
    const M_TRIM_THRESHOLD: c_int = -1;
    const M_TOP_PAD: c_int = -2;
    const M_MMAP_THRESHOLD: c_int = -3;
    const M_MMAP_MAX: c_int = -4;
    const M_CHECK_ACTION: c_int = -5;
    const M_ARENA_TEST: c_int = -7;
    const M_ARENA_MAX: c_int = -8;
    let is_advice = matches!(
        parameter,
        M_MXFAST
            | M_TRIM_THRESHOLD
            | M_TOP_PAD
            | M_MMAP_THRESHOLD
            | M_MMAP_MAX
            | M_CHECK_ACTION
            | M_ARENA_TEST
            | M_ARENA_MAX
    );
    c_int::from(is_advice || A::set_parameter(parameter, value))
}

/// `malloc_trim`: 1 when memory went back to the kernel.
#[inline]
pub fn malloc_trim<A: CAllocator>() -> c_int {
    c_int::from(A::trim())
}

//! `mem*`: checked, then done here; the compiler itself calls some of them, also before the real
//! ones can be found.
//!
//! Until libc's are found the work is done by the processor's string instructions: a loop would be compiled into a call
//! of the function that it is in.

use core::ffi::c_int;

use heapwright_guard::{check_read, check_write};

use crate::real;

/// Copies upwards.
///
/// # Safety
/// - `memcpy`'s.
#[inline(always)]
unsafe fn copy_up(to: *mut u8, from: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rdi") to => _,
            inout("rsi") from => _,
            inout("rcx") bytes => _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    for index in 0..bytes {
        // SAFETY: the caller's promise.
        let byte = unsafe { from.wrapping_add(index).read_volatile() };
        // SAFETY: the caller's promise.
        unsafe { to.wrapping_add(index).write_volatile(byte) };
    }
}

/// Copies downwards.
///
/// # Safety
/// - `memmove`'s.
#[inline(always)]
unsafe fn copy_down(to: *mut u8, from: *const u8, bytes: usize) {
    let mut left = bytes;
    while left >= 8 {
        left -= 8;
        // SAFETY: the caller's promise.
        let word = unsafe { from.wrapping_add(left).cast::<[u8; 8]>().read_volatile() };
        // SAFETY: the caller's promise.
        unsafe { to.wrapping_add(left).cast::<[u8; 8]>().write_volatile(word) };
    }
    while left > 0 {
        left -= 1;
        // SAFETY: the caller's promise.
        let byte = unsafe { from.wrapping_add(left).read_volatile() };
        // SAFETY: the caller's promise.
        unsafe { to.wrapping_add(left).write_volatile(byte) };
    }
}

/// # Safety
/// - `memset`'s.
#[inline(always)]
unsafe fn set(to: *mut u8, value: c_int, bytes: usize) {
    if let Some(real) = real::memset() {
        // SAFETY: the caller's promise.
        unsafe { real(to, value, bytes) };
        return;
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rdi") to => _,
            inout("rcx") bytes => _,
            in("al") value as u8,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    for index in 0..bytes {
        // SAFETY: the caller's promise.
        unsafe { to.wrapping_add(index).write_volatile(value as u8) };
    }
}

/// # Safety
/// - `memmove`'s.
#[inline(always)]
unsafe fn copy_any(to: *mut u8, from: *const u8, bytes: usize) {
    if let Some(real) = real::memmove() {
        // SAFETY: the caller's promise.
        unsafe { real(to, from, bytes) };
    } else if to.addr().wrapping_sub(from.addr()) >= bytes {
        // SAFETY: the caller's promise; copying upwards reads each byte before it is overwritten.
        unsafe { copy_up(to, from, bytes) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { copy_down(to, from, bytes) };
    }
}

#[inline(always)]
fn check_copy(to: *mut u8, from: *const u8, bytes: usize, via: &'static str) {
    check_read(from.addr(), bytes, via);
    check_write(to.addr(), bytes, via);
}

macro_rules! copies {
    ($($name:ident, $via:literal, $copy:ident, $after:expr $(, $limit:ident)?;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            to: *mut u8, from: *const u8, bytes: usize $(, $limit: usize)?) -> *mut u8 {
            check_copy(to, from, bytes, $via);
            $(check_limit(bytes, $limit);)?
            // SAFETY: the caller's promise.
            unsafe { $copy(to, from, bytes) };
            let after: fn(*mut u8, usize) -> *mut u8 = $after;
            after(to, bytes)
        }
    )*};
}

copies! {
    memcpy, "memcpy", copy_any, |to, _| to;
    memmove, "memmove", copy_any, |to, _| to;
    mempcpy, "mempcpy", copy_any, |to, bytes| to.wrapping_add(bytes);
    __memcpy_chk, "memcpy", copy_any, |to, _| to, limit;
    __memmove_chk, "memmove", copy_any, |to, _| to, limit;
    __mempcpy_chk, "mempcpy", copy_any, |to, bytes| to.wrapping_add(bytes), limit;
}

/// What the compiler knew of the room is exceeded: libc would abort as well.
#[inline(always)]
fn check_limit(bytes: usize, limit: usize) {
    if bytes > limit {
        heapwright_os::abort();
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: c_int, bytes: usize) -> *mut u8 {
    check_write(to.addr(), bytes, "memset");
    // SAFETY: the caller's promise.
    unsafe { set(to, value, bytes) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __memset_chk(
    to: *mut u8,
    value: c_int,
    bytes: usize,
    limit: usize,
) -> *mut u8 {
    check_write(to.addr(), bytes, "memset");
    check_limit(bytes, limit);
    // SAFETY: the caller's promise.
    unsafe { set(to, value, bytes) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bzero(to: *mut u8, bytes: usize) {
    check_write(to.addr(), bytes, "bzero");
    // SAFETY: the caller's promise.
    unsafe { set(to, 0, bytes) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn explicit_bzero(to: *mut u8, bytes: usize) {
    check_write(to.addr(), bytes, "explicit_bzero");
    // SAFETY: the caller's promise.
    unsafe { set(to, 0, bytes) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcopy(from: *const u8, to: *mut u8, bytes: usize) {
    check_copy(to, from, bytes, "bcopy");
    // SAFETY: the caller's promise.
    unsafe { copy_any(to, from, bytes) };
}

/// How many bytes two ranges have in common at their beginnings, and their difference behind.
///
/// # Safety
/// - `memcmp`'s, as far as the ranges are equal and one byte more.
#[inline(always)]
unsafe fn compare(a: *const u8, b: *const u8, bytes: usize) -> (usize, c_int) {
    let mut index = 0;
    while index + 8 <= bytes && same_page(a, index) && same_page(b, index) {
        // SAFETY: both words lie in pages of which a byte is to be read anyway.
        let left = unsafe { a.wrapping_add(index).cast::<u64>().read_unaligned() };
        // SAFETY: as above.
        let right = unsafe { b.wrapping_add(index).cast::<u64>().read_unaligned() };
        if left != right {
            break;
        }
        index += 8;
    }
    while index < bytes {
        // SAFETY: the caller's promise.
        let left = unsafe { a.wrapping_add(index).read_volatile() };
        // SAFETY: as above.
        let right = unsafe { b.wrapping_add(index).read_volatile() };
        if left != right {
            return (index, c_int::from(left) - c_int::from(right));
        }
        index += 1;
    }
    (bytes, 0)
}

/// Whether eight bytes from `index` on lie in one page.
#[inline(always)]
fn same_page(start: *const u8, index: usize) -> bool {
    start.wrapping_add(index).addr() & 0xfff <= 0xff8
}

/// The bytes up to the first difference are checked: callers rely on no more being read.
#[inline(always)]
unsafe fn compare_checked(a: *const u8, b: *const u8, bytes: usize, via: &'static str) -> c_int {
    if bytes == 0 {
        return 0;
    }
    // The first bytes are read in any case: a freed block is told before the fault.
    check_read(a.addr(), 1, via);
    check_read(b.addr(), 1, via);
    // What is left of either block bounds what may be compared without a fault.
    let left = heapwright_guard::bytes_left(a.addr()).min(heapwright_guard::bytes_left(b.addr()));
    // SAFETY: the caller's promise, cut to the blocks.
    let (equal, order) = unsafe { compare(a, b, bytes.min(left)) };
    if equal == left && left < bytes {
        check_read(a.addr(), equal + 1, via);
        check_read(b.addr(), equal + 1, via);
        // SAFETY: the caller's promise.
        return unsafe { compare(a, b, bytes) }.1;
    }
    order
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, bytes: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { compare_checked(a, b, bytes, "memcmp") }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, bytes: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { compare_checked(a, b, bytes, "bcmp") }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memchr(start: *const u8, value: c_int, bytes: usize) -> *mut u8 {
    let left = heapwright_guard::bytes_left(start.addr());
    check_read(start.addr(), bytes.min(1), "memchr");
    // SAFETY: the caller's promise, cut to the block.
    let found = unsafe { real::memchr()(start, value, bytes.min(left)) };
    if !found.is_null() || bytes <= left {
        return found;
    }
    // Not found in the block: the search goes on behind it.
    check_read(start.addr(), left + 1, "memchr");
    // SAFETY: the caller's promise.
    unsafe { real::memchr()(start, value, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memccpy(to: *mut u8, from: *const u8, value: c_int, bytes: usize) -> *mut u8 {
    let left = heapwright_guard::bytes_left(from.addr()).min(bytes);
    // SAFETY: the caller's promise, cut to the block.
    let found = unsafe { real::memchr()(from, value, left) };
    let copied = if found.is_null() { bytes } else { found.addr() - from.addr() + 1 };
    check_copy(to, from, copied, "memccpy");
    // SAFETY: the caller's promise.
    unsafe { real::memccpy()(to, from, value, bytes) }
}

//! `str*`: how far a function reads and writes is found first, without leaving the block, and
//! checked; then the real function runs.

use core::ffi::{c_char, c_int, c_void};

use heapwright_guard::{bytes_left, check_read, check_write};

use crate::real;

/// Length of a string; an overread is told when its block has no end of it.
///
/// # Safety
/// - `text` is a string, as far as the caller knows.
#[inline]
pub(crate) unsafe fn checked_len(text: *const c_char, via: &'static str) -> usize {
    let left = bytes_left(text.addr());
    if left == usize::MAX {
        check_start(text, via);
        // SAFETY: the caller's promise.
        return unsafe { real::strlen()(text) };
    }
    // SAFETY: so many bytes are the block's.
    let length = unsafe { real::strnlen()(text, left) };
    if length < left {
        return length;
    }
    check_read(text.addr(), left + 1, via);
    // SAFETY: the caller's promise.
    unsafe { real::strlen()(text) }
}

/// Length of a string of at most `limit` bytes, checked.
///
/// # Safety
/// - As for `strnlen`.
#[inline]
pub(crate) unsafe fn checked_nlen(text: *const c_char, limit: usize, via: &'static str) -> usize {
    let left = bytes_left(text.addr());
    if left == usize::MAX && limit > 0 {
        check_start(text, via);
    }
    // SAFETY: so many bytes are the block's, or the caller's promise.
    let length = unsafe { real::strnlen()(text, limit.min(left)) };
    if length < left || limit <= left {
        return length;
    }
    check_read(text.addr(), left + 1, via);
    // SAFETY: the caller's promise.
    unsafe { real::strnlen()(text, limit) }
}

/// Tells when a string begins in a freed block, or outside a block.
#[inline(always)]
fn check_start(text: *const c_char, via: &'static str) {
    check_read(text.addr(), 1, via);
}

/// Checks two strings that are compared up to `limit` bytes: as far as they are equal.
///
/// # Safety
/// - As for `strncmp`.
#[inline]
unsafe fn check_compare(a: *const c_char, b: *const c_char, limit: usize, via: &'static str) {
    if limit == 0 {
        return;
    }
    check_start(a, via);
    check_start(b, via);
    let left = bytes_left(a.addr()).min(bytes_left(b.addr()));
    if left >= limit {
        return;
    }
    // SAFETY: so many bytes are the blocks', or the caller's promise.
    let order = unsafe { real::strncmp()(a, b, left) };
    // SAFETY: as above.
    let ends = unsafe { real::strnlen()(a, left) } < left;
    if order == 0 && !ends {
        check_read(a.addr(), left + 1, via);
        check_read(b.addr(), left + 1, via);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    // SAFETY: the caller's promise.
    unsafe { checked_len(text, "strlen") }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strnlen(text: *const c_char, limit: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { checked_nlen(text, limit, "strnlen") }
}

/// Copies of whole strings.
macro_rules! string_copies {
    ($($name:ident, $via:literal, $real:ident, ($($limit:ident)?);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            to: *mut c_char, from: *const c_char $(, $limit: usize)?) -> *mut c_char {
            // SAFETY: the caller's promise.
            let length = unsafe { checked_len(from, $via) };
            check_write(to.addr(), length + 1, $via);
            // SAFETY: the caller's promise.
            unsafe { real::$real()(to, from $(, $limit)?) }
        }
    )*};
}

string_copies! {
    strcpy, "strcpy", strcpy, ();
    stpcpy, "stpcpy", stpcpy, ();
    __strcpy_chk, "strcpy", strcpy_chk, (limit);
    __stpcpy_chk, "stpcpy", stpcpy_chk, (limit);
}

/// Copies of at most so many bytes, all of which are written.
macro_rules! bounded_copies {
    ($($name:ident, $via:literal, $real:ident, ($($limit:ident)?);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            to: *mut c_char, from: *const c_char, bytes: usize $(, $limit: usize)?) -> *mut c_char {
            // SAFETY: the caller's promise.
            unsafe { checked_nlen(from, bytes, $via) };
            check_write(to.addr(), bytes, $via);
            // SAFETY: the caller's promise.
            unsafe { real::$real()(to, from, bytes $(, $limit)?) }
        }
    )*};
}

bounded_copies! {
    strncpy, "strncpy", strncpy, ();
    stpncpy, "stpncpy", stpncpy, ();
    __strncpy_chk, "strncpy", strncpy_chk, (limit);
}

/// # Safety
/// - `strcat`'s, with the end of the second string found already.
unsafe fn check_append(to: *mut c_char, added: usize, via: &'static str) {
    // SAFETY: the caller's promise.
    let length = unsafe { checked_len(to, via) };
    check_write(to.addr() + length, added + 1, via);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strcat(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: the caller's promise.
    let added = unsafe { checked_len(from, "strcat") };
    // SAFETY: the caller's promise.
    unsafe { check_append(to, added, "strcat") };
    // SAFETY: the caller's promise.
    unsafe { real::strcat()(to, from) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strncat(to: *mut c_char, from: *const c_char, bytes: usize) -> *mut c_char {
    // SAFETY: the caller's promise.
    let added = unsafe { checked_nlen(from, bytes, "strncat") };
    // SAFETY: the caller's promise.
    unsafe { check_append(to, added, "strncat") };
    // SAFETY: the caller's promise.
    unsafe { real::strncat()(to, from, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __strcat_chk(
    to: *mut c_char,
    from: *const c_char,
    limit: usize,
) -> *mut c_char {
    // SAFETY: the caller's promise.
    let added = unsafe { checked_len(from, "strcat") };
    // SAFETY: the caller's promise.
    unsafe { check_append(to, added, "strcat") };
    // SAFETY: the caller's promise.
    unsafe { real::strcat_chk()(to, from, limit) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __strncat_chk(
    to: *mut c_char,
    from: *const c_char,
    bytes: usize,
    limit: usize,
) -> *mut c_char {
    // SAFETY: the caller's promise.
    let added = unsafe { checked_nlen(from, bytes, "strncat") };
    // SAFETY: the caller's promise.
    unsafe { check_append(to, added, "strncat") };
    // SAFETY: the caller's promise.
    unsafe { real::strncat_chk()(to, from, bytes, limit) }
}

macro_rules! comparisons {
    ($($name:ident, $via:literal, ($($limit:ident)?), $bound:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            a: *const c_char, b: *const c_char $(, $limit: usize)?) -> c_int {
            // SAFETY: the caller's promise.
            unsafe { check_compare(a, b, comparisons!(@bound $($limit)?), $via) };
            // SAFETY: the caller's promise.
            unsafe { real::$name()(a, b $(, $limit)?) }
        }
    )*};
    (@bound $limit:ident) => { $limit };
    (@bound) => { usize::MAX };
}

comparisons! {
    strcmp, "strcmp", (), ();
    strncmp, "strncmp", (bytes), ();
    strcasecmp, "strcasecmp", (), ();
    strncasecmp, "strncasecmp", (bytes), ();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strchr(text: *const c_char, wanted: c_int) -> *mut c_char {
    check_start(text, "strchr");
    let left = bytes_left(text.addr());
    // SAFETY: so many bytes are the block's.
    if left != usize::MAX && unsafe { real::strnlen()(text, left) } == left {
        // SAFETY: as above.
        let found = unsafe { real::memchr()(text.cast(), wanted, left) };
        if !found.is_null() {
            return found.cast();
        }
        check_read(text.addr(), left + 1, "strchr");
    }
    // SAFETY: the caller's promise.
    unsafe { real::strchr()(text, wanted) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strrchr(text: *const c_char, wanted: c_int) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe { checked_len(text, "strrchr") };
    // SAFETY: the caller's promise.
    unsafe { real::strrchr()(text, wanted) }
}

/// Functions of two strings that may stop early in the first one.
macro_rules! searches {
    ($($name:ident, $via:literal, $result:ty;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(text: *const c_char, wanted: *const c_char) -> $result {
            check_start(text, $via);
            // SAFETY: the caller's promise.
            unsafe { checked_len(wanted, $via) };
            // SAFETY: the caller's promise.
            unsafe { real::$name()(text, wanted) }
        }
    )*};
}

searches! {
    strstr, "strstr", *mut c_char;
    strpbrk, "strpbrk", *mut c_char;
    strspn, "strspn", usize;
    strcspn, "strcspn", usize;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strdup(text: *const c_char) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe { checked_len(text, "strdup") };
    // SAFETY: the caller's promise.
    unsafe { real::strdup()(text) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strndup(text: *const c_char, bytes: usize) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe { checked_nlen(text, bytes, "strndup") };
    // SAFETY: the caller's promise.
    unsafe { real::strndup()(text, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn puts(text: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { checked_len(text, "puts") };
    // SAFETY: the caller's promise.
    unsafe { real::puts()(text) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fputs(text: *const c_char, stream: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { checked_len(text, "fputs") };
    // SAFETY: the caller's promise.
    unsafe { real::fputs()(text, stream) }
}

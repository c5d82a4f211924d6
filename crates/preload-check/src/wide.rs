//! `wcs*` and `wmem*`: as `strings`, by characters of four bytes.

use core::ffi::{c_int, c_void};

use heapwright_guard::{bytes_left, check_read, check_write};

use crate::real::{self, Wide};

const WIDE_BYTES: usize = size_of::<Wide>();

/// Bytes of so many characters; as many as there can be, when that is too much.
fn bytes_of(count: usize) -> usize {
    count.saturating_mul(WIDE_BYTES)
}

/// Characters left in the block.
fn left(text: *const Wide) -> usize {
    match bytes_left(text.addr()) {
        usize::MAX => usize::MAX,
        bytes => bytes / WIDE_BYTES,
    }
}

fn check_start(text: *const Wide, via: &'static str) {
    check_read(text.addr(), WIDE_BYTES, via);
}

/// Length of a string in characters, checked.
///
/// # Safety
/// - `text` is a string, as far as the caller knows.
pub(crate) unsafe fn checked_len(text: *const Wide, via: &'static str) -> usize {
    let left = left(text);
    if left == usize::MAX {
        check_start(text, via);
        // SAFETY: the caller's promise.
        return unsafe { real::wcslen()(text) };
    }
    // SAFETY: so many characters are the block's.
    let length = unsafe { real::wcsnlen()(text, left) };
    if length < left {
        return length;
    }
    check_read(text.addr(), bytes_of(left + 1), via);
    // SAFETY: the caller's promise.
    unsafe { real::wcslen()(text) }
}

/// Length of a string of at most `limit` characters, checked.
///
/// # Safety
/// - As for `wcsnlen`.
pub(crate) unsafe fn checked_nlen(text: *const Wide, limit: usize, via: &'static str) -> usize {
    let left = left(text);
    if left == usize::MAX && limit > 0 {
        check_start(text, via);
    }
    // SAFETY: so many characters are the block's, or the caller's promise.
    let length = unsafe { real::wcsnlen()(text, limit.min(left)) };
    if length < left || limit <= left {
        return length;
    }
    check_read(text.addr(), bytes_of(left + 1), via);
    // SAFETY: the caller's promise.
    unsafe { real::wcsnlen()(text, limit) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wcslen(text: *const Wide) -> usize {
    // SAFETY: the caller's promise.
    unsafe { checked_len(text, "wcslen") }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wcsnlen(text: *const Wide, limit: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { checked_nlen(text, limit, "wcsnlen") }
}

macro_rules! string_copies {
    ($($name:ident, $via:literal, $real:ident, ($($limit:ident)?);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            to: *mut Wide, from: *const Wide $(, $limit: usize)?) -> *mut Wide {
            // SAFETY: the caller's promise.
            let length = unsafe { checked_len(from, $via) };
            check_write(to.addr(), bytes_of(length + 1), $via);
            // SAFETY: the caller's promise.
            unsafe { real::$real()(to, from $(, $limit)?) }
        }
    )*};
}

string_copies! {
    wcscpy, "wcscpy", wcscpy, ();
    __wcscpy_chk, "wcscpy", wcscpy_chk, (limit);
}

macro_rules! bounded_copies {
    ($($name:ident, $via:literal, $real:ident, ($($limit:ident)?);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            to: *mut Wide, from: *const Wide, count: usize $(, $limit: usize)?) -> *mut Wide {
            // SAFETY: the caller's promise.
            unsafe { checked_nlen(from, count, $via) };
            check_write(to.addr(), bytes_of(count), $via);
            // SAFETY: the caller's promise.
            unsafe { real::$real()(to, from, count $(, $limit)?) }
        }
    )*};
}

bounded_copies! {
    wcsncpy, "wcsncpy", wcsncpy, ();
    __wcsncpy_chk, "wcsncpy", wcsncpy_chk, (limit);
}

/// Joins: how far is read of the second string is `$length`.
macro_rules! joins {
    ($($name:ident, $via:literal, $real:ident, ($($count:ident)?), ($($limit:ident)?);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            to: *mut Wide, from: *const Wide $(, $count: usize)? $(, $limit: usize)?) -> *mut Wide {
            // SAFETY: the caller's promise.
            let added = unsafe { joins!(@length from, $via $(, $count)?) };
            // SAFETY: the caller's promise.
            let length = unsafe { checked_len(to, $via) };
            check_write(to.addr() + bytes_of(length), bytes_of(added + 1), $via);
            // SAFETY: the caller's promise.
            unsafe { real::$real()(to, from $(, $count)? $(, $limit)?) }
        }
    )*};
    (@length $from:ident, $via:literal) => { checked_len($from, $via) };
    (@length $from:ident, $via:literal, $count:ident) => { checked_nlen($from, $count, $via) };
}

joins! {
    wcscat, "wcscat", wcscat, (), ();
    wcsncat, "wcsncat", wcsncat, (count), ();
    __wcscat_chk, "wcscat", wcscat_chk, (), (limit);
    __wcsncat_chk, "wcsncat", wcsncat_chk, (count), (limit);
}

/// # Safety
/// - As for `wcsncmp`.
unsafe fn check_compare(a: *const Wide, b: *const Wide, limit: usize, via: &'static str) {
    if limit == 0 {
        return;
    }
    check_start(a, via);
    check_start(b, via);
    let left = left(a).min(left(b));
    if left >= limit {
        return;
    }
    // SAFETY: so many characters are the blocks', or the caller's promise.
    let order = unsafe { real::wcsncmp()(a, b, left) };
    // SAFETY: as above.
    let ends = unsafe { real::wcsnlen()(a, left) } < left;
    if order == 0 && !ends {
        check_read(a.addr(), bytes_of(left + 1), via);
        check_read(b.addr(), bytes_of(left + 1), via);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wcscmp(a: *const Wide, b: *const Wide) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_compare(a, b, usize::MAX, "wcscmp") };
    // SAFETY: the caller's promise.
    unsafe { real::wcscmp()(a, b) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wcsncmp(a: *const Wide, b: *const Wide, count: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_compare(a, b, count, "wcsncmp") };
    // SAFETY: the caller's promise.
    unsafe { real::wcsncmp()(a, b, count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wcschr(text: *const Wide, wanted: Wide) -> *mut Wide {
    check_start(text, "wcschr");
    // SAFETY: the caller's promise.
    unsafe { real::wcschr()(text, wanted) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wcsrchr(text: *const Wide, wanted: Wide) -> *mut Wide {
    // SAFETY: the caller's promise.
    unsafe { checked_len(text, "wcsrchr") };
    // SAFETY: the caller's promise.
    unsafe { real::wcsrchr()(text, wanted) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wcsstr(text: *const Wide, wanted: *const Wide) -> *mut Wide {
    check_start(text, "wcsstr");
    // SAFETY: the caller's promise.
    unsafe { checked_len(wanted, "wcsstr") };
    // SAFETY: the caller's promise.
    unsafe { real::wcsstr()(text, wanted) }
}

macro_rules! memory_copies {
    ($($name:ident, $via:literal, $real:ident, ($($limit:ident)?);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            to: *mut Wide, from: *const Wide, count: usize $(, $limit: usize)?) -> *mut Wide {
            check_read(from.addr(), bytes_of(count), $via);
            check_write(to.addr(), bytes_of(count), $via);
            // SAFETY: the caller's promise.
            unsafe { real::$real()(to, from, count $(, $limit)?) }
        }
    )*};
}

memory_copies! {
    wmemcpy, "wmemcpy", wmemcpy, ();
    wmemmove, "wmemmove", wmemmove, ();
    __wmemcpy_chk, "wmemcpy", wmemcpy_chk, (limit);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wmemset(to: *mut Wide, value: Wide, count: usize) -> *mut Wide {
    check_write(to.addr(), bytes_of(count), "wmemset");
    // SAFETY: the caller's promise.
    unsafe { real::wmemset()(to, value, count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wmemset_chk(
    to: *mut Wide,
    value: Wide,
    count: usize,
    limit: usize,
) -> *mut Wide {
    check_write(to.addr(), bytes_of(count), "wmemset");
    // SAFETY: the caller's promise.
    unsafe { real::wmemset_chk()(to, value, count, limit) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wcsdup(text: *const Wide) -> *mut Wide {
    // SAFETY: the caller's promise.
    unsafe { checked_len(text, "wcsdup") };
    // SAFETY: the caller's promise.
    unsafe { real::wcsdup()(text) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fputws(text: *const Wide, stream: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { checked_len(text, "fputws") };
    // SAFETY: the caller's promise.
    unsafe { real::fputws()(text, stream) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fgetws(to: *mut Wide, count: c_int, stream: *mut c_void) -> *mut Wide {
    // SAFETY: the caller's promise.
    let read = unsafe { real::fgetws()(to, count, stream) };
    if !read.is_null() {
        // SAFETY: a string was just put there.
        let length = unsafe { real::wcslen()(to) };
        check_write(to.addr(), bytes_of(length + 1), "fgetws");
    }
    read
}

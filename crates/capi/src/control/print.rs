//! `malloc_stats_print`: the figures as text or JSON, through the program's own function.

use core::ffi::{CStr, c_char, c_void};
use core::fmt::Write;

use heapwright_os::{Fd, write_all};

use crate::CAllocator;
use crate::report::Text;

/// Takes a piece of text, and what the program gave along.
pub type WriteText = unsafe extern "C" fn(*mut c_void, *const c_char);

/// `malloc_stats_print`: to `write`, or to standard error when there is none. The option `J` asks
/// for JSON with jemalloc's names; the others ask to leave parts out, which are not there.
///
/// # Safety
/// - `write` may be called with `opaque`; `options` is null or a C string.
pub unsafe fn malloc_stats_print<A: CAllocator>(
    write: Option<WriteText>,
    opaque: *mut c_void,
    options: *const c_char,
) {
    let wants_json = !options.is_null() && {
        // SAFETY: not null, so a C string by the caller's promise.
        unsafe { CStr::from_ptr(options) }.to_bytes().contains(&b'J')
    };
    let usage = A::usage();
    let version = A::VERSION.to_str().unwrap_or("");
    let (allocated, active) = (usage.in_use_bytes, usage.active_bytes());
    let (metadata, resident) = (usage.metadata_bytes, usage.resident_bytes());
    let (mapped, retained) = (usage.mapped_bytes(), 0);
    let mut text = Text::<1024>::new();
    // The buffer holds the longest numbers; it never fails.
    let _ = if wants_json {
        writeln!(
            text,
            "{{\"jemalloc\":{{\"version\":\"{version}\",\"stats\":{{\"allocated\":{allocated},\
             \"active\":{active},\"metadata\":{metadata},\"resident\":{resident},\
             \"mapped\":{mapped},\"retained\":{retained}}}}}}}"
        )
    } else {
        writeln!(
            text,
            "___ Begin heapwright statistics ___\nVersion: \"{version}\"\n\
             Allocated: {allocated}, active: {active}, metadata: {metadata}, \
             resident: {resident}, mapped: {mapped}, retained: {retained}\n\
             Large: {} in {} blocks; free in spans: {}; free runs not given back: {}\n\
             --- End heapwright statistics ---",
            usage.large_bytes, usage.large_count, usage.free_bytes, usage.trimmable_bytes,
        )
    };
    match write {
        // SAFETY: the caller's promise; the text ends with a zero byte.
        Some(write) => unsafe { write(opaque, text.as_ptr()) },
        // Nobody can be told of a failure here.
        None => drop(write_all(&Fd::STDERR, text.bytes())),
    }
}

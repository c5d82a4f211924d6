//! The life of the process: its start, and modules that go.

use core::ffi::{c_int, c_void};

use heapwright_os::any_symbol;
use heapwright_site::{after_unloading, before_unloading, start};

use crate::{malloc, real};

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

/// Begins, unless the program's calls of `malloc` do not come to us: where the executable has a
/// `malloc` of its own, a part of them would only mislead.
extern "C" fn at_start() {
    real::malloc();
    let first = any_symbol(c"malloc");
    if first.addr() == malloc::hook_address() {
        start();
    }
}

/// # Safety
/// - The C library's rules.
#[unsafe(no_mangle)]
unsafe extern "C" fn dlclose(handle: *mut c_void) -> c_int {
    let Some(dlclose) = real::dlclose() else { return -1 };
    before_unloading();
    // SAFETY: the caller answers for the handle.
    let result = unsafe { dlclose(handle) };
    after_unloading();
    result
}

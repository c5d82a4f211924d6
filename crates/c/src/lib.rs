//! `libheapwright.so` and `libheapwright.a`: what `heapwright.h` declares.
//!
//! Thin: checks of arguments, error values, nothing else. `include/heapwright.h` is the
//! documentation of every function; what it says about ownership and threads is the safety
//! contract of each `extern "C"` function here, and stands there once.
//!
//! No panic crosses into C: arguments that would make one are refused before, and what is left (a
//! broken invariant of ours) ends the process.
#![no_std]

mod backing;
mod buddy;
mod compacting;
mod dense;
mod error;
mod file_heap;
mod handles;
mod heap;
mod linear;
mod numa;
mod object;
mod offsets;
mod over;
mod pool;
mod slab;
mod stack;
mod statistics;

use core::ffi::{CStr, c_char};

pub use compacting::{HwCompaction, OnMove, Visit};
pub use error::{Error, Status};
pub use heap::{HwHeap, HwHeapOptions, HwLiveBlock, HwVisit};
pub use statistics::Statistics;

const VERSION: &CStr = c"0.1.0";
const _: () = assert!(VERSION.count_bytes() == env!("CARGO_PKG_VERSION").len());

/// `hw_version`: see the header.
#[unsafe(no_mangle)]
pub extern "C" fn hw_version() -> *const c_char {
    VERSION.as_ptr()
}

/// libc's functions for static programs, where the weak names of [`heapwright_os`] find none.
#[cfg(feature = "archive")]
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "a name among the linker's symbols")]
pub static heapwright_os_libc_functions: heapwright_os::LibcFunctions =
    heapwright_os::LibcFunctions::LINKED;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

//! snmalloc as a preloadable object, for comparisons: as its authors configure it, over the same
//! table of symbols as every other subject. Built only with the feature `snmalloc`, since it
//! needs a C++20 compiler: `cargo xtask build --snmalloc`.
#![no_std]

#[cfg(feature = "snmalloc")]
mod allocator;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

//! `libheapwright_sites.so`: preloaded, it serves the blocks of one call site by a region and
//! leaves everything else to the program's own allocator.
//!
//! `heapwright advise` runs programs with it, to measure what a region gains
//! (`docs/design/advice.md`). A process that is told of no site passes straight through.
#![no_std]

mod caller;
mod cpp;
mod malloc;
mod process;
mod real;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

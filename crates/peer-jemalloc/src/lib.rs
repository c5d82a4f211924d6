//! jemalloc as a preloadable object, for comparisons: as its authors configure it (statistics
//! compiled in, background threads off), over the same table of symbols as every other subject.
//! Its options are read from `_RJEM_MALLOC_CONF`.
#![no_std]

// Links the C library.
use tikv_jemalloc_sys as _;

heapwright_capi::c_library_allocator! {
    /// jemalloc behind the C table.
    pub struct Jemalloc;
    version: "jemalloc 5.3.1",
    malloc: _rjem_malloc,
    calloc: _rjem_calloc,
    realloc: _rjem_realloc,
    aligned: _rjem_memalign(align_bytes, bytes),
    free: _rjem_free,
    usable_bytes: _rjem_malloc_usable_size,
}

heapwright_capi::export_c_symbols!(Jemalloc);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

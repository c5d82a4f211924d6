//! mimalloc as a preloadable object, for comparisons: version 3 as its authors configure it, not
//! secure, over the same table of symbols as every other subject.
#![no_std]

// Links the C library.
use libmimalloc_sys as _;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

heapwright_capi::c_library_allocator! {
    /// mimalloc behind the C table.
    pub struct Mimalloc;
    version: "mimalloc 3.3.2",
    malloc: mi_malloc,
    calloc: mi_calloc,
    realloc: mi_realloc,
    aligned: mi_malloc_aligned(bytes, align_bytes),
    free: mi_free,
    usable_bytes: mi_usable_size,
    {
        fn trim() -> bool {
            // SAFETY: may be called at any time.
            unsafe { mi_collect(true) };
            true
        }
    }
}

heapwright_capi::export_c_symbols!(Mimalloc);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

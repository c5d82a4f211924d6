//! snmalloc behind the C table.

// Links the C++ library.
use snmalloc_sys as _;

heapwright_capi::c_library_allocator! {
    /// snmalloc behind the C table.
    pub struct Snmalloc;
    version: "snmalloc 0.7.6",
    malloc: sn_malloc,
    calloc: sn_calloc,
    realloc: sn_realloc,
    aligned: sn_rust_alloc(align_bytes, bytes),
    free: sn_free,
    usable_bytes: sn_malloc_usable_size,
}

heapwright_capi::export_c_symbols!(Snmalloc);

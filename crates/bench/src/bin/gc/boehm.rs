//! Boehm's collector, from the system's `libgc.so.1`, loaded when it is measured.

use crate::raw::Blocks;
use std::alloc::Layout;
use std::ffi::{CStr, c_void};

type GcMalloc = unsafe extern "C" fn(usize) -> *mut c_void;

/// The functions that the workloads need.
#[derive(Clone, Copy)]
pub struct Boehm {
    malloc: GcMalloc,
    collections: unsafe extern "C" fn() -> usize,
}

impl Boehm {
    /// Loads and starts the library.
    pub fn load() -> Result<Self, String> {
        // SAFETY: loading runs the library's initialisers, which expect nothing of us.
        let library = unsafe { libc::dlopen(c"libgc.so.1".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err("libgc.so.1 is not installed".into());
        }
        let symbol = |name: &CStr| {
            // SAFETY: a handle that was just opened, and a C string.
            let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
            if symbol.is_null() { Err(format!("no {name:?}")) } else { Ok(symbol) }
        };
        let (init, malloc) = (symbol(c"GC_init")?, symbol(c"GC_malloc")?);
        let collections = symbol(c"GC_get_gc_no")?;
        // SAFETY: `void GC_init(void)`.
        let init: unsafe extern "C" fn() = unsafe { std::mem::transmute(init) };
        // SAFETY: called once, before anything else of the library, on the main thread.
        unsafe { init() };
        Ok(Self {
            // SAFETY: `void *GC_malloc(size_t)`.
            malloc: unsafe { std::mem::transmute::<*mut c_void, GcMalloc>(malloc) },
            // SAFETY: `GC_word GC_get_gc_no(void)`.
            collections: unsafe { std::mem::transmute(collections) },
        })
    }

    pub fn collections(self) -> usize {
        // SAFETY: takes nothing and reads a counter.
        unsafe { (self.collections)() }
    }
}

impl Blocks for Boehm {
    const FREES: bool = false;

    fn block(self, layout: Layout) -> *mut u8 {
        // SAFETY: the library is initialised; the block is reached from this thread's stack, which
        // the collector scans.
        unsafe { (self.malloc)(layout.size()) }.cast()
    }

    unsafe fn free(self, _block: *mut u8, _layout: Layout) {}
}

//! An allocator that is a C library already, behind the table.

/// Declares a type whose [`CAllocator`](crate::CAllocator) passes every call on to the functions
/// of a C library, and exports the library's name and version as `heapwright_peer_version`.
///
/// The functions are named as the library exports them; `aligned` says in which order its aligned
/// allocation takes its arguments, `memalign(align_bytes, bytes)` or `(bytes, align_bytes)`. Items
/// of the trait that the library answers beyond these may follow in braces.
///
/// # Safety
/// - Who writes the name of a function says that the library linked in has it with C's meaning
///   and C's rules (`malloc(0)` is a block, `free` takes null, products are checked), that it does
///   not unwind, and that it calls its own functions, not the exported ones.
#[macro_export]
macro_rules! c_library_allocator {
    (
        $(#[$documentation:meta])*
        pub struct $name:ident;
        version: $version:literal,
        malloc: $malloc:ident,
        calloc: $calloc:ident,
        realloc: $realloc:ident,
        aligned: $aligned:ident($first:ident, $second:ident),
        free: $free:ident,
        usable_bytes: $usable_bytes:ident
        $(, { $($item:item)* })? $(,)?
    ) => {
        unsafe extern "C" {
            fn $malloc(bytes: usize) -> *mut u8;
            fn $calloc(count: usize, unit_bytes: usize) -> *mut u8;
            fn $realloc(ptr: *mut u8, bytes: usize) -> *mut u8;
            fn $aligned($first: usize, $second: usize) -> *mut u8;
            fn $free(ptr: *mut u8);
            fn $usable_bytes(ptr: *mut u8) -> usize;
        }

        /// Name and version, for reports: a NUL-terminated string.
        #[unsafe(export_name = "heapwright_peer_version")]
        pub static PEER_VERSION: [u8; $version.len() + 1] = {
            let mut name = [0; $version.len() + 1];
            let (text, _) = name.split_at_mut($version.len());
            text.copy_from_slice($version.as_bytes());
            name
        };

        $(#[$documentation])*
        #[derive(Debug)]
        pub struct $name;

        // SAFETY: what the macro's user says of the library.
        unsafe impl $crate::CAllocator for $name {
            const KEEPS_C_RULES: bool = true;

            #[inline(always)]
            unsafe fn malloc(bytes: usize, _entry: $crate::Entry) -> *mut u8 {
                // SAFETY: any size may be asked for.
                unsafe { $malloc(bytes) }
            }

            #[inline(always)]
            unsafe fn calloc(count: usize, unit_bytes: usize) -> *mut u8 {
                // SAFETY: the library checks the product.
                unsafe { $calloc(count, unit_bytes) }
            }

            #[inline(always)]
            unsafe fn realloc(ptr: *mut u8, bytes: usize, _entry: $crate::Entry) -> *mut u8 {
                // SAFETY: the caller's promise about `ptr`.
                unsafe { $realloc(ptr, bytes) }
            }

            #[inline(always)]
            unsafe fn memalign(
                align_bytes: usize,
                bytes: usize,
                _entry: $crate::Entry,
            ) -> *mut u8 {
                // SAFETY: the caller's promise: a power of two; in the order the library takes.
                unsafe { $crate::c_library_allocator!(@ordered $aligned $first align_bytes bytes) }
            }

            #[inline(always)]
            unsafe fn free(ptr: *mut u8, _entry: $crate::FreeEntry) {
                // SAFETY: the caller's promise about `ptr`.
                unsafe { $free(ptr) }
            }

            #[inline(always)]
            unsafe fn usable_bytes(ptr: *mut u8) -> usize {
                // SAFETY: the caller's promise about `ptr`.
                unsafe { $usable_bytes(ptr) }
            }

            $($($item)*)?
        }
    };
    (@ordered $aligned:ident align_bytes $align_bytes:ident $bytes:ident) => {
        $aligned($align_bytes, $bytes)
    };
    (@ordered $aligned:ident bytes $align_bytes:ident $bytes:ident) => {
        $aligned($bytes, $align_bytes)
    };
}

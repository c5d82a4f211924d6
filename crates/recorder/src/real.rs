//! The functions behind the hooks: those of the next objects.
//!
//! # Invariants
//! - I1: an entry is null or the address of the function it is named for, found by the loader,
//!   whose type is the one given here.

use core::ffi::{CStr, c_int, c_void};

use heapwright_os::next_symbol;
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, Ordering};

static STATE: AtomicU32 = AtomicU32::new(0);
const RESOLVING: u32 = 1;
const RESOLVED: u32 = 2;

macro_rules! real_functions {
    ($($field:ident: $name:literal, fn($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        /// Addresses of the real functions.
        struct Real { $($field: AtomicPtr<()>,)* }

        static REAL: Real = Real { $($field: AtomicPtr::new(core::ptr::null_mut()),)* };

        fn resolve_all() {
            $(
                const _: &CStr = $name;
                REAL.$field.store(next_symbol($name).cast_mut(), Ordering::Release);
            )*
        }

        $(
            /// The real function; none when no object has it.
            #[inline(always)]
            pub(crate) fn $field() -> Option<unsafe extern "C" fn($($type),*) $(-> $result)?> {
                let address = REAL.$field.load(Ordering::Acquire);
                if address.is_null() {
                    return None;
                }
                // SAFETY: I1.
                Some(unsafe { core::mem::transmute::<*mut (), unsafe extern "C" fn($($type),*) $(-> $result)?>(address) })
            }
        )*
    };
}

real_functions! {
    malloc: c"malloc", fn(size: usize) -> *mut c_void;
    calloc: c"calloc", fn(count: usize, size: usize) -> *mut c_void;
    realloc: c"realloc", fn(block: *mut c_void, size: usize) -> *mut c_void;
    reallocarray: c"reallocarray", fn(block: *mut c_void, count: usize, size: usize) -> *mut c_void;
    free: c"free", fn(block: *mut c_void);
    free_sized: c"free_sized", fn(block: *mut c_void, size: usize);
    free_aligned_sized: c"free_aligned_sized", fn(block: *mut c_void, align: usize, size: usize);
    posix_memalign: c"posix_memalign", fn(place: *mut *mut c_void, align: usize, size: usize) -> c_int;
    aligned_alloc: c"aligned_alloc", fn(align: usize, size: usize) -> *mut c_void;
    memalign: c"memalign", fn(align: usize, size: usize) -> *mut c_void;
    valloc: c"valloc", fn(size: usize) -> *mut c_void;
    pvalloc: c"pvalloc", fn(size: usize) -> *mut c_void;
    new_nothrow: c"_ZnwmRKSt9nothrow_t", fn(size: usize, tag: *const c_void) -> *mut c_void;
    new_array_nothrow: c"_ZnamRKSt9nothrow_t", fn(size: usize, tag: *const c_void) -> *mut c_void;
    new_aligned_nothrow: c"_ZnwmSt11align_val_tRKSt9nothrow_t", fn(size: usize, align: usize, tag: *const c_void) -> *mut c_void;
    new_array_aligned_nothrow: c"_ZnamSt11align_val_tRKSt9nothrow_t", fn(size: usize, align: usize, tag: *const c_void) -> *mut c_void;
    new_throwing: c"_Znwm", fn(size: usize) -> *mut c_void;
    new_array_throwing: c"_Znam", fn(size: usize) -> *mut c_void;
    new_aligned_throwing: c"_ZnwmSt11align_val_t", fn(size: usize, align: usize) -> *mut c_void;
    new_array_aligned_throwing: c"_ZnamSt11align_val_t", fn(size: usize, align: usize) -> *mut c_void;
    delete: c"_ZdlPv", fn(block: *mut c_void);
    delete_array: c"_ZdaPv", fn(block: *mut c_void);
    delete_aligned: c"_ZdlPvSt11align_val_t", fn(block: *mut c_void, align: usize);
    delete_array_aligned: c"_ZdaPvSt11align_val_t", fn(block: *mut c_void, align: usize);
    mmap: c"mmap", fn(place: *mut c_void, bytes: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    munmap: c"munmap", fn(place: *mut c_void, bytes: usize) -> c_int;
    mremap: c"mremap", fn(place: *mut c_void, old_bytes: usize, new_bytes: usize, flags: c_int, new_place: *mut c_void) -> *mut c_void;
    dlopen: c"dlopen", fn(path: *const core::ffi::c_char, flags: c_int) -> *mut c_void;
    dlclose: c"dlclose", fn(handle: *mut c_void) -> c_int;
    exit_now: c"_exit", fn(status: c_int);
    prctl: c"prctl", fn(option: c_int, a: usize, b: usize, c: usize, d: usize) -> c_int;
    syscall: c"syscall", fn(number: isize) -> isize;
}

/// Looks all functions up, once. False while that is under way: then calls get no memory. They can
/// only come from another thread, or from a function of the program that chooses another by the
/// CPU; the allocator behind us must not be asked, since it may be what just called us.
#[inline(always)]
pub(crate) fn ready() -> bool {
    STATE.load(Ordering::Acquire) == RESOLVED || resolve()
}

#[cold]
#[inline(never)]
fn resolve() -> bool {
    if STATE.compare_exchange(0, RESOLVING, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return STATE.load(Ordering::Acquire) == RESOLVED;
    }
    resolve_all();
    crate::pass::set_passes();
    crate::process::check_order();
    STATE.store(RESOLVED, Ordering::Release);
    true
}

/// Looks up again what was not there (a C++ runtime may have been loaded since).
#[cold]
pub(crate) fn resolve_again() {
    resolve_all();
    crate::pass::set_passes();
}

/// The address of the real `malloc`.
pub(crate) fn malloc_address() -> usize {
    REAL.malloc.load(Ordering::Relaxed).addr()
}

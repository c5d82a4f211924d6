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
/// What is missing after so many looks is taken to stay so.
static LOOK_UPS: AtomicU32 = AtomicU32::new(0);
const LOOK_UPS_MAX: u32 = 64;

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
            /// The real function; none when no object has it, or it is not known yet.
            #[inline(always)]
            pub(crate) fn $field() -> Option<unsafe extern "C" fn($($type),*) $(-> $result)?> {
                let address = REAL.$field.load(Ordering::Acquire);
                if address.is_null() {
                    return $field::look_up();
                }
                // SAFETY: I1.
                Some(unsafe { core::mem::transmute::<*mut (), unsafe extern "C" fn($($type),*) $(-> $result)?>(address) })
            }

            mod $field {
                use super::*;

                #[cold]
                #[inline(never)]
                pub(super) fn look_up() -> Option<unsafe extern "C" fn($($type),*) $(-> $result)?> {
                    resolve();
                    let address = REAL.$field.load(Ordering::Acquire);
                    if address.is_null() {
                        return None;
                    }
                    // SAFETY: I1.
                    Some(unsafe { core::mem::transmute::<*mut (), unsafe extern "C" fn($($type),*) $(-> $result)?>(address) })
                }
            }
        )*
    };
}

real_functions! {
    malloc: c"malloc", fn(size: usize) -> *mut c_void;
    calloc: c"calloc", fn(count: usize, size: usize) -> *mut c_void;
    realloc: c"realloc", fn(block: *mut c_void, size: usize) -> *mut c_void;
    free: c"free", fn(block: *mut c_void);
    free_sized: c"free_sized", fn(block: *mut c_void, size: usize);
    free_aligned_sized: c"free_aligned_sized", fn(block: *mut c_void, align: usize, size: usize);
    posix_memalign: c"posix_memalign", fn(place: *mut *mut c_void, align: usize, size: usize) -> c_int;
    aligned_alloc: c"aligned_alloc", fn(align: usize, size: usize) -> *mut c_void;
    memalign: c"memalign", fn(align: usize, size: usize) -> *mut c_void;
    usable_size: c"malloc_usable_size", fn(block: *mut c_void) -> usize;
    new: c"_Znwm", fn(size: usize) -> *mut c_void;
    new_array: c"_Znam", fn(size: usize) -> *mut c_void;
    new_aligned: c"_ZnwmSt11align_val_t", fn(size: usize, align: usize) -> *mut c_void;
    new_array_aligned: c"_ZnamSt11align_val_t", fn(size: usize, align: usize) -> *mut c_void;
    new_nothrow: c"_ZnwmRKSt9nothrow_t", fn(size: usize, tag: usize) -> *mut c_void;
    new_array_nothrow: c"_ZnamRKSt9nothrow_t", fn(size: usize, tag: usize) -> *mut c_void;
    new_aligned_nothrow: c"_ZnwmSt11align_val_tRKSt9nothrow_t", fn(size: usize, align: usize, tag: usize) -> *mut c_void;
    new_array_aligned_nothrow: c"_ZnamSt11align_val_tRKSt9nothrow_t", fn(size: usize, align: usize, tag: usize) -> *mut c_void;
    delete: c"_ZdlPv", fn(block: *mut c_void);
    delete_array: c"_ZdaPv", fn(block: *mut c_void);
    delete_sized: c"_ZdlPvm", fn(block: *mut c_void, size: usize);
    delete_array_sized: c"_ZdaPvm", fn(block: *mut c_void, size: usize);
    delete_nothrow: c"_ZdlPvRKSt9nothrow_t", fn(block: *mut c_void, tag: usize);
    delete_array_nothrow: c"_ZdaPvRKSt9nothrow_t", fn(block: *mut c_void, tag: usize);
    delete_aligned: c"_ZdlPvSt11align_val_t", fn(block: *mut c_void, align: usize);
    delete_array_aligned: c"_ZdaPvSt11align_val_t", fn(block: *mut c_void, align: usize);
    delete_aligned_nothrow: c"_ZdlPvSt11align_val_tRKSt9nothrow_t", fn(block: *mut c_void, align: usize, tag: usize);
    delete_array_aligned_nothrow: c"_ZdaPvSt11align_val_tRKSt9nothrow_t", fn(block: *mut c_void, align: usize, tag: usize);
    delete_sized_aligned: c"_ZdlPvmSt11align_val_t", fn(block: *mut c_void, size: usize, align: usize);
    delete_array_sized_aligned: c"_ZdaPvmSt11align_val_t", fn(block: *mut c_void, size: usize, align: usize);
    dlclose: c"dlclose", fn(handle: *mut c_void) -> c_int;
}

/// Looks all functions up: at the first call, and again when one is asked for that was not there
/// (a C++ runtime may have been loaded since). While that is under way for the first time calls get
/// no memory; they can only come from another thread, or from a function that chooses another by
/// the CPU.
fn resolve() {
    let is_late = LOOK_UPS.load(Ordering::Relaxed) >= LOOK_UPS_MAX;
    if !is_late && STATE.swap(RESOLVING, Ordering::AcqRel) != RESOLVING {
        LOOK_UPS.fetch_add(1, Ordering::Relaxed);
        resolve_all();
        STATE.store(RESOLVED, Ordering::Release);
    }
}

//! The dynamic loader: symbols of the objects after ours.
//!
//! On glibc the loader's functions are named with their first version, and weakly, as in
//! `libc_hooks`. Before 2.34 they are in libdl, which then has to be loaded by somebody: without
//! it no symbol is found.

use core::ffi::{CStr, c_char, c_void};

type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
type Dlerror = unsafe extern "C" fn() -> *mut c_char;

/// Addresses of weak functions; null where nothing has them.
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
mod weak {
    /// The address of `$name` in its first version, called `$alias` in the object
    /// file. A version given so holds for one object file only; so each block stands in a
    /// function that is compiled once.
    macro_rules! address {
        ($alias:literal, $name:literal) => {{
            let address: *const ();
            #[cfg(target_arch = "x86_64")]
            // SAFETY: reads one word of the global offset table, which the linker filled.
            unsafe {
                core::arch::asm!(
                    concat!(".weak ", $alias),
                    concat!(".symver ", $alias, ", ", $name, "@GLIBC_2.2.5, remove"),
                    concat!("mov {}, qword ptr [rip + ", $alias, "@GOTPCREL]"),
                    out(reg) address,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            unsafe {
                core::arch::asm!(
                    concat!(".weak ", $alias),
                    concat!(".symver ", $alias, ", ", $name, "@GLIBC_2.17, remove"),
                    concat!("adrp {0}, :got:", $alias),
                    concat!("ldr {0}, [{0}, :got_lo12:", $alias, "]"),
                    out(reg) address,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            address
        }};
    }

    #[inline(never)]
    pub(super) fn dlsym() -> *const () {
        address!("heapwright_os_dlsym", "dlsym")
    }

    #[inline(never)]
    pub(super) fn dlerror() -> *const () {
        address!("heapwright_os_dlerror", "dlerror")
    }
}

/// A program without a loader has no symbols to look for.
#[cfg(target_feature = "crt-static")]
mod weak {
    pub(super) fn dlsym() -> *const () {
        core::ptr::null()
    }

    pub(super) fn dlerror() -> *const () {
        core::ptr::null()
    }
}

#[cfg(not(any(target_env = "gnu", target_feature = "crt-static")))]
mod weak {
    pub(super) fn dlsym() -> *const () {
        libc::dlsym as *const ()
    }

    pub(super) fn dlerror() -> *const () {
        libc::dlerror as *const ()
    }
}

/// The address of `name` in the objects loaded after the one that calls; null when no such
/// object has it. The loader may allocate (through the very functions being looked up).
pub fn next_symbol(name: &CStr) -> *const () {
    symbol(libc::RTLD_NEXT, name)
}

/// The address of `name` in any object of the process, in the order in which the loader
/// searches; null when none has it.
pub fn any_symbol(name: &CStr) -> *const () {
    symbol(libc::RTLD_DEFAULT, name)
}

/// Forgets what the loader would next tell the program of a symbol that we looked for in vain.
pub fn forget_loader_error() {
    let dlerror = weak::dlerror();
    if !dlerror.is_null() {
        // SAFETY: the address of libc's dlerror, which has this type.
        let dlerror = unsafe { core::mem::transmute::<*const (), Dlerror>(dlerror) };
        // SAFETY: takes nothing; its text is not looked at.
        unsafe { dlerror() };
    }
}

#[inline(always)]
fn symbol(handle: *mut c_void, name: &CStr) -> *const () {
    let dlsym = weak::dlsym();
    if dlsym.is_null() {
        return core::ptr::null();
    }
    // SAFETY: the address of libc's dlsym, which has this type.
    let dlsym = unsafe { core::mem::transmute::<*const (), Dlsym>(dlsym) };
    // SAFETY: the name is NUL-terminated; the handle is one of those that always exist.
    unsafe { dlsym(handle, name.as_ptr()) }.cast_const().cast()
}

#[cfg(test)]
mod tests {
    use super::{any_symbol, forget_loader_error, next_symbol};

    #[test]
    fn symbols_of_libc_are_found_and_others_are_not() {
        assert!(!any_symbol(c"malloc").is_null());
        assert!(!next_symbol(c"getpid").is_null());
        assert!(any_symbol(c"heapwright_no_such_symbol").is_null());
        forget_loader_error();
        // SAFETY: takes nothing.
        assert!(unsafe { libc::dlerror() }.is_null(), "nothing is left to tell");
    }
}

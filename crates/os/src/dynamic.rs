//! The dynamic loader: symbols of the objects after ours.

use core::ffi::CStr;

/// The address of `name` in the objects loaded after the one that calls; null when no such
/// object has it. The loader may allocate (through the very functions being looked up).
pub fn next_symbol(name: &CStr) -> *const () {
    // SAFETY: the name is NUL-terminated; RTLD_NEXT is a handle that always exists.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }.cast_const().cast()
}

/// The address of `name` in any object of the process; null when none has it.
pub fn any_symbol(name: &CStr) -> *const () {
    // SAFETY: the name is NUL-terminated; RTLD_DEFAULT is a handle that always exists.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.cast_const().cast()
}

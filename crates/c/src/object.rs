//! Objects that C holds by pointer, in the program's own `malloc`; and arguments as layouts.

use core::alloc::Layout;
use core::ptr::NonNull;

use heapwright_os::{c_allocate, c_free};

use crate::error::Error;

/// What blocks are aligned to when C says 0.
const ALIGN_USUAL: usize = 16;

/// Puts `value` where C can hold it.
pub(crate) fn make<T>(value: T) -> Result<*mut T, (Error, T)> {
    const { assert!(align_of::<T>() <= 16, "the program's malloc aligns to 16") };
    match c_allocate(Layout::new::<T>()) {
        Some(place) => {
            let place = place.cast::<T>();
            // SAFETY: a fresh block for a `T`, aligned for one.
            unsafe { place.write(value) };
            Ok(place.as_ptr())
        }
        None => Err((Error::no_memory(size_of::<T>()), value)),
    }
}

/// Takes an object back from C.
///
/// # Safety
/// - `object` is of [`make`], not taken before, and nobody uses it any more.
pub(crate) unsafe fn take<T>(object: NonNull<T>) -> T {
    // SAFETY: the caller's promise.
    let value = unsafe { object.read() };
    // SAFETY: as above; the value has moved out.
    unsafe { c_free(object.cast()) };
    value
}

/// The object behind a pointer of C's, or an error for null.
///
/// # Safety
/// - `object` is null, or of [`make`] and not taken, and no other thread uses it meanwhile.
pub(crate) unsafe fn get<'a, T>(object: *const T) -> Result<&'a T, Error> {
    // SAFETY: the caller's promise.
    unsafe { object.as_ref() }.ok_or(Error::INVALID)
}

/// As [`get`], exclusively.
///
/// # Safety
/// - As for [`get`], and nothing else refers to it meanwhile.
pub(crate) unsafe fn get_mut<'a, T>(object: *mut T) -> Result<&'a mut T, Error> {
    // SAFETY: the caller's promise.
    unsafe { object.as_mut() }.ok_or(Error::INVALID)
}

/// A layout of C's numbers; an alignment of 0 is 16.
pub(crate) fn layout(bytes: usize, align_bytes: usize) -> Result<Layout, Error> {
    let align = if align_bytes == 0 { ALIGN_USUAL } else { align_bytes };
    if !align.is_power_of_two() {
        return Err(Error::INVALID);
    }
    let too_large =
        Error { requested_bytes: bytes as u64, ..Error::of(crate::error::Status::TooLarge) };
    Layout::from_size_align(bytes, align).map_err(|_| too_large)
}

/// A pointer of C's that may not be null.
pub(crate) fn block(block: *mut u8) -> Result<NonNull<u8>, Error> {
    NonNull::new(block).ok_or(Error::INVALID)
}

//! Linear arenas.

use core::ffi::c_char;

use heapwright_core::backing::Backing;
use heapwright_regions::{Linear, LocalCounts, Mark};

use crate::backing::HwBacking;
use crate::error::{Error, answer, status};
use crate::object;
use crate::over::Over;
use crate::statistics::{delete_function, statistics_function};

type Arena = Linear<&'static dyn Backing, LocalCounts, 16>;

/// `hw_linear`: see the header.
pub type HwLinear = Over<Arena>;

/// `hw_linear_mark`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HwLinearMark {
    opaque: [usize; 8],
}

const _: () = assert!(size_of::<Mark>() <= size_of::<HwLinearMark>());
const _: () = assert!(align_of::<Mark>() <= align_of::<HwLinearMark>());

/// `hw_linear_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_linear_new(
    backing: *mut HwBacking,
    error: *mut Error,
) -> *mut HwLinear {
    let make = |inner| Ok::<_, Error>(Arena::counted_in(inner, LocalCounts::new()));
    // SAFETY: the caller gives the backing up.
    let made = unsafe { Over::make(backing, make) };
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_linear_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_linear_alloc(
    linear: *mut HwLinear,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise: null or an arena of ours.
    let made = unsafe { object::get(linear) }.and_then(|linear| {
        let layout = object::layout(bytes, align_bytes)?;
        Ok(linear.allocator.try_alloc_layout(layout)?.as_ptr())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_linear_alloc_zeroed`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_linear_alloc_zeroed(
    linear: *mut HwLinear,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise: null or an arena of ours.
    let made = unsafe { object::get(linear) }.and_then(|linear| {
        let layout = object::layout(bytes, align_bytes)?;
        Ok(linear.allocator.try_alloc_layout_zeroed(layout)?.as_ptr())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_linear_resize`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_linear_resize(
    linear: *mut HwLinear,
    block: *mut u8,
    old_bytes: usize,
    new_bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise: null or an arena of ours.
    let made = unsafe { object::get(linear) }.and_then(|linear| {
        let block = object::block(block)?;
        let old = object::layout(old_bytes, align_bytes)?;
        let new = object::layout(new_bytes, align_bytes)?;
        let moved = if new.size() >= old.size() {
            // SAFETY: the caller's promise: a live block of that length.
            unsafe { linear.allocator.grow(block, old, new) }
        } else {
            // SAFETY: as above.
            unsafe { linear.allocator.shrink(block, old, new) }
        };
        Ok(moved?.as_ptr())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_linear_copy_text`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_linear_copy_text(
    linear: *mut HwLinear,
    text: *const c_char,
    error: *mut Error,
) -> *mut c_char {
    // SAFETY: the caller's promise: null or an arena of ours.
    let made = unsafe { object::get(linear) }.and_then(|linear| {
        if text.is_null() {
            return Err(Error::INVALID);
        }
        // SAFETY: the caller's string.
        let text = unsafe { core::ffi::CStr::from_ptr(text) }.to_bytes_with_nul();
        Ok(linear.allocator.try_alloc_slice_copy(text)?.as_mut_ptr().cast())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_linear_get_mark`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_linear_get_mark(
    linear: *const HwLinear,
    mark: *mut HwLinearMark,
) -> i32 {
    // SAFETY: the caller's promise: null or an arena of ours.
    let result = unsafe { object::get(linear) }.and_then(|linear| {
        let place = core::ptr::NonNull::new(mark).ok_or(Error::INVALID)?;
        // SAFETY: the caller's structure.
        unsafe { place.write(HwLinearMark { opaque: [0; 8] }) };
        // SAFETY: as above; it is larger than a mark and aligned for one.
        unsafe { place.cast::<Mark>().write(linear.allocator.mark()) };
        Ok(())
    });
    // SAFETY: there is no place to tell more.
    unsafe { status(result, core::ptr::null_mut()) }
}

/// `hw_linear_rewind`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_linear_rewind(
    linear: *mut HwLinear,
    mark: *const HwLinearMark,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or an arena of ours, which nobody else uses.
    let result = unsafe { object::get_mut(linear) }.and_then(|linear| {
        if mark.is_null() {
            return Err(Error::INVALID);
        }
        // SAFETY: the caller's promise: `hw_linear_get_mark` wrote a mark there.
        let mark = unsafe { mark.cast::<Mark>().read() };
        // SAFETY: the caller's promise: nobody uses a block made since.
        Ok(unsafe { linear.allocator.rewind(mark) }?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_linear_reset`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_linear_reset(linear: *mut HwLinear, keep_bytes: usize) -> i32 {
    // SAFETY: the caller's promise: null or an arena of ours, none of whose blocks are used.
    let result = unsafe { object::get_mut(linear) }.map(|linear| match keep_bytes {
        usize::MAX => linear.allocator.reset(),
        keep_bytes => linear.allocator.reset_and_trim(keep_bytes),
    });
    // SAFETY: there is no place to tell more.
    unsafe { status(result, core::ptr::null_mut()) }
}

statistics_function!(hw_linear_statistics, HwLinear, allocator);
delete_function!(hw_linear_delete, HwLinear);

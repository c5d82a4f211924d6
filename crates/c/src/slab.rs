//! Slabs: blocks of any size, by classes.

use heapwright_core::backing::Backing;
use heapwright_regions::{Lines, LocalCounts, Slab};

use crate::backing::HwBacking;
use crate::error::{Error, answer};
use crate::object;
use crate::over::Over;
use crate::statistics::{delete_function, statistics_function};

/// `hw_slab`: see the header.
pub type HwSlab = Over<Slab<&'static dyn Backing, LocalCounts>>;

/// `hw_slab_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_slab_new(
    backing: *mut HwBacking,
    bytes_max: usize,
    whole_lines: bool,
    error: *mut Error,
) -> *mut HwSlab {
    let lines = if whole_lines { Lines::Whole } else { Lines::Packed };
    let make = |inner| Slab::counted_in(inner, bytes_max, lines, LocalCounts::new());
    // SAFETY: the caller gives the backing up.
    let made = unsafe { Over::make(backing, make) };
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_slab_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_slab_alloc(
    slab: *mut HwSlab,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise: null or a slab of ours.
    let made = unsafe { object::get(slab) }.and_then(|slab| {
        Ok(slab.allocator.try_alloc(object::layout(bytes, align_bytes)?)?.as_ptr())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_slab_resize`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_slab_resize(
    slab: *mut HwSlab,
    block: *mut u8,
    old_bytes: usize,
    new_bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise: null or a slab of ours.
    let made = unsafe { object::get(slab) }.and_then(|slab| {
        let old = object::layout(old_bytes, align_bytes)?;
        let (new, block) = (object::layout(new_bytes, align_bytes)?, object::block(block)?);
        // SAFETY: the caller's promise: a live block of this slab, made for `old`.
        Ok(unsafe { slab.allocator.resize(block, old, new) }?.as_ptr())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_slab_free`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_slab_free(
    slab: *mut HwSlab,
    block: *mut u8,
    bytes: usize,
    align_bytes: usize,
) {
    // SAFETY: the caller's promise: null or a slab of ours.
    let slab = unsafe { object::get(slab) };
    let (layout, block) = (object::layout(bytes, align_bytes), object::block(block));
    if let (Ok(slab), Ok(layout), Ok(block)) = (slab, layout, block) {
        // SAFETY: the caller's promise: a live block of this slab, made for that, given up.
        unsafe { slab.allocator.free(block, layout) };
    }
}

/// `hw_slab_trim`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_slab_trim(slab: *mut HwSlab) {
    // SAFETY: the caller's promise: null or a slab of ours.
    if let Ok(slab) = unsafe { object::get(slab) } {
        slab.allocator.trim();
    }
}

statistics_function!(hw_slab_statistics, HwSlab, allocator);
delete_function!(hw_slab_delete, HwSlab);

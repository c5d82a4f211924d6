//! Buddy heaps.

use heapwright_core::backing::Backing;
use heapwright_regions::{Buddy, LocalCounts, Tails};

use crate::backing::HwBacking;
use crate::error::{Error, answer, status};
use crate::object;
use crate::over::Over;
use crate::statistics::{delete_function, statistics_function};

/// `hw_buddy`: see the header.
pub type HwBuddy = Over<Buddy<&'static dyn Backing, LocalCounts>>;

/// Whether tails of blocks are of use to others.
pub(crate) fn tails(trim: bool) -> Tails {
    if trim { Tails::Trim } else { Tails::Keep }
}

/// `hw_buddy_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_buddy_new(
    backing: *mut HwBacking,
    bytes: usize,
    leaf_bytes: usize,
    trim: bool,
    error: *mut Error,
) -> *mut HwBuddy {
    let make = |inner| Buddy::counted_in(inner, bytes, leaf_bytes, tails(trim), LocalCounts::new());
    // SAFETY: the caller gives the backing up.
    let made = unsafe { Over::make(backing, make) };
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_buddy_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_buddy_alloc(
    heap: *mut HwBuddy,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let made = unsafe { object::get(heap) }.and_then(|heap| {
        Ok(heap.allocator.try_alloc(object::layout(bytes, align_bytes)?)?.as_ptr())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_buddy_free`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_buddy_free(
    heap: *mut HwBuddy,
    block: *mut u8,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.and_then(|heap| {
        let (block, layout) = (object::block(block)?, object::layout(bytes, align_bytes)?);
        // SAFETY: it may be anything; if it is live, it has that layout and the caller gives it up.
        Ok(unsafe { heap.allocator.free(block, layout) }?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

statistics_function!(hw_buddy_statistics, HwBuddy, allocator);
delete_function!(hw_buddy_delete, HwBuddy);

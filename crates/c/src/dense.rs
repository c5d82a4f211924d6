//! Names for pointers that lie side by side, for those who walk them often.

use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_regions::{DensePool, Handle};

use crate::backing::HwBacking;
use crate::error::{Error, Status, answer};
use crate::object;
use crate::over::Over;
use crate::statistics::{delete_function, statistics_function};

type Value = NonNull<u8>;

/// `hw_dense`: see the header.
pub type HwDense = Over<DensePool<Value, &'static dyn Backing>>;

/// `hw_dense_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_dense_new(
    backing: *mut HwBacking,
    count_max: u32,
    error: *mut Error,
) -> *mut HwDense {
    let make = |inner| match count_max {
        0 => Ok::<_, Error>(DensePool::new_in(inner)),
        count => Ok(DensePool::with_capacity_max(inner, count)),
    };
    // SAFETY: the caller gives the backing up.
    let made = unsafe { Over::make(backing, make) };
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_dense_insert`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_dense_insert(
    dense: *mut HwDense,
    value: *mut u8,
    error: *mut Error,
) -> u64 {
    // SAFETY: the caller's promise: null or an object of ours, used by nobody else.
    let made = unsafe { object::get_mut(dense) }.and_then(|dense| {
        let value = object::block(value)?;
        match dense.allocator.insert(value) {
            Ok(handle) => Ok(handle.to_bits()),
            Err(_) => {
                dense.allocator.try_reserve(1)?;
                Err(Error::of(Status::Full))
            }
        }
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, 0) }
}

/// `hw_dense_get`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_dense_get(dense: *const HwDense, handle: u64) -> *mut u8 {
    // SAFETY: the caller's promise: null or an object of ours.
    let found = unsafe { object::get(dense) };
    let value = found.ok().and_then(|dense| dense.allocator.get(Handle::from_bits(handle)?));
    value.map_or(core::ptr::null_mut(), |value| value.as_ptr())
}

/// `hw_dense_remove`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_dense_remove(dense: *mut HwDense, handle: u64) -> *mut u8 {
    // SAFETY: the caller's promise: null or an object of ours, used by nobody else.
    let found = unsafe { object::get_mut(dense) };
    let value = found.ok().and_then(|dense| dense.allocator.remove(Handle::from_bits(handle)?));
    value.map_or(core::ptr::null_mut(), NonNull::as_ptr)
}

/// `hw_dense_values`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_dense_values(dense: *const HwDense, count: *mut usize) -> *const Value {
    // SAFETY: the caller's promise: null or an object of ours.
    let found = unsafe { object::get(dense) };
    let values = found.map_or(&[][..], |dense| dense.allocator.values());
    if let Some(count) = NonNull::new(count) {
        // SAFETY: the caller's number.
        unsafe { count.write(values.len()) };
    }
    if values.is_empty() { core::ptr::null() } else { values.as_ptr() }
}

statistics_function!(hw_dense_statistics, HwDense, allocator);
delete_function!(hw_dense_delete, HwDense);

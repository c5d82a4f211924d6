//! Names for pointers that are never taken for another's.

use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_regions::{Handle, HandlePool};

use crate::backing::HwBacking;
use crate::error::{Error, Status, answer};
use crate::object;
use crate::over::Over;
use crate::statistics::{delete_function, statistics_function};

type Value = NonNull<u8>;

/// `hw_handles`: see the header.
pub type HwHandles = Over<HandlePool<Value, &'static dyn Backing>>;

/// `hw_handles_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_handles_new(
    backing: *mut HwBacking,
    count_max: u32,
    error: *mut Error,
) -> *mut HwHandles {
    let make = |inner| match count_max {
        0 => Ok::<_, Error>(HandlePool::new_in(inner)),
        count => Ok(HandlePool::with_capacity_max(inner, count)),
    };
    // SAFETY: the caller gives the backing up.
    let made = unsafe { Over::make(backing, make) };
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_handles_insert`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_handles_insert(
    handles: *mut HwHandles,
    value: *mut u8,
    error: *mut Error,
) -> u64 {
    // SAFETY: the caller's promise: null or handles of ours, used by nobody else.
    let made = unsafe { object::get_mut(handles) }.and_then(|handles| {
        let value = object::block(value)?;
        match handles.allocator.insert(value) {
            Ok(handle) => Ok(handle.to_bits()),
            Err(_) => {
                handles.allocator.try_reserve(1)?;
                Err(Error::of(Status::Full))
            }
        }
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, 0) }
}

/// `hw_handles_get`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_handles_get(handles: *const HwHandles, handle: u64) -> *mut u8 {
    // SAFETY: the caller's promise: null or handles of ours.
    let found = unsafe { object::get(handles) };
    let value = found.ok().and_then(|handles| handles.allocator.get(Handle::from_bits(handle)?));
    value.map_or(core::ptr::null_mut(), |value| value.as_ptr())
}

/// `hw_handles_remove`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_handles_remove(handles: *mut HwHandles, handle: u64) -> *mut u8 {
    // SAFETY: the caller's promise: null or handles of ours, used by nobody else.
    let found = unsafe { object::get_mut(handles) };
    let value = found.ok().and_then(|handles| handles.allocator.remove(Handle::from_bits(handle)?));
    value.map_or(core::ptr::null_mut(), NonNull::as_ptr)
}

statistics_function!(hw_handles_statistics, HwHandles, allocator);
delete_function!(hw_handles_delete, HwHandles);

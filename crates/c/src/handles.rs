//! Names for pointers that are never taken for another's.

use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_regions::{Handle, HandlePool};

use crate::backing::{HwBacking, Owned};
use crate::error::{Error, Status, answer};
use crate::object;
use crate::statistics::{delete_function, statistics_function};

type Value = NonNull<u8>;

/// `hw_handles`: see the header.
pub struct HwHandles {
    /// Above its backing, so that it goes first.
    pool: HandlePool<Value, &'static dyn Backing>,
    _backing: Owned,
}

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
    // SAFETY: the caller gives the backing up.
    let made = unsafe { Owned::take(backing) }.and_then(|own| {
        // SAFETY: kept in the field below.
        let inner = unsafe { own.backing() };
        let pool = match count_max {
            0 => HandlePool::new_in(inner),
            count => HandlePool::with_capacity_max(inner, count),
        };
        object::make(HwHandles { pool, _backing: own }).map_err(|(error, one)| {
            drop(one.pool);
            one._backing.give_back(backing);
            error
        })
    });
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
        match handles.pool.insert(value) {
            Ok(handle) => Ok(handle.to_bits()),
            Err(_) => {
                handles.pool.try_reserve(1)?;
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
    let value = found.ok().and_then(|handles| handles.pool.get(Handle::from_bits(handle)?));
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
    let value = found.ok().and_then(|handles| handles.pool.remove(Handle::from_bits(handle)?));
    value.map_or(core::ptr::null_mut(), NonNull::as_ptr)
}

statistics_function!(hw_handles_statistics, HwHandles, pool);
delete_function!(hw_handles_delete, HwHandles);

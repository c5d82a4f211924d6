//! Pools of blocks of one size.

use heapwright_core::backing::Backing;
use heapwright_regions::{LocalCounts, Pool};

use crate::backing::{HwBacking, Owned};
use crate::error::{Error, answer, status};
use crate::object;
use crate::statistics::{delete_function, statistics_function};

/// `hw_pool`: see the header.
pub struct HwPool {
    /// Above its backing, so that it goes first.
    pool: Pool<&'static dyn Backing, LocalCounts>,
    _backing: Owned,
}

/// `hw_pool_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_pool_new(
    backing: *mut HwBacking,
    block_bytes: usize,
    align_bytes: usize,
    count: usize,
    error: *mut Error,
) -> *mut HwPool {
    let make = || {
        let layout = object::layout(block_bytes, align_bytes)?;
        // SAFETY: the caller gives the backing up.
        let own = unsafe { Owned::take(backing) }?;
        // SAFETY: kept in the field below.
        let inner = unsafe { own.backing() };
        let pool = match count {
            0 => Ok(Pool::counted_in(inner, layout, LocalCounts::new())),
            _ => Pool::counted_bounded(inner, layout, count, LocalCounts::new()),
        };
        match pool {
            Ok(pool) => object::make(HwPool { pool, _backing: own }).map_err(|(error, one)| {
                drop(one.pool);
                one._backing.give_back(backing);
                error
            }),
            Err(error) => {
                own.give_back(backing);
                Err(error.into())
            }
        }
    };
    // SAFETY: the caller's structure or null.
    unsafe { answer(make(), error, core::ptr::null_mut()) }
}

/// `hw_pool_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_pool_alloc(pool: *mut HwPool, error: *mut Error) -> *mut u8 {
    // SAFETY: the caller's promise: null or a pool of ours.
    let made = unsafe { object::get(pool) }.and_then(|pool| Ok(pool.pool.try_alloc()?.as_ptr()));
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_pool_free`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_pool_free(pool: *mut HwPool, block: *mut u8) {
    // SAFETY: the caller's promise: null or a pool of ours.
    if let (Ok(pool), Ok(block)) = (unsafe { object::get(pool) }, object::block(block)) {
        // SAFETY: the caller's promise: a live block of this pool, given up.
        unsafe { pool.pool.free(block) };
    }
}

/// `hw_pool_free_checked`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_pool_free_checked(
    pool: *mut HwPool,
    block: *mut u8,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a pool of ours.
    let result = unsafe { object::get(pool) }.and_then(|pool| {
        let block = object::block(block)?;
        // SAFETY: it may be anything; if it is live, the caller gives it up.
        Ok(unsafe { pool.pool.free_checked(block) }?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

statistics_function!(hw_pool_statistics, HwPool, pool);
delete_function!(hw_pool_delete, HwPool);

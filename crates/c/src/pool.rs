//! Pools of blocks of one size.

use heapwright_core::backing::Backing;
use heapwright_regions::{LocalCounts, Pool};

use crate::backing::HwBacking;
use crate::error::{Error, answer, status};
use crate::object;
use crate::over::Over;
use crate::statistics::{delete_function, statistics_function};

/// `hw_pool`: see the header.
pub type HwPool = Over<Pool<&'static dyn Backing, LocalCounts>>;

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
    let made = object::layout(block_bytes, align_bytes).and_then(|layout| {
        let pool = |inner| match count {
            0 => Ok(Pool::counted_in(inner, layout, LocalCounts::new())),
            _ => Pool::counted_bounded(inner, layout, count, LocalCounts::new()),
        };
        // SAFETY: the caller gives the backing up.
        unsafe { Over::make(backing, pool) }
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_pool_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_pool_alloc(pool: *mut HwPool, error: *mut Error) -> *mut u8 {
    // SAFETY: the caller's promise: null or a pool of ours.
    let made =
        unsafe { object::get(pool) }.and_then(|pool| Ok(pool.allocator.try_alloc()?.as_ptr()));
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
        unsafe { pool.allocator.free(block) };
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
        Ok(unsafe { pool.allocator.free_checked(block) }?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

statistics_function!(hw_pool_statistics, HwPool, allocator);
delete_function!(hw_pool_delete, HwPool);

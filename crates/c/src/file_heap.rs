//! Buddy heaps in files.

use core::ffi::{CStr, c_char};

use heapwright_regions::{FileHeap, FileHeapError, FileHeapShape};

use crate::buddy::tails;
use crate::error::{Error, answer, status};
use crate::object;
use crate::statistics::{delete_function, statistics_function};

/// `hw_file_heap`: see the header.
pub struct HwFileHeap {
    heap: FileHeap,
}

/// Roots that a heap has; see `FileHeap::set_root`.
const ROOT_COUNT: u32 = 8;

/// A heap of the file that C names.
///
/// # Safety
/// - `path` is null or a string that lives through the call; `error` is null or a structure.
unsafe fn make(
    path: *const c_char,
    open: impl FnOnce(&CStr) -> Result<FileHeap, FileHeapError>,
    error: *mut Error,
) -> *mut HwFileHeap {
    let made = if path.is_null() {
        Err(Error::INVALID)
    } else {
        // SAFETY: the caller's string.
        let path = unsafe { CStr::from_ptr(path) };
        open(path)
            .map_err(Error::from)
            .and_then(|heap| object::make(HwFileHeap { heap }).map_err(|(error, _)| error))
    };
    // SAFETY: the caller's promise.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_file_heap_create`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_create(
    path: *const c_char,
    application: u64,
    bytes: u64,
    leaf_bytes: u64,
    trim: bool,
    error: *mut Error,
) -> *mut HwFileHeap {
    let shape = FileHeapShape { bytes, leaf_bytes, tails: tails(trim) };
    // SAFETY: the caller's promise.
    unsafe { make(path, |path| FileHeap::create(path, application, shape), error) }
}

/// `hw_file_heap_open`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_open(
    path: *const c_char,
    application: u64,
    error: *mut Error,
) -> *mut HwFileHeap {
    // SAFETY: the caller's promise.
    unsafe { make(path, |path| FileHeap::open(path, application), error) }
}

/// `hw_file_heap_salvage`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_salvage(
    path: *const c_char,
    application: u64,
    error: *mut Error,
) -> *mut HwFileHeap {
    // SAFETY: the caller's promise.
    unsafe { make(path, |path| FileHeap::salvage(path, application), error) }
}

/// `hw_file_heap_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_alloc(
    heap: *mut HwFileHeap,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let made = unsafe { object::get(heap) }
        .and_then(|heap| Ok(heap.heap.try_alloc(object::layout(bytes, align_bytes)?)?.as_ptr()));
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_file_heap_free`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_free(
    heap: *mut HwFileHeap,
    block: *mut u8,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.and_then(|heap| {
        let (block, layout) = (object::block(block)?, object::layout(bytes, align_bytes)?);
        // SAFETY: it may be anything; if it is live, it has that layout and the caller gives it up.
        Ok(unsafe { heap.heap.free(block, layout) }?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_file_heap_at`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_at(heap: *const HwFileHeap, offset: u64) -> *mut u8 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let found = unsafe { object::get(heap) }.ok().and_then(|heap| heap.heap.at(offset));
    found.map_or(core::ptr::null_mut(), core::ptr::NonNull::as_ptr)
}

/// `hw_file_heap_offset`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_offset(heap: *const HwFileHeap, block: *const u8) -> u64 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let found = unsafe { object::get(heap) }.ok().and_then(|heap| {
        let mapping = heap.heap.mapping();
        let offset = block.addr().checked_sub(mapping.start().as_ptr().addr())?;
        heap.heap.at(offset as u64).map(|_| offset as u64)
    });
    found.unwrap_or(0)
}

/// `hw_file_heap_root`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_root(heap: *const HwFileHeap, index: u32) -> u64 {
    // SAFETY: the caller's promise: null or a heap of ours.
    match unsafe { object::get(heap) } {
        Ok(heap) if index < ROOT_COUNT => heap.heap.root(index as usize).unwrap_or(0),
        _ => 0,
    }
}

/// `hw_file_heap_set_root`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_set_root(
    heap: *mut HwFileHeap,
    index: u32,
    offset: u64,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.and_then(|heap| {
        if index >= ROOT_COUNT {
            return Err(Error::INVALID);
        }
        heap.heap.set_root(index as usize, offset);
        Ok(())
    });
    // SAFETY: there is no place to tell more.
    unsafe { status(result, core::ptr::null_mut()) }
}

/// `hw_file_heap_sync`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_sync(heap: *mut HwFileHeap, error: *mut Error) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.and_then(|heap| Ok(heap.heap.sync()?));
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_file_heap_check`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_check(heap: *const HwFileHeap, error: *mut Error) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.and_then(|heap| Ok(heap.heap.check()?));
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_file_heap_close`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_file_heap_close(heap: *mut HwFileHeap, error: *mut Error) -> i32 {
    let result = core::ptr::NonNull::new(heap).ok_or(Error::INVALID).and_then(|heap| {
        // SAFETY: the caller's promise: a heap of ours, given up.
        Ok(unsafe { object::take(heap) }.heap.close()?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

statistics_function!(hw_file_heap_statistics, HwFileHeap, heap);
delete_function!(hw_file_heap_delete, HwFileHeap);

//! Buddy heaps over offsets alone.

use core::alloc::Layout;
use core::ptr::NonNull;

use heapwright_os::{c_allocate, c_free};
use heapwright_regions::OffsetBuddy;

use crate::buddy::tails;
use crate::error::{Error, answer, status};
use crate::object;
use crate::statistics::{delete_function, statistics_function};

/// Words in the program's own `malloc`.
struct Words {
    start: NonNull<u64>,
    count: usize,
}

impl Words {
    /// `count` words, all zero.
    fn new(count: usize) -> Result<Self, Error> {
        let layout = Layout::array::<u64>(count).map_err(|_| Error::INVALID)?;
        let place = c_allocate(layout).ok_or(Error::no_memory(layout.size()))?;
        // SAFETY: a fresh block of that size.
        unsafe { place.write_bytes(0, layout.size()) };
        Ok(Self { start: place.cast(), count })
    }
}

impl AsRef<[u64]> for Words {
    fn as_ref(&self) -> &[u64] {
        let words = NonNull::slice_from_raw_parts(self.start, self.count);
        // SAFETY: that many words of ours alone, written when they were made.
        unsafe { words.as_ref() }
    }
}

impl AsMut<[u64]> for Words {
    fn as_mut(&mut self) -> &mut [u64] {
        let mut words = NonNull::slice_from_raw_parts(self.start, self.count);
        // SAFETY: as in `as_ref`, borrowed exclusively.
        unsafe { words.as_mut() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: taken in `new`, given back here, once.
        unsafe { c_free(self.start.cast()) };
    }
}

/// `hw_offsets`: see the header.
pub struct HwOffsets {
    heap: OffsetBuddy<Words>,
}

/// `hw_offsets_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_offsets_new(
    bytes: u64,
    leaf_bytes: u64,
    trim: bool,
    error: *mut Error,
) -> *mut HwOffsets {
    let make = || {
        let (table, starts) = OffsetBuddy::<Words>::words(bytes, leaf_bytes)?;
        let (table, starts) = (Words::new(table)?, Words::new(starts)?);
        let heap = OffsetBuddy::new(table, starts, bytes, leaf_bytes, tails(trim))?;
        object::make(HwOffsets { heap }).map_err(|(error, _)| error)
    };
    // SAFETY: the caller's structure or null.
    unsafe { answer(make(), error, core::ptr::null_mut()) }
}

/// `hw_offsets_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_offsets_alloc(
    heap: *mut HwOffsets,
    bytes: u64,
    align_bytes: u64,
    offset: *mut u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours, used by nobody else.
    let result = unsafe { object::get_mut(heap) }.and_then(|heap| {
        let place = NonNull::new(offset).ok_or(Error::INVALID)?;
        let placed = heap.heap.alloc(bytes, align_bytes.max(1))?;
        // SAFETY: the caller's number.
        unsafe { place.write(placed) };
        Ok(())
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_offsets_free`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_offsets_free(
    heap: *mut HwOffsets,
    offset: u64,
    bytes: u64,
    align_bytes: u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours, used by nobody else.
    let result = unsafe { object::get_mut(heap) }
        .and_then(|heap| Ok(heap.heap.free(offset, bytes, align_bytes.max(1))?));
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

statistics_function!(hw_offsets_statistics, HwOffsets, heap);
delete_function!(hw_offsets_delete, HwOffsets);

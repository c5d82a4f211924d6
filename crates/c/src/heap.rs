//! First-class heaps of the general allocator.

use core::alloc::Layout;
use core::ffi::{CStr, c_char, c_void};
use core::ptr::NonNull;

use heapwright_malloc::{LiveBlocks, WalkError, Zone, ZoneError, ZoneOptions, ZoneStatistics};

use crate::error::{Error, Status, answer, status};
use crate::object;
use crate::statistics::Statistics;

/// What `hw_heap_name` needs room for, the end included.
const NAME_ROOM_BYTES: usize = 33;

/// `hw_heap`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HwHeap {
    place: *const (),
    id: u64,
}

impl HwHeap {
    const NONE: Self = Self { place: core::ptr::null(), id: 0 };

    fn of(zone: Zone) -> Self {
        let (place, id) = zone.to_raw();
        Self { place, id }
    }

    /// The heap; an error for none.
    ///
    /// # Safety
    /// - The caller's value is none or was made by this library.
    unsafe fn zone(self) -> Result<Zone, Error> {
        // SAFETY: the caller's promise.
        unsafe { Zone::from_raw(self.place, self.id) }.ok_or(Error::INVALID)
    }
}

/// `hw_heap_options`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the header says what each means")]
pub struct HwHeapOptions {
    pub limit_bytes: usize,
    pub name: *const c_char,
    pub has_node: bool,
    pub node: u32,
}

/// `hw_live_block`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the header says what each means")]
pub struct HwLiveBlock {
    pub start: *mut u8,
    pub usable_bytes: usize,
    pub heap: HwHeap,
    pub size_class: i32,
}

/// `hw_visit`: see the header.
pub type HwVisit = unsafe extern "C" fn(*mut c_void, *const HwLiveBlock) -> bool;

impl From<ZoneError> for Error {
    fn from(error: ZoneError) -> Self {
        match error {
            ZoneError::Destroyed => Self::of(Status::Stale),
            ZoneError::OverLimit { usable_bytes, live_bytes, limit_bytes } => Self {
                requested_bytes: usable_bytes as u64,
                available_bytes: limit_bytes.saturating_sub(live_bytes) as u64,
                limit_bytes: limit_bytes as u64,
                ..Self::of(Status::OverLimit)
            },
            ZoneError::OutOfMemory { requested_bytes } => Self::no_memory(requested_bytes),
            _ => Self::of(Status::NoMemory),
        }
    }
}

impl From<WalkError> for Error {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::OutOfMemory { requested_bytes } => Self::no_memory(requested_bytes),
            WalkError::Destroyed => Self::of(Status::Stale),
            _ => Self::of(Status::NoMemory),
        }
    }
}

impl From<ZoneStatistics> for Statistics {
    fn from(seen: ZoneStatistics) -> Self {
        Self {
            live_count: seen.live_count as u64,
            live_bytes: seen.live_bytes as u64,
            peak_live_bytes: seen.peak_live_bytes as u64,
            requested_bytes: u64::MAX,
            reserved_bytes: seen.held_bytes as u64,
            committed_bytes: seen.held_bytes as u64,
            resident_bytes: u64::MAX,
            free_bytes: seen.held_bytes.saturating_sub(seen.live_bytes) as u64,
            largest_free_bytes: u64::MAX,
            failure_count: seen.failure_count,
        }
    }
}

/// `hw_heap_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_new(options: *const HwHeapOptions, error: *mut Error) -> HwHeap {
    let mut wished = ZoneOptions::new();
    // SAFETY: the caller's structure or null.
    if let Some(options) = unsafe { options.as_ref() } {
        if options.limit_bytes != 0 {
            wished = wished.limit(options.limit_bytes);
        }
        if options.has_node {
            wished = wished.node(options.node);
        }
        if !options.name.is_null() {
            // SAFETY: the caller's string.
            let name = unsafe { CStr::from_ptr(options.name) };
            // What is no UTF-8 is no name.
            wished = wished.name(name.to_str().unwrap_or(""));
        }
    }
    let made = Zone::create_with(wished).map(HwHeap::of).ok_or(Error::no_memory(0));
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, HwHeap::NONE) }
}

/// A block of `heap`, by `alloc`.
///
/// # Safety
/// - `heap` and `error` as the header says.
unsafe fn give(
    heap: HwHeap,
    (bytes, align_bytes): (usize, usize),
    error: *mut Error,
    alloc: fn(&Zone, Layout) -> Result<NonNull<u8>, ZoneError>,
) -> *mut u8 {
    // SAFETY: the caller's heap.
    let made = unsafe { heap.zone() }.and_then(|zone| {
        let layout = object::layout(bytes, align_bytes)?;
        Ok(alloc(&zone, layout)?.as_ptr())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_heap_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_alloc(
    heap: HwHeap,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { give(heap, (bytes, align_bytes), error, Zone::alloc) }
}

/// `hw_heap_alloc_zeroed`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_alloc_zeroed(
    heap: HwHeap,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { give(heap, (bytes, align_bytes), error, Zone::alloc_zeroed) }
}

/// `hw_heap_realloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_realloc(
    heap: HwHeap,
    block: *mut u8,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    let Some(block) = NonNull::new(block) else {
        // SAFETY: the caller's promise.
        return unsafe { hw_heap_alloc(heap, bytes, align_bytes, error) };
    };
    // SAFETY: the caller's heap.
    let made = unsafe { heap.zone() }.and_then(|zone| {
        let layout = object::layout(bytes, align_bytes)?;
        // SAFETY: the caller's live block.
        if unsafe { Zone::of(block.as_ptr()) } != Some(zone) {
            let address = block.addr().get() as u64;
            return Err(Error { address, ..Error::of(Status::NotOwned) });
        }
        // SAFETY: a live block of that heap; after success the caller uses only the result.
        Ok(unsafe { zone.realloc(block, layout.align(), bytes) }?.as_ptr())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_heap_free`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_free(block: *mut u8) {
    // SAFETY: the caller's promise: null or a live block, given up.
    unsafe { heapwright_malloc::free(block) };
}

/// `hw_heap_usable_bytes`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_usable_bytes(block: *mut u8) -> usize {
    // SAFETY: the caller's promise: null or a live block.
    unsafe { heapwright_malloc::usable_bytes(block) }
}

/// `hw_heap_of`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_of(block: *mut u8) -> HwHeap {
    // SAFETY: the caller's promise: null or a live block.
    unsafe { Zone::of(block) }.map_or(HwHeap::NONE, HwHeap::of)
}

/// What `act` says of the heap, as a status.
///
/// # Safety
/// - `heap` as the header says.
unsafe fn on_heap(heap: HwHeap, act: impl FnOnce(Zone) -> Result<(), Error>) -> i32 {
    // SAFETY: the caller's heap.
    let result = unsafe { heap.zone() }.and_then(act);
    // SAFETY: there is no place to tell more.
    unsafe { status(result, core::ptr::null_mut()) }
}

/// `hw_heap_set_limit`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_set_limit(heap: HwHeap, limit_bytes: usize) -> i32 {
    let limit_bytes = if limit_bytes == 0 { usize::MAX } else { limit_bytes };
    // SAFETY: the caller's promise.
    unsafe { on_heap(heap, |zone| Ok(zone.set_limit(limit_bytes)?)) }
}

/// `hw_heap_trim`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_trim(heap: HwHeap) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { on_heap(heap, |zone| Ok(zone.trim()?)) }
}

/// `hw_heap_delete`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_delete(heap: HwHeap) -> i32 {
    if heap.place.is_null() {
        return Status::Ok as i32;
    }
    let destroy = |zone: Zone| {
        // SAFETY: the caller's promise: no block is used any more.
        unsafe { zone.destroy() }.map_err(Error::from)
    };
    // SAFETY: the caller's promise.
    unsafe { on_heap(heap, destroy) }
}

/// `hw_heap_statistics`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_statistics(heap: HwHeap, out: *mut Statistics) -> i32 {
    let tell = |zone: Zone| {
        let out = NonNull::new(out).ok_or(Error::INVALID)?;
        let seen = zone.statistics()?;
        // SAFETY: the caller's structure.
        unsafe { out.write(seen.into()) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { on_heap(heap, tell) }
}

/// `hw_heap_name`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_name(heap: HwHeap, buffer: *mut c_char) -> i32 {
    let tell = |zone: Zone| {
        let buffer = NonNull::new(buffer).ok_or(Error::INVALID)?.cast::<[u8; NAME_ROOM_BYTES]>();
        let options = zone.options()?;
        let name = options.as_name().as_bytes();
        let mut text = [0; NAME_ROOM_BYTES];
        text[..name.len()].copy_from_slice(name);
        // SAFETY: the caller's buffer, of that many bytes.
        unsafe { buffer.write(text) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { on_heap(heap, tell) }
}

/// `hw_heap_walk`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_heap_walk(
    heap: HwHeap,
    visit: Option<HwVisit>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let walk = || {
        let visit = visit.ok_or(Error::INVALID)?;
        let blocks = if heap.place.is_null() {
            LiveBlocks::take()?
        } else {
            // SAFETY: the caller's heap.
            LiveBlocks::of_zone(unsafe { heap.zone() }?)?
        };
        for block in blocks {
            let told = HwLiveBlock {
                start: block.start,
                usable_bytes: block.usable_bytes,
                heap: block.zone.map_or(HwHeap::NONE, HwHeap::of),
                size_class: block.class_index.map_or(-1, |class_index| class_index as i32),
            };
            // SAFETY: the caller's function, called as the header says.
            if !unsafe { visit(context, &raw const told) } {
                break;
            }
        }
        Ok(())
    };
    let result = walk();
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// The text of an argument of C's; none for null and for what is no UTF-8.
///
/// # Safety
/// - `text` is null or a string that lives through the call of the result's user.
unsafe fn text_of<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's string.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// `hw_set_option`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_set_option(name: *const c_char, value: *const c_char) -> i32 {
    // SAFETY: the caller's strings.
    let texts = unsafe { text_of(name) }.zip(
        // SAFETY: as above.
        unsafe { text_of(value) },
    );
    let is_set =
        texts.is_some_and(|(name, value)| heapwright_malloc::set_option(name, value).is_ok());
    if is_set { Status::Ok as i32 } else { Status::Invalid as i32 }
}

/// `hw_option`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_option(name: *const c_char, value: *mut usize) -> i32 {
    // SAFETY: the caller's string.
    let found = unsafe { text_of(name) }.and_then(heapwright_malloc::option);
    match (found, NonNull::new(value)) {
        (Some(found), Some(value)) => {
            // SAFETY: the caller's word.
            unsafe { value.write(found) };
            Status::Ok as i32
        }
        _ => Status::Invalid as i32,
    }
}

//! Compacting heaps.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::time::Duration;

use heapwright_core::backing::Backing;
use heapwright_regions::{AccessError, CompactingHeap, Compaction, Handle, ResizeError};

use crate::backing::HwBacking;
use crate::error::{Error, Status, answer, status};
use crate::object;
use crate::over::Over;
use crate::statistics::{delete_function, statistics_function};

/// `hw_compacting`: see the header.
pub type HwCompacting = Over<CompactingHeap<&'static dyn Backing>>;

/// `hw_compaction`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the header says what each means")]
pub struct HwCompaction {
    pub moved_count: u64,
    pub moved_bytes: u64,
    pub released_bytes: u64,
    pub finished: bool,
}

/// `hw_moved`: see the header.
pub type OnMove = Option<unsafe extern "C" fn(*mut c_void, u64, *mut u8, *mut u8, usize)>;
/// `hw_compacting_visit`: see the header.
pub type Visit = Option<unsafe extern "C" fn(*mut c_void, u64, *mut u8, usize)>;

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Self {
        Self::of(match error {
            AccessError::Stale => Status::Stale,
            _ => Status::InUse,
        })
    }
}

/// What was done, where C wants it.
///
/// # Safety
/// - `out` is null or a caller's structure.
unsafe fn tell(done: Compaction, out: *mut HwCompaction) {
    if let Some(out) = NonNull::new(out) {
        let done = HwCompaction {
            moved_count: done.moved_count as u64,
            moved_bytes: done.moved_bytes as u64,
            released_bytes: done.released_bytes as u64,
            finished: done.finished,
        };
        // SAFETY: the caller's promise.
        unsafe { out.write(done) };
    }
}

fn named(handle: u64) -> Result<Handle<[u8]>, Error> {
    Handle::from_bits(handle).ok_or(Error::of(Status::Stale))
}

/// `hw_compacting_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_compacting_new(
    backing: *mut HwBacking,
    bytes_max: usize,
    error: *mut Error,
) -> *mut HwCompacting {
    let make = |inner| match bytes_max {
        0 => Ok::<_, Error>(CompactingHeap::new_in(inner)),
        bytes => Ok(CompactingHeap::with_capacity_max(inner, bytes)),
    };
    // SAFETY: the caller gives the backing up.
    let made = unsafe { Over::make(backing, make) };
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_compacting_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_compacting_alloc(
    heap: *mut HwCompacting,
    bytes: usize,
    error: *mut Error,
) -> u64 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let made = unsafe { object::get(heap) }
        .and_then(|heap| Ok(heap.allocator.insert_zeroed(bytes)?.to_bits()));
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, 0) }
}

/// `hw_compacting_free`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_compacting_free(
    heap: *mut HwCompacting,
    handle: u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result =
        unsafe { object::get(heap) }.and_then(|heap| Ok(heap.allocator.remove(named(handle)?)?));
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_compacting_resize`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_compacting_resize(
    heap: *mut HwCompacting,
    handle: u64,
    bytes: usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.and_then(|heap| {
        heap.allocator.resize(named(handle)?, bytes).map_err(|error| match error {
            ResizeError::Access(error) => error.into(),
            ResizeError::Alloc(error) => error.into(),
            _ => Error::of(Status::NoMemory),
        })
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_compacting_pin`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_compacting_pin(
    heap: *mut HwCompacting,
    handle: u64,
    bytes: *mut usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let found = unsafe { object::get(heap) }
        .and_then(|heap| Ok(heap.allocator.pin_unguarded(named(handle)?)?))
        .map(|block| {
            if let Some(bytes) = NonNull::new(bytes) {
                // SAFETY: the caller's number.
                unsafe { bytes.write(block.len()) };
            }
            block.cast().as_ptr()
        });
    // SAFETY: the caller's structure or null.
    unsafe { answer(found, error, core::ptr::null_mut()) }
}

/// `hw_compacting_unpin`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_compacting_unpin(
    heap: *mut HwCompacting,
    handle: u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.and_then(|heap| {
        let handle = named(handle)?;
        // SAFETY: pins in C are without guards; this one's pointer is used no more.
        Ok(unsafe { heap.allocator.unpin(handle) }?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_compacting_each`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_compacting_each(
    heap: *mut HwCompacting,
    visit: Visit,
    context: *mut c_void,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.and_then(|heap| {
        let visit = visit.ok_or(Error::INVALID)?;
        for (handle, _) in heap.allocator.iter() {
            let block = heap.allocator.pin_unguarded(handle)?;
            // SAFETY: the caller's function, with what it wants.
            unsafe { visit(context, handle.to_bits(), block.cast().as_ptr(), block.len()) };
            // SAFETY: the pin of two lines above, unless the visitor took it back.
            let _ = unsafe { heap.allocator.unpin(handle) };
        }
        Ok(())
    });
    // SAFETY: there is no place to tell more.
    unsafe { status(result, core::ptr::null_mut()) }
}

/// `hw_compacting_compact`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_compacting_compact(
    heap: *mut HwCompacting,
    out: *mut HwCompaction,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.map(|heap| {
        // SAFETY: the caller's structure or null.
        unsafe { tell(heap.allocator.compact(), out) };
    });
    // SAFETY: there is no place to tell more.
    unsafe { status(result, core::ptr::null_mut()) }
}

/// `hw_compacting_step`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_compacting_step(
    heap: *mut HwCompacting,
    nanoseconds: u64,
    on_move: OnMove,
    context: *mut c_void,
    out: *mut HwCompaction,
) -> i32 {
    // SAFETY: the caller's promise: null or a heap of ours.
    let result = unsafe { object::get(heap) }.map(|heap| {
        let done = heap.allocator.compact_for(Duration::from_nanos(nanoseconds), |moved| {
            if let Some(on_move) = on_move {
                let (from, to) = (moved.from.as_ptr(), moved.to.as_ptr());
                // SAFETY: the caller's function, with what it wants.
                unsafe { on_move(context, moved.handle.to_bits(), from, to, moved.bytes) };
            }
        });
        // SAFETY: the caller's structure or null.
        unsafe { tell(done, out) };
    });
    // SAFETY: there is no place to tell more.
    unsafe { status(result, core::ptr::null_mut()) }
}

statistics_function!(hw_compacting_statistics, HwCompacting, allocator);
delete_function!(hw_compacting_delete, HwCompacting);

//! The C allocation functions.

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

use heapwright_format::{AllocKind, FreeKind};
use heapwright_record::{Block, Guard, enter, leave};
use heapwright_unwind::{Registers, ReturnSlot};

use crate::caller::{plain_hooks, trampolines};
use crate::real;

trampolines! {
    malloc(1) => malloc_at;
    calloc(2) => calloc_at;
    realloc(2) => realloc_at;
    reallocarray(3) => reallocarray_at;
    posix_memalign(3) => posix_memalign_at;
    aligned_alloc(2) => aligned_alloc_at;
    memalign(2) => memalign_at;
    valloc(1) => valloc_at;
    pvalloc(1) => pvalloc_at;
}

plain_hooks! {
    free => free_at;
    cfree => free_at;
    free_sized => free_sized_at;
    free_aligned_sized => free_aligned_sized_at;
}

/// The address of our `malloc`.
pub(crate) fn hook_address() -> usize {
    unsafe extern "C" {
        fn heapwright_recorder_own_malloc(size: usize) -> *mut c_void;
    }
    heapwright_recorder_own_malloc as *const () as usize
}

/// Calls `allocate` and records its result as a block of `size` bytes.
///
/// # Safety
/// - `slot` and `fp` come from this call's trampoline.
#[inline(always)]
pub(crate) unsafe fn record(
    size: usize,
    kind: AllocKind,
    align_log2: u8,
    (slot, fp): (ReturnSlot, usize),
    allocate: impl FnOnce() -> *mut c_void,
) -> *mut c_void {
    let Some(guard) = enter() else { return allocate() };
    // SAFETY: the caller's promise.
    unsafe { record_in(guard, size, kind, align_log2, (slot, fp), allocate) }
}

/// [`record`] with the thread's recorder at hand.
///
/// # Safety
/// - As for [`record`].
#[inline(always)]
pub(crate) unsafe fn record_in(
    guard: Guard,
    size: usize,
    kind: AllocKind,
    align_log2: u8,
    (slot, fp): (ReturnSlot, usize),
    allocate: impl FnOnce() -> *mut c_void,
) -> *mut c_void {
    let block = allocate();
    // SAFETY: the trampoline's own values.
    let caller = unsafe { slot.caller(fp) };
    // SAFETY: the hook's caller is running: it waits for this call.
    unsafe { tell(guard, block, size, kind, align_log2, caller) };
    leave(guard);
    block
}

/// Records what an allocation gave.
///
/// # Safety
/// - `caller` is the state of a running function of this thread.
#[inline(always)]
unsafe fn tell(
    guard: Guard,
    block: *mut c_void,
    size: usize,
    kind: AllocKind,
    align_log2: u8,
    caller: Registers,
) {
    if block.is_null() {
        // The loader's own requests, while it looks for the real functions, are nobody's.
        if real::ready() {
            // SAFETY: the caller's promise.
            unsafe { guard.failed(size, kind, caller) };
        }
    } else {
        let block = Block { address: block.addr(), size, kind, align_log2 };
        // SAFETY: the caller's promise.
        unsafe { guard.alloc(block, caller) };
    }
}

pub(crate) fn log2(align: usize) -> u8 {
    if align.is_power_of_two() { align.trailing_zeros() as u8 } else { 0 }
}

/// What a call gets while the real functions are being looked up.
#[cold]
fn no_memory() -> *mut c_void {
    heapwright_os::set_errno(heapwright_os::Errno::ENOMEM);
    null_mut()
}

/// The real `malloc`; null while there is none.
#[inline(always)]
pub(crate) fn plain_malloc(size: usize) -> *mut c_void {
    match real::ready().then(real::malloc).flatten() {
        // SAFETY: the real function takes any size.
        Some(malloc) => unsafe { malloc(size) },
        None => no_memory(),
    }
}

/// The real `free`.
#[inline(always)]
pub(crate) fn plain_free(block: *mut c_void) {
    if let Some(free) = real::ready().then(real::free).flatten() {
        // SAFETY: the hook's caller owes a live block or null.
        unsafe { free(block) };
    }
}

extern "C" fn malloc_at(size: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
    // SAFETY: the trampoline's own values.
    unsafe { record(size, AllocKind::Malloc, 0, (slot, fp), || plain_malloc(size)) }
}

extern "C" fn calloc_at(count: usize, size: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
    let bytes = count.saturating_mul(size);
    let allocate = || match real::ready().then(real::calloc).flatten() {
        // SAFETY: the real function takes any sizes.
        Some(calloc) => unsafe { calloc(count, size) },
        None => no_memory(),
    };
    // SAFETY: the trampoline's own values.
    unsafe { record(bytes, AllocKind::Calloc, 0, (slot, fp), allocate) }
}

extern "C" fn realloc_at(
    block: *mut c_void,
    size: usize,
    slot: ReturnSlot,
    fp: usize,
) -> *mut c_void {
    let resize = || match real::ready().then(real::realloc).flatten() {
        // SAFETY: the hook's caller owes a live block or null.
        Some(realloc) => unsafe { realloc(block, size) },
        None => null_mut(),
    };
    // SAFETY: the trampoline's own values.
    unsafe { resized(block, size, AllocKind::Realloc, (slot, fp), resize) }
}

extern "C" fn reallocarray_at(
    block: *mut c_void,
    count: usize,
    size: usize,
    slot: ReturnSlot,
    fp: usize,
) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else {
        // The real function says no and sets errno; nothing happens to the block.
        return match real::ready().then(real::reallocarray).flatten() {
            // SAFETY: the hook's caller owes a live block or null.
            Some(reallocarray) => unsafe { reallocarray(block, count, size) },
            None => {
                heapwright_os::set_errno(heapwright_os::Errno::ENOMEM);
                null_mut()
            }
        };
    };
    let resize = || match real::ready().then(real::realloc).flatten() {
        // SAFETY: the hook's caller owes a live block or null.
        Some(realloc) => unsafe { realloc(block, bytes) },
        None => null_mut(),
    };
    // SAFETY: the trampoline's own values.
    unsafe { resized(block, bytes, AllocKind::Reallocarray, (slot, fp), resize) }
}

/// Resizes by `resize` and records what became of `block`.
///
/// # Safety
/// - `slot` and `fp` come from this call's trampoline.
unsafe fn resized(
    block: *mut c_void,
    size: usize,
    kind: AllocKind,
    (slot, fp): (ReturnSlot, usize),
    resize: impl FnOnce() -> *mut c_void,
) -> *mut c_void {
    if block.is_null() {
        // SAFETY: the caller's promise.
        return unsafe { record(size, kind, 0, (slot, fp), resize) };
    }
    let Some(guard) = enter() else { return resize() };
    // SAFETY: the trampoline's own values.
    let caller = unsafe { slot.caller(fp) };
    let new = if size == 0 {
        guard.free(block.addr(), FreeKind::ReallocZero);
        let new = resize();
        if !new.is_null() {
            // SAFETY: the hook's caller is running: it waits for this call.
            unsafe { tell(guard, new, 0, kind, 0, caller) };
        }
        new
    } else {
        let resizing = guard.resize_begins(block.addr());
        let new = resize();
        if new.is_null() {
            // SAFETY: as above.
            unsafe { guard.resize_failed(resizing, size, kind, caller) };
        } else {
            let after = Block { address: new.addr(), size, kind, align_log2: 0 };
            // SAFETY: as above.
            unsafe { guard.resized(resizing, after, caller) };
        }
        new
    };
    leave(guard);
    new
}

extern "C" fn posix_memalign_at(
    place: *mut *mut c_void,
    align: usize,
    size: usize,
    slot: ReturnSlot,
    fp: usize,
) -> c_int {
    let Some(real) = real::ready().then(real::posix_memalign).flatten() else {
        return heapwright_os::Errno::ENOMEM.0;
    };
    let Some(guard) = enter() else {
        // SAFETY: the hook's caller owes a place to write to.
        return unsafe { real(place, align, size) };
    };
    // SAFETY: as above.
    let result = unsafe { real(place, align, size) };
    let block = if result == 0 {
        // SAFETY: the real function has just written the block there.
        unsafe { place.read() }
    } else {
        null_mut()
    };
    // SAFETY: the trampoline's own values.
    let caller = unsafe { slot.caller(fp) };
    // SAFETY: the hook's caller is running: it waits for this call.
    unsafe { tell(guard, block, size, AllocKind::PosixMemalign, log2(align), caller) };
    leave(guard);
    result
}

extern "C" fn aligned_alloc_at(
    align: usize,
    size: usize,
    slot: ReturnSlot,
    fp: usize,
) -> *mut c_void {
    let allocate = || match real::ready().then(real::aligned_alloc).flatten() {
        // SAFETY: the real function checks its arguments.
        Some(aligned_alloc) => unsafe { aligned_alloc(align, size) },
        None => no_memory(),
    };
    // SAFETY: the trampoline's own values.
    unsafe { record(size, AllocKind::AlignedAlloc, log2(align), (slot, fp), allocate) }
}

extern "C" fn memalign_at(align: usize, size: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
    let allocate = || match real::ready().then(real::memalign).flatten() {
        // SAFETY: the real function checks its arguments.
        Some(memalign) => unsafe { memalign(align, size) },
        None => no_memory(),
    };
    // SAFETY: the trampoline's own values.
    unsafe { record(size, AllocKind::Memalign, log2(align), (slot, fp), allocate) }
}

extern "C" fn valloc_at(size: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
    let allocate = || match real::ready().then(real::valloc).flatten() {
        // SAFETY: the real function takes any size.
        Some(valloc) => unsafe { valloc(size) },
        None => null_mut(),
    };
    let align = log2(heapwright_os::page_bytes());
    // SAFETY: the trampoline's own values.
    unsafe { record(size, AllocKind::Valloc, align, (slot, fp), allocate) }
}

extern "C" fn pvalloc_at(size: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
    let allocate = || match real::ready().then(real::pvalloc).flatten() {
        // SAFETY: the real function takes any size.
        Some(pvalloc) => unsafe { pvalloc(size) },
        None => null_mut(),
    };
    let align = log2(heapwright_os::page_bytes());
    // SAFETY: the trampoline's own values.
    unsafe { record(size, AllocKind::Pvalloc, align, (slot, fp), allocate) }
}

/// Records the end of `block` and ends it by `release`.
#[inline(always)]
pub(crate) fn record_free(block: *mut c_void, kind: FreeKind, release: impl FnOnce()) {
    if block.is_null() {
        return;
    }
    let Some(guard) = enter() else { return release() };
    guard.free(block.addr(), kind);
    release();
    leave(guard);
}

extern "C" fn free_at(block: *mut c_void) {
    record_free(block, FreeKind::Free, || plain_free(block));
}

extern "C" fn free_sized_at(block: *mut c_void, size: usize) {
    record_free(block, FreeKind::FreeSized, || {
        match real::ready().then(real::free_sized).flatten() {
            // SAFETY: the hook's caller owes a live block and its size.
            Some(free_sized) => unsafe { free_sized(block, size) },
            None => plain_free(block),
        }
    });
}

extern "C" fn free_aligned_sized_at(block: *mut c_void, align: usize, size: usize) {
    record_free(block, FreeKind::FreeSized, || {
        match real::ready().then(real::free_aligned_sized).flatten() {
            // SAFETY: the hook's caller owes a live block, its alignment and its size.
            Some(free_aligned_sized) => unsafe { free_aligned_sized(block, align, size) },
            None => plain_free(block),
        }
    });
}

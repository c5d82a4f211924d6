//! Memory for the calls that arrive while the real allocator is being looked up: the loader's
//! own error buffers. A fixed arena, never reused.

use core::cell::UnsafeCell;
use core::ffi::c_void;

use heapwright_sync::atomic::{AtomicUsize, Ordering};

const BOOT_BYTES: usize = 64 << 10;

#[repr(align(64))]
struct Arena(UnsafeCell<[u8; BOOT_BYTES]>);

// SAFETY: every byte is given out once, by an atomic counter.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; BOOT_BYTES]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// Zeroed memory, aligned to `align` (a power of two, 64 at most); null when it is used up.
pub(crate) fn alloc(size: usize, align: usize) -> *mut c_void {
    let bytes = size.max(1).saturating_add(16 + align).next_multiple_of(16);
    let start = USED.fetch_add(bytes, Ordering::Relaxed);
    if start.saturating_add(bytes) > BOOT_BYTES {
        return core::ptr::null_mut();
    }
    let base = ARENA.0.get().cast::<u8>();
    let offset = (base.addr() + start + 16).next_multiple_of(align.max(16)) - base.addr();
    // The size stands before the block, for `size_of`.
    // SAFETY: `offset - 16` is inside the part of the arena taken above.
    let head = unsafe { base.add(offset - 16) };
    // SAFETY: as above, aligned to 16.
    unsafe { head.cast::<usize>().write(size) };
    // SAFETY: `offset + size` is inside the part taken above.
    unsafe { base.add(offset) }.cast()
}

/// Whether any block came from here.
pub(crate) fn is_used() -> bool {
    USED.load(Ordering::Relaxed) != 0
}

/// Whether `block` came from here.
#[inline(always)]
pub(crate) fn owns(block: *mut c_void) -> bool {
    block.addr().wrapping_sub(ARENA.0.get().addr()) < BOOT_BYTES
}

/// The size that `block` was asked with.
pub(crate) fn size_of(block: *mut c_void) -> usize {
    debug_assert!(owns(block));
    // SAFETY: `alloc` wrote the size 16 bytes before each of its blocks.
    let head = unsafe { block.byte_sub(16) };
    // SAFETY: as above.
    unsafe { head.cast::<usize>().read() }
}

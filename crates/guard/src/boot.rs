//! Memory for calls that the heap cannot serve: from inside its own work (a signal handler that
//! allocates), or before it is there. A fixed arena, never reused; such blocks are not checked.

use core::cell::UnsafeCell;

use heapwright_sync::atomic::{AtomicUsize, Ordering};

const BOOT_BYTES: usize = 256 << 10;
const HEAD_BYTES: usize = 16;

#[repr(align(64))]
struct Arena(UnsafeCell<[u8; BOOT_BYTES]>);

// SAFETY: every byte is given out once, by an atomic counter.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; BOOT_BYTES]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// Zeroed memory aligned to `align_bytes` (a power of two); null when it is used up.
pub(crate) fn alloc(bytes: usize, align_bytes: usize) -> *mut u8 {
    let align_bytes = align_bytes.max(16);
    let wanted = bytes.saturating_add(HEAD_BYTES + align_bytes).saturating_add(15) & !15;
    if wanted > BOOT_BYTES {
        return core::ptr::null_mut();
    }
    let start = USED.fetch_add(wanted, Ordering::Relaxed);
    if start.saturating_add(wanted) > BOOT_BYTES {
        return core::ptr::null_mut();
    }
    let base = ARENA.0.get().cast::<u8>();
    let offset = (base.addr() + start + HEAD_BYTES).next_multiple_of(align_bytes) - base.addr();
    // The size stands before the block.
    // SAFETY: inside the part of the arena taken above.
    let head = unsafe { base.add(offset - HEAD_BYTES) };
    // SAFETY: as above, aligned to 16.
    unsafe { head.cast::<usize>().write(bytes) };
    // SAFETY: as above.
    unsafe { base.add(offset) }
}

/// Whether an address is of this arena.
#[inline(always)]
pub(crate) fn holds(address: usize) -> bool {
    address.wrapping_sub(ARENA.0.get().addr()) < BOOT_BYTES
}

/// The size that a block was asked with.
///
/// # Safety
/// - The block is from [`alloc`].
pub(crate) unsafe fn bytes_of(block: *mut u8) -> usize {
    // SAFETY: `alloc` wrote the size before each of its blocks.
    let head = unsafe { block.sub(HEAD_BYTES) };
    // SAFETY: as above.
    unsafe { head.cast::<usize>().read() }
}

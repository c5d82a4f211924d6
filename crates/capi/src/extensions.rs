//! Functions of the BSDs, macOS and jemalloc's plain interface, over any allocator.
//!
//! Sources for the rules: `reallocarr` of NetBSD, `reallocf` of FreeBSD, `malloc_size` and
//! `malloc_good_size` of macOS, jemalloc(3) for the functions that take flags.

use core::ffi::c_int;

use heapwright_os::Errno;

use crate::face::{free, malloc_usable_size, realloc};
use crate::{CAllocator, Entry, FreeEntry};

/// In jemalloc's flags, the logarithm of the alignment.
const LG_ALIGN_MASK: c_int = 0x3f;
/// In jemalloc's flags: zero the block.
const ZERO: c_int = 0x40;
/// Linux's number, the same on every machine that we build for.
const EOVERFLOW: Errno = Errno(75);

/// `reallocf`: as `realloc`, but the block is freed when it cannot be resized.
///
/// # Safety
/// - C's rules: `ptr` is null or a live block of this allocator; it is gone afterwards.
pub unsafe fn reallocf<A: CAllocator>(ptr: *mut u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller's promise about `ptr`, passed on.
    let block = unsafe { realloc::<A>(ptr, bytes) };
    // With 0 bytes `realloc` has freed it already, where the allocator chose so.
    if block.is_null() && bytes != 0 {
        // SAFETY: a refused `realloc` leaves the block as it was.
        unsafe { free::<A>(ptr, FreeEntry::Free) };
    }
    block
}

/// `reallocarr`: resizes the block that `*place` points to, and says 0, or why not; `errno` and a
/// refused block are left alone. A product of 0 frees the block and stores null.
///
/// # Safety
/// - `place` may be read and written, and holds null or a live block of this allocator.
pub unsafe fn reallocarr<A: CAllocator>(
    place: *mut *mut u8,
    count: usize,
    unit_bytes: usize,
) -> c_int {
    // SAFETY: the caller's promise about `place`.
    let old = unsafe { place.read() };
    let Some(bytes) = count.checked_mul(unit_bytes) else { return EOVERFLOW.0 };
    let block = if bytes == 0 {
        // SAFETY: the caller's promise about what `place` holds.
        unsafe { A::free(old, FreeEntry::Free) };
        core::ptr::null_mut()
    } else {
        // SAFETY: the caller's promise about what `place` holds.
        unsafe { A::realloc(old, bytes, Entry::Reallocarray) }
    };
    if block.is_null() && bytes != 0 {
        return Errno::ENOMEM.0;
    }
    // SAFETY: the caller's promise about `place`.
    unsafe { place.write(block) };
    0
}

/// `malloc_good_size`, `nallocx`: how many bytes a block of `bytes` could hold; `bytes` itself
/// when there is no memory for one.
///
/// Takes such a block and gives it back, so the answer is the allocator's own.
pub fn good_bytes<A: CAllocator>(bytes: usize, flags: c_int) -> usize {
    // SAFETY: the block goes nowhere but to the calls below.
    let block = unsafe { take::<A>(bytes, flags & !ZERO) };
    if block.is_null() {
        return bytes;
    }
    // SAFETY: a live block.
    let usable_bytes = unsafe { malloc_usable_size::<A>(block) };
    // SAFETY: a live block that nobody else knows.
    unsafe { A::free(block, FreeEntry::Free) };
    usable_bytes
}

/// `mallocx`.
///
/// # Safety
/// - C's rules for the block.
pub unsafe fn mallocx<A: CAllocator>(bytes: usize, flags: c_int) -> *mut u8 {
    // SAFETY: the caller keeps C's rules for the block.
    unsafe { take::<A>(bytes, flags) }
}

/// A block as jemalloc's flags want it: alignment and zeroing are kept; arenas and caches that
/// they may name are the only ones there are.
///
/// # Safety
/// - C's rules for the block.
unsafe fn take<A: CAllocator>(bytes: usize, flags: c_int) -> *mut u8 {
    let align_bytes = 1usize << (flags & LG_ALIGN_MASK);
    let is_zeroed = flags & ZERO != 0;
    if align_bytes <= 16 {
        if is_zeroed {
            // SAFETY: the caller keeps C's rules for the block.
            return unsafe { A::calloc(1, bytes) };
        }
        // SAFETY: the caller keeps C's rules for the block.
        return unsafe { A::malloc(bytes, Entry::Malloc) };
    }
    // SAFETY: a power of two, by its making.
    let block = unsafe { A::memalign(align_bytes, bytes, Entry::AlignedAlloc) };
    if is_zeroed && !block.is_null() {
        // SAFETY: a fresh block of at least `bytes`.
        unsafe { block.write_bytes(0, bytes) };
    }
    block
}

/// `rallocx`: null leaves the block as it was. With the zeroing flag, usable bytes that were not
/// there before are zero.
///
/// # Safety
/// - `ptr` is a live block of this allocator; after a non-null result only that is used.
pub unsafe fn rallocx<A: CAllocator>(ptr: *mut u8, bytes: usize, flags: c_int) -> *mut u8 {
    let align_bytes = 1usize << (flags & LG_ALIGN_MASK);
    // SAFETY: the caller's promise.
    let old_bytes = unsafe { A::usable_bytes(ptr) };
    let stays = bytes <= old_bytes && ptr.addr().is_multiple_of(align_bytes);
    let block = if align_bytes <= 16 {
        // SAFETY: the caller's promise; 0 bytes are a block here, not a free.
        unsafe { A::realloc(ptr, bytes.max(1), Entry::Realloc) }
    } else if stays {
        ptr
    } else {
        // SAFETY: the caller keeps C's rules for the result.
        let block = unsafe { take::<A>(bytes, flags & !ZERO) };
        if !block.is_null() {
            // SAFETY: two live blocks that hold that many bytes.
            unsafe { block.copy_from_nonoverlapping(ptr, old_bytes.min(bytes)) };
            // SAFETY: the caller gives the old block up when there is a new one.
            unsafe { A::free(ptr, FreeEntry::Free) };
        }
        block
    };
    if flags & ZERO != 0 && !block.is_null() {
        // SAFETY: a live block.
        let fresh_bytes = unsafe { A::usable_bytes(block) }.saturating_sub(old_bytes);
        let fresh = block.wrapping_add(old_bytes);
        // SAFETY: `fresh_bytes` from there on are the block's own.
        unsafe { fresh.write_bytes(0, fresh_bytes) };
    }
    block
}

/// `xallocx`: the size of the block, which stays where it is. It is never resized in place, so
/// the answer may be less than was asked for, as jemalloc's may.
///
/// # Safety
/// - `ptr` is a live block of this allocator.
pub unsafe fn xallocx<A: CAllocator>(ptr: *mut u8) -> usize {
    // SAFETY: the caller's promise.
    unsafe { A::usable_bytes(ptr) }
}

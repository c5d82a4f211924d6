//! Blocks without any check, for a program whose limits leave no room for the guarded heap: it
//! runs on, and has been told that nothing is looked at.
//!
//! Powers of two with a free list each, cut from pieces; what is known of a block stands before
//! it. Larger blocks are mappings.
//!
//! # Invariants
//! - P1: a list has exactly the freed places of its power of two; a place's first word links it.

use core::ptr::{NonNull, null_mut};

use heapwright_os::{Protection, release, reserve};

use crate::Lock;
use crate::thread::me;

/// What stands before a block.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Head {
    place: *mut u8,
    /// Bytes that were asked for.
    bytes: usize,
    /// Bytes of the place: a power of two, or a mapping's.
    place_bytes: usize,
}

const HEAD_BYTES: usize = size_of::<Head>();
const PLACE_LOG2_MIN: u32 = 6;
/// Larger places are mappings.
const PLACE_LOG2_MAX: u32 = 16;
const LIST_COUNT: usize = (PLACE_LOG2_MAX - PLACE_LOG2_MIN + 1) as usize;
/// Bytes of a piece: one more mapping for so many bytes of small places.
const PIECE_BYTES: usize = 256 << 10;

const _: () = assert!(PIECE_BYTES.is_multiple_of(1 << PLACE_LOG2_MAX));

struct Plain {
    lists: [*mut u8; LIST_COUNT],
    /// What is left of the piece.
    next: *mut u8,
    left_bytes: usize,
}

// SAFETY: the places are nobody else's while they are here.
unsafe impl Send for Plain {}

static PLAIN: Lock<Plain> =
    Lock::new(Plain { lists: [null_mut(); LIST_COUNT], next: null_mut(), left_bytes: 0 });

/// A block of `bytes` at a multiple of `align_bytes`, a power of two; null without memory, and in
/// a signal handler that interrupted this module. All its bytes are 0.
pub(crate) fn alloc(bytes: usize, align_bytes: usize) -> *mut u8 {
    let align_bytes = align_bytes.max(align_of::<Head>());
    let Some(whole) = bytes.checked_add(HEAD_BYTES + align_bytes) else { return null_mut() };
    let (place, place_bytes) = if whole > 1 << PLACE_LOG2_MAX {
        let mapping = reserve(whole, Protection::ReadWrite);
        (mapping.map_or(null_mut(), NonNull::as_ptr), whole)
    } else {
        let place_bytes = whole.next_power_of_two().max(1 << PLACE_LOG2_MIN);
        (PLAIN.lock(me()).map_or(null_mut(), |mut plain| plain.take(place_bytes)), place_bytes)
    };
    if place.is_null() {
        return place;
    }
    let block = place.map_addr(|address| (address + HEAD_BYTES).next_multiple_of(align_bytes));
    let head = block.wrapping_sub(HEAD_BYTES).cast::<Head>();
    // SAFETY: between the place's start and the block, aligned as the block is.
    unsafe { head.write(Head { place, bytes, place_bytes }) };
    if whole <= 1 << PLACE_LOG2_MAX {
        // SAFETY: inside the place, which has `whole` bytes.
        unsafe { block.write_bytes(0, bytes) };
    }
    block
}

/// Bytes of a block, as requested.
///
/// # Safety
/// - The block is from [`alloc`] and live.
pub(crate) unsafe fn bytes_of(block: *mut u8) -> usize {
    // SAFETY: the caller's promise.
    unsafe { head_of(block) }.bytes
}

/// Takes a block back.
///
/// # Safety
/// - The block is from [`alloc`], live, and nobody uses it any more.
pub(crate) unsafe fn free(block: *mut u8) {
    // SAFETY: the caller's promise.
    let Head { place, place_bytes, .. } = unsafe { head_of(block) };
    if place_bytes > 1 << PLACE_LOG2_MAX {
        if let Some(place) = NonNull::new(place) {
            // SAFETY: the whole mapping, of this block alone. A refusal leaves it mapped.
            let _ = unsafe { release(place, place_bytes) };
        }
    } else if let Ok(mut plain) = PLAIN.lock(me()) {
        plain.keep(place, place_bytes);
    }
}

/// # Safety
/// - The block is from [`alloc`] and live.
unsafe fn head_of(block: *mut u8) -> Head {
    // SAFETY: `alloc` wrote it before each of its blocks.
    unsafe { block.wrapping_sub(HEAD_BYTES).cast::<Head>().read() }
}

/// Whether the calling thread, `me`, is inside.
pub(crate) fn is_reentered_by(me: usize) -> bool {
    PLAIN.is_reentered_by(me)
}

/// Keeps the module as it is over a fork; undone by [`after_fork`].
pub(crate) fn before_fork() {
    if let Ok(guard) = PLAIN.lock(me()) {
        core::mem::forget(guard);
    }
}

/// Lets the module go on, in both processes.
///
/// # Safety
/// - After [`before_fork`], in the same thread.
pub(crate) unsafe fn after_fork() {
    // SAFETY: locked by `before_fork` (the caller's promise).
    unsafe { PLAIN.force_unlock() };
}

impl Plain {
    fn list(place_bytes: usize) -> usize {
        (place_bytes.ilog2() - PLACE_LOG2_MIN) as usize
    }

    fn take(&mut self, place_bytes: usize) -> *mut u8 {
        let first = self.lists[Self::list(place_bytes)];
        if !first.is_null() {
            // SAFETY: a place of the list, whose first word is its link (P1).
            self.lists[Self::list(place_bytes)] = unsafe { first.cast::<*mut u8>().read() };
            return first;
        }
        if self.left_bytes < place_bytes {
            // What is left is lost: less than the largest place, once in a piece.
            let Ok(piece) = reserve(PIECE_BYTES, Protection::ReadWrite) else { return null_mut() };
            (self.next, self.left_bytes) = (piece.as_ptr(), PIECE_BYTES);
        }
        let place = self.next;
        self.next = place.wrapping_add(place_bytes);
        self.left_bytes -= place_bytes;
        place
    }

    fn keep(&mut self, place: *mut u8, place_bytes: usize) {
        let list = &mut self.lists[Self::list(place_bytes)];
        // SAFETY: a place given back, at least 64 bytes, aligned to 16.
        unsafe { place.cast::<*mut u8>().write(*list) };
        *list = place;
    }
}

#[cfg(test)]
mod tests {
    use super::{alloc, bytes_of, free};

    #[test]
    fn blocks_are_aligned_zeroed_and_come_again() {
        for align_bytes in [1, 16, 64, 4096] {
            for bytes in [0, 1, 40, 5000, 70_000, 1_000_000] {
                let block = alloc(bytes, align_bytes);
                assert!(!block.is_null() && block.addr().is_multiple_of(align_bytes.max(16)));
                // SAFETY: a live block of the module.
                assert_eq!(unsafe { bytes_of(block) }, bytes);
                for number in 0..bytes {
                    // SAFETY: inside the block.
                    assert_eq!(unsafe { block.wrapping_add(number).read() }, 0);
                }
                // SAFETY: as above.
                unsafe { block.write_bytes(7, bytes) };
                // SAFETY: not used any more.
                unsafe { free(block) };
            }
        }
        let block = alloc(100, 16);
        // SAFETY: not used any more.
        unsafe { free(block) };
        let again = alloc(90, 16);
        assert_eq!(block.addr(), again.addr());
        assert!(alloc(usize::MAX, 16).is_null());
    }
}

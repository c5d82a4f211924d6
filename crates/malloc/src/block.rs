//! Free blocks: a free slot's first word links to the next one.
//!
//! Blocks on their way home stand in *batches*, linked blocks of one span: the second word of the
//! first one leads to the last one, so that the owner touches two of them instead of all.

use heapwright_sync::Link;

/// A free block, or a block about to be handed out.
pub(crate) type Block = *mut Link;

/// The block after `block` in its list.
///
/// # Safety
/// - `block` is in a free list that only this thread touches now.
#[inline(always)]
pub(crate) unsafe fn next(block: Block) -> Block {
    // SAFETY: a free block holds a link in its first word, written by `set_next`.
    unsafe { (*block).next }
}

/// Links `block` to `next`.
///
/// # Safety
/// - `block` is a slot (at least 16 bytes, aligned to 16) that nobody else uses.
#[inline(always)]
pub(crate) unsafe fn set_next(block: Block, next: Block) {
    // SAFETY: the slot is ours, large and aligned enough.
    unsafe { (*block).next = next };
}

/// The second word of a block on its way home.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Batch {
    next: Block,
    /// From the block to the last one of its batch.
    last_distance_bytes: i32,
    /// Blocks from here to that one.
    count: u32,
}

/// Notes that `count` linked blocks of one span lead from `block` to `last`.
///
/// # Safety
/// - `block` is a slot that nobody else uses, in one span with `last`.
#[inline(always)]
pub(crate) unsafe fn set_batch(block: Block, last: Block, count: u32) {
    let place = block.cast::<Batch>();
    let distance_bytes = last.addr().wrapping_sub(block.addr()) as i32;
    // SAFETY: the slot is ours and has at least 16 bytes.
    unsafe { (*place).last_distance_bytes = distance_bytes };
    // SAFETY: as above.
    unsafe { (*place).count = count };
}

/// The last block of the batch that begins with `block`, and how many there are.
///
/// # Safety
/// - `block` has come out of a queue, where everybody who pushes calls [`set_batch`] first, and
///   only this thread touches it now.
#[inline(always)]
pub(crate) unsafe fn batch(block: Block) -> (Block, u32) {
    let place = block.cast::<Batch>();
    // SAFETY: written by `set_batch`.
    let distance_bytes = unsafe { (*place).last_distance_bytes };
    // SAFETY: as above.
    let count = unsafe { (*place).count };
    (block.wrapping_byte_offset(distance_bytes as isize), count)
}

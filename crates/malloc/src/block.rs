//! Free blocks: a free slot's first word links to the next one.

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

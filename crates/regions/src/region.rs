//! What all region allocators have in common, for wrappers and programs that choose one by type.

use core::alloc::Layout;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Counts, RegionStatistics};

use crate::buddy::Buddy;
use crate::linear::Linear;
use crate::pool::{Pool, Pools};
use crate::slab::{Slab, SlabLocal};
use crate::tight::Tight;

/// A source of blocks: all allocators here but the stack and the pools of values.
///
/// Methods are named apart from the inherent ones, which say more.
///
/// # Safety
/// - A block is aligned and long enough for its layout, no other live block overlaps it, and it
///   stays where it is until it is freed or the allocator is taken exclusively or dropped, also
///   when the allocator is used through another shared reference.
pub unsafe trait Region {
    /// A block of `layout`, uninitialised.
    ///
    /// # Errors
    /// As the allocator's own method.
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError>;

    /// As [`Self::try_alloc_block`], all zero.
    ///
    /// # Errors
    /// As there.
    fn try_alloc_block_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let block = self.try_alloc_block(layout)?;
        // SAFETY: a fresh block of that size.
        unsafe { block.write_bytes(0, layout.size()) };
        Ok(block)
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// - `block` is live, of this allocator, and was made for `layout`; nobody uses it any more.
    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout);

    /// Makes a block longer or shorter, in place or elsewhere; its first bytes are kept.
    ///
    /// # Errors
    /// As [`Self::try_alloc_block`]; the block is then as before.
    ///
    /// # Safety
    /// - `block` is live, of this allocator, and was made for `old`; if the call succeeds, only
    ///   the returned pointer is used from then on.
    unsafe fn resize_block(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { move_block(self, block, old, new) }
    }

    /// How many bytes from the start of a block that was just made a [`Checked`](crate::Checked)
    /// reset has overwritten, so that it can see whether somebody wrote there since.
    fn stale_bytes(&self, block: NonNull<u8>, bytes: usize) -> usize {
        let _ = (block, bytes);
        0
    }

    /// What the allocator holds now.
    fn region_statistics(&self) -> RegionStatistics;
}

/// Resizes by another block.
///
/// # Errors
/// As [`Region::resize_block`].
///
/// # Safety
/// - As for [`Region::resize_block`].
unsafe fn move_block<R: Region + ?Sized>(
    region: &R,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<u8>, AllocError> {
    let moved = region.try_alloc_block(new)?;
    let bytes = old.size().min(new.size());
    // SAFETY: two live blocks, both at least that long.
    unsafe { moved.copy_from_nonoverlapping(block, bytes) };
    // SAFETY: the caller gives it up.
    unsafe { region.free_block(block, old) };
    Ok(moved)
}

// SAFETY: blocks live until the arena is reset, which takes it exclusively.
unsafe impl<B: Backing, C: Counts, const ALIGN: usize> Region for Linear<B, C, ALIGN> {
    #[inline(always)]
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.try_alloc_layout(layout)
    }

    fn try_alloc_block_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.try_alloc_layout_zeroed(layout)
    }

    #[inline(always)]
    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.dealloc(block, layout) }
    }

    fn stale_bytes(&self, block: NonNull<u8>, bytes: usize) -> usize {
        self.bytes_used_before(block, bytes)
    }

    #[inline]
    unsafe fn resize_block(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<u8>, AllocError> {
        if new.size() >= old.size() {
            // SAFETY: the caller's promise; longer.
            unsafe { self.grow(block, old, new) }
        } else {
            // SAFETY: the caller's promise; shorter.
            unsafe { self.shrink(block, old, new) }
        }
    }

    fn region_statistics(&self) -> RegionStatistics {
        self.statistics()
    }
}

/// [`Region`] of a heap whose `free` looks at what comes back.
macro_rules! region_of_heap {
    ($heap:ident) => {
        // SAFETY: blocks live until they are freed or the heap is dropped.
        unsafe impl<B: Backing, C: Counts> Region for $heap<B, C> {
            #[inline]
            fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
                self.try_alloc(layout)
            }

            #[inline]
            unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's promise.
                let freed = unsafe { self.free(block, layout) };
                debug_assert_eq!(freed, Ok(()), "a live block comes back");
            }

            fn region_statistics(&self) -> RegionStatistics {
                self.statistics()
            }
        }
    };
}

region_of_heap!(Buddy);
region_of_heap!(Tight);

// SAFETY: blocks live until they are freed or the pool is dropped; what does not fit a slot is
// refused.
unsafe impl<B: Backing, C: Counts> Region for Pool<B, C> {
    #[inline(always)]
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let slot = self.block_layout();
        if layout.size() > slot.size() || layout.align() > slot.align() {
            return Err(AllocError::Unfit {
                requested_bytes: layout.size(),
                align_bytes: layout.align(),
                largest_bytes: slot.size(),
            });
        }
        self.try_alloc()
    }

    #[inline(always)]
    unsafe fn free_block(&self, block: NonNull<u8>, _: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free(block) }
    }

    fn region_statistics(&self) -> RegionStatistics {
        self.statistics()
    }
}

// SAFETY: blocks live until they are freed or the pools are dropped.
unsafe impl<B: Backing + Clone, const N: usize> Region for Pools<B, N> {
    #[inline]
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.try_alloc(layout)
    }

    #[inline]
    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free(block, layout) }
    }

    #[inline]
    unsafe fn resize_block(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<u8>, AllocError> {
        if self.class_of(old).is_some() && self.class_of(old) == self.class_of(new) {
            return Ok(block);
        }
        // SAFETY: the caller's promise.
        unsafe { move_block(self, block, old, new) }
    }

    fn region_statistics(&self) -> RegionStatistics {
        self.statistics()
    }
}

// SAFETY: blocks live until they are freed or the slab is dropped.
unsafe impl<B: Backing, C: Counts> Region for Slab<B, C> {
    #[inline(always)]
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.try_alloc(layout)
    }

    #[inline(always)]
    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free(block, layout) }
    }

    #[inline]
    unsafe fn resize_block(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.resize(block, old, new) }
    }

    fn region_statistics(&self) -> RegionStatistics {
        self.statistics()
    }
}

// SAFETY: blocks live until they are freed or the shared slab is dropped, which outlives us.
unsafe impl<B: Backing> Region for SlabLocal<'_, B> {
    #[inline(always)]
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.try_alloc(layout)
    }

    #[inline(always)]
    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free(block, layout) }
    }

    /// Of the whole slab.
    fn region_statistics(&self) -> RegionStatistics {
        self.slab_statistics()
    }
}

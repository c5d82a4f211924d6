//! `Allocator` of allocator-api2, so that `Vec`, `Box` and hash tables work over regions.
//!
//! It is implemented for shared references only: a collection that lends its allocator
//! exclusively could otherwise be asked to reset it under its own blocks.

use core::alloc::Layout;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_statistics::Counts;

use crate::buddy::Buddy;
use crate::linear::Linear;
use crate::pool::Pools;

/// What all versions of the trait want, once.
///
/// # Safety
/// - Blocks are live, aligned and long enough until they are given back, and do not move.
unsafe trait Blocks {
    fn take(&self, layout: Layout) -> Option<NonNull<u8>>;

    fn take_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        let block = self.take(layout)?;
        // SAFETY: a fresh block of that size.
        unsafe { block.write_bytes(0, layout.size()) };
        Some(block)
    }

    /// # Safety
    /// - `block` is live, of this allocator, and fits `layout`; it is not used again.
    unsafe fn give(&self, block: NonNull<u8>, layout: Layout);

    /// # Safety
    /// - `block` is live, of this allocator, and fits `old`; after success only the result is
    ///   used.
    unsafe fn resize(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<u8>> {
        let moved = self.take(new)?;
        let bytes = old.size().min(new.size());
        // SAFETY: two live blocks, both at least that long.
        unsafe { moved.copy_from_nonoverlapping(block, bytes) };
        // SAFETY: the caller gives it up.
        unsafe { self.give(block, old) };
        Some(moved)
    }
}

// SAFETY: blocks live until the arena is reset, which takes it exclusively while allocators are
// shared borrows of it.
unsafe impl<B: Backing, C: Counts, const ALIGN: usize> Blocks for Linear<B, C, ALIGN> {
    #[inline(always)]
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.try_alloc_layout(layout).ok()
    }

    fn take_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.try_alloc_layout_zeroed(layout).ok()
    }

    #[inline(always)]
    unsafe fn give(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn resize(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<u8>> {
        if new.size() >= old.size() {
            // SAFETY: the caller's promise; longer.
            unsafe { self.grow(block, old, new) }.ok()
        } else {
            // SAFETY: the caller's promise; shorter.
            unsafe { self.shrink(block, old, new) }.ok()
        }
    }
}

// SAFETY: blocks live until they are freed or the heap is dropped, which its borrows outlive not.
unsafe impl<B: Backing, C: Counts> Blocks for Buddy<B, C> {
    #[inline]
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.try_alloc(layout).ok()
    }

    #[inline]
    unsafe fn give(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        let freed = unsafe { self.free(block, layout) };
        debug_assert_eq!(freed, Ok(()), "a live block comes back");
    }
}

// SAFETY: blocks live until they are freed or the pools are dropped, which borrows outlive not.
unsafe impl<B: Backing + Clone, const N: usize> Blocks for Pools<B, N> {
    #[inline]
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.try_alloc(layout).ok()
    }

    #[inline]
    unsafe fn give(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free(block, layout) }
    }

    #[inline]
    unsafe fn resize(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<u8>> {
        if self.class_of(old).is_some() && self.class_of(old) == self.class_of(new) {
            return Some(block);
        }
        let moved = self.take(new)?;
        let bytes = old.size().min(new.size());
        // SAFETY: two live blocks, both at least that long.
        unsafe { moved.copy_from_nonoverlapping(block, bytes) };
        // SAFETY: the caller gives it up.
        unsafe { self.free(block, old) };
        Some(moved)
    }
}

/// Implements the trait of one version for one type.
macro_rules! implement {
    ($api:ident, [$($generics:tt)*], $type:ty) => {
        // SAFETY: as `Blocks` promises; copies of the reference are the same allocator.
        unsafe impl<$($generics)*> $api::alloc::Allocator for &$type {
            #[inline(always)]
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                match Blocks::take(*self, layout) {
                    Some(block) => Ok(NonNull::slice_from_raw_parts(block, layout.size())),
                    None => Err($api::alloc::AllocError),
                }
            }

            #[inline]
            fn allocate_zeroed(
                &self,
                layout: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                match self.take_zeroed(layout) {
                    Some(block) => Ok(NonNull::slice_from_raw_parts(block, layout.size())),
                    None => Err($api::alloc::AllocError),
                }
            }

            #[inline(always)]
            unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's promise.
                unsafe { self.give(block, layout) }
            }

            #[inline]
            unsafe fn grow(
                &self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                // SAFETY: the caller's promise.
                match unsafe { self.resize(block, old, new) } {
                    Some(block) => Ok(NonNull::slice_from_raw_parts(block, new.size())),
                    None => Err($api::alloc::AllocError),
                }
            }

            #[inline]
            unsafe fn grow_zeroed(
                &self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                // SAFETY: the caller's promise.
                let Some(block) = (unsafe { self.resize(block, old, new) }) else {
                    return Err($api::alloc::AllocError);
                };
                // SAFETY: the block is `new.size()` bytes long, which is not less.
                let tail = unsafe { block.add(old.size()) };
                // SAFETY: the rest of the block.
                unsafe { tail.write_bytes(0, new.size() - old.size()) };
                Ok(NonNull::slice_from_raw_parts(block, new.size()))
            }

            #[inline]
            unsafe fn shrink(
                &self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                // SAFETY: the caller's promise.
                match unsafe { self.resize(block, old, new) } {
                    Some(block) => Ok(NonNull::slice_from_raw_parts(block, new.size())),
                    None => Err($api::alloc::AllocError),
                }
            }
        }
    };
}

macro_rules! implement_all {
    ($api:ident) => {
        implement!($api, [B: Backing, C: Counts, const ALIGN: usize], Linear<B, C, ALIGN>);
        implement!($api, [B: Backing, C: Counts], Buddy<B, C>);
        implement!($api, [B: Backing + Clone, const N: usize], Pools<B, N>);
    };
}

#[cfg(feature = "aa2-02")]
implement_all!(allocator_api2_02);
#[cfg(feature = "aa2-03")]
implement_all!(allocator_api2_03);
#[cfg(feature = "aa2-04")]
implement_all!(allocator_api2_04);

//! `Allocator` of allocator-api2, so that `Vec`, `Box` and hash tables work over regions.
//!
//! It is implemented for shared references only: a collection that lends its allocator
//! exclusively could otherwise be asked to reset it under its own blocks.

use core::alloc::Layout;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::Counts;

use crate::buddy::Buddy;
use crate::checked::{Checked, Checks};
use crate::linear::Linear;
use crate::locked::Locked;
use crate::pool::Pools;
use crate::region::Region;
use crate::slab::{Slab, SlabLocal};
use crate::tagged::Part;
use crate::tight::Tight;

/// A block as `Allocator` wants it: with its length.
#[inline(always)]
fn sized(block: Result<NonNull<u8>, AllocError>, layout: Layout) -> Option<NonNull<[u8]>> {
    block.ok().map(|block| NonNull::slice_from_raw_parts(block, layout.size()))
}

/// Implements the trait of one version for one type.
macro_rules! implement {
    ($api:ident, [$($generics:tt)*], $type:ty $(, where $($bound:tt)*)?) => {
        // SAFETY: as `Region` promises; copies of the reference are the same allocator.
        unsafe impl<$($generics)*> $api::alloc::Allocator for &$type
        $(where $($bound)*)?
        {
            #[inline(always)]
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                sized(Region::try_alloc_block(*self, layout), layout).ok_or($api::alloc::AllocError)
            }

            #[inline]
            fn allocate_zeroed(
                &self,
                layout: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                sized(self.try_alloc_block_zeroed(layout), layout).ok_or($api::alloc::AllocError)
            }

            #[inline(always)]
            unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's promise.
                unsafe { self.free_block(block, layout) }
            }

            #[inline]
            unsafe fn grow(
                &self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                // SAFETY: the caller's promise.
                let resized = unsafe { self.resize_block(block, old, new) };
                sized(resized, new).ok_or($api::alloc::AllocError)
            }

            #[inline]
            unsafe fn grow_zeroed(
                &self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                // SAFETY: the caller's promise.
                let Ok(block) = (unsafe { self.resize_block(block, old, new) }) else {
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
                let resized = unsafe { self.resize_block(block, old, new) };
                sized(resized, new).ok_or($api::alloc::AllocError)
            }
        }
    };
}

macro_rules! implement_all {
    ($api:ident) => {
        implement!($api, [B: Backing, C: Counts, const ALIGN: usize], Linear<B, C, ALIGN>);
        implement!($api, [B: Backing, C: Counts], Buddy<B, C>);
        implement!($api, [B: Backing + Clone, const N: usize], Pools<B, N>);
        implement!($api, [B: Backing, C: Counts], Slab<B, C>);
        implement!($api, ['s, B: Backing], SlabLocal<'s, B>);
        implement!($api, [B: Backing, C: Counts], Tight<B, C>);
        implement!($api, [R: Region], Locked<R>);
        implement!($api, ['s, R: Region], Part<'s, R>);
        implement!($api, [R, P: Checks], Checked<R, P>, where Checked<R, P>: Region);
    };
}

#[cfg(feature = "aa2-02")]
implement_all!(allocator_api2_02);
#[cfg(feature = "aa2-03")]
implement_all!(allocator_api2_03);
#[cfg(feature = "aa2-04")]
implement_all!(allocator_api2_04);

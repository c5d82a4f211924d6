//! Heaps of one's own: data that dies together, or has a budget, or belongs on a NUMA node; and a
//! walk over every live block of every heap.
//!
//! [`Heap`] owns its blocks and frees them all when it is dropped; collections borrow it, so that
//! none outlives it. [`Zone`] is the same heap as a copyable name for any thread, whose use after
//! the end is noticed.
//!
//! ```
//! use heapwright::heap::{Heap, ZoneError, ZoneOptions};
//! use std::alloc::Layout;
//!
//! let heap = Heap::with(ZoneOptions::new().name("request").limit(1 << 20))?;
//! let block = heap.alloc(Layout::new::<[u64; 100]>())?;
//! assert_eq!(heap.statistics().live_count, 1);
//! let refused = heap.alloc(Layout::new::<[u8; 2 << 20]>());
//! assert!(matches!(refused, Err(ZoneError::OverLimit { .. })));
//! # let _ = block;
//! drop(heap); // Block and all: O(spans).
//! # Ok::<(), ZoneError>(())
//! ```

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use heapwright_malloc as malloc;

pub use heapwright_malloc::{
    LiveBlock, LiveBlocks, NodeWish, WalkError, Zone, ZoneError, ZoneOptions, ZoneStatistics, zones,
};

/// A heap of one's own, which frees all its blocks when it is dropped.
///
/// One lock: an allocation or a free is two atomics and some 20 instructions, and threads that
/// share a heap wait for each other. With the feature `aa2-02`, `aa2-03` or `aa2-04`, `&Heap` is
/// an `Allocator` of that version of allocator-api2.
#[derive(PartialEq, Eq)]
pub struct Heap {
    zone: Zone,
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("id", &self.zone.id()).finish()
    }
}

impl Heap {
    /// A heap without limit and name. One lock; some KiB when it is used.
    ///
    /// # Errors
    /// [`ZoneError::OutOfMemory`].
    pub fn new() -> Result<Self, ZoneError> {
        Self::with(ZoneOptions::new())
    }

    /// A heap with `options`. One lock; some KiB when it is used.
    ///
    /// # Errors
    /// [`ZoneError::OutOfMemory`].
    pub fn with(options: ZoneOptions) -> Result<Self, ZoneError> {
        let zone =
            Zone::create_with(options).ok_or(ZoneError::OutOfMemory { requested_bytes: 0 })?;
        Ok(Self { zone })
    }

    /// The heap by name, for threads and places that cannot borrow it: a use after the heap's end
    /// is [`ZoneError::Destroyed`].
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// A block for `layout`; a unique one also for 0 bytes. The contents are anything.
    ///
    /// # Errors
    /// [`ZoneError::OverLimit`], [`ZoneError::OutOfMemory`]; nothing has changed then.
    pub fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, ZoneError> {
        self.zone.alloc(layout)
    }

    /// [`Heap::alloc`] with the first `layout.size()` bytes zero.
    ///
    /// # Errors
    /// As [`Heap::alloc`].
    pub fn alloc_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, ZoneError> {
        self.zone.alloc_zeroed(layout)
    }

    /// Resizes the block at `block` to `bytes`, keeping what fits; in place where that can be
    /// done.
    ///
    /// # Errors
    /// As [`Heap::alloc`]; the block is as before then.
    ///
    /// # Safety
    /// - `block` is a live block of this heap, allocated with `layout`; after success only the
    ///   result is used.
    pub unsafe fn realloc(
        &self,
        block: NonNull<u8>,
        layout: Layout,
        bytes: usize,
    ) -> Result<NonNull<u8>, ZoneError> {
        // SAFETY: the caller's promise.
        unsafe { self.zone.realloc(block, layout.align(), bytes) }
    }

    /// Frees the block at `block`.
    ///
    /// # Safety
    /// - `block` is a live block of this heap, not used after the call.
    pub unsafe fn free(&self, block: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { malloc::free(block.as_ptr()) };
    }

    /// What the heap holds, exact at one moment. O(1).
    pub fn statistics(&self) -> ZoneStatistics {
        // The zone lives as long as this value, unless somebody destroyed it by its name.
        self.zone.statistics().unwrap_or_default()
    }

    /// Sets the limit for what is allocated from now on, in usable bytes; `usize::MAX` is none.
    ///
    /// # Errors
    /// [`ZoneError::Destroyed`] when somebody destroyed it by its name.
    pub fn set_limit(&self, bytes: usize) -> Result<(), ZoneError> {
        self.zone.set_limit(bytes)
    }

    /// Every live block of the heap at this moment.
    ///
    /// # Errors
    /// [`WalkError`].
    pub fn live_blocks(&self) -> Result<LiveBlocks, WalkError> {
        LiveBlocks::of_zone(self.zone)
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: safe code reaches blocks through a borrow of the heap, which is over; unsafe
        // code promised `free` and `realloc` a live block of a heap that is there. Destroyed by
        // its name already, there is nothing to do.
        let _ = unsafe { self.zone.destroy() };
    }
}

/// Implements `Allocator` of one version of allocator-api2.
#[cfg(any(feature = "aa2-02", feature = "aa2-03", feature = "aa2-04"))]
macro_rules! implement {
    ($api:ident) => {
        // SAFETY: blocks live until they are freed or the heap is dropped, which outlives the
        // borrow; copies of the reference are the same heap.
        unsafe impl $api::alloc::Allocator for &Heap {
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                let block = self.alloc(layout).map_err(|_| $api::alloc::AllocError)?;
                Ok(NonNull::slice_from_raw_parts(block, layout.size()))
            }

            fn allocate_zeroed(
                &self,
                layout: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                let block = self.alloc_zeroed(layout).map_err(|_| $api::alloc::AllocError)?;
                Ok(NonNull::slice_from_raw_parts(block, layout.size()))
            }

            unsafe fn deallocate(&self, block: NonNull<u8>, _layout: Layout) {
                // SAFETY: the caller's promise.
                unsafe { self.free(block) }
            }

            unsafe fn grow(
                &self,
                block: NonNull<u8>,
                _old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                // SAFETY: the caller's promise.
                let moved = unsafe { self.zone.realloc(block, new.align(), new.size()) };
                let moved = moved.map_err(|_| $api::alloc::AllocError)?;
                Ok(NonNull::slice_from_raw_parts(moved, new.size()))
            }

            unsafe fn grow_zeroed(
                &self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                // SAFETY: the caller's promise.
                let moved = unsafe { self.zone.realloc(block, new.align(), new.size()) };
                let moved = moved.map_err(|_| $api::alloc::AllocError)?;
                // SAFETY: the block is `new.size()` bytes long, which is not less.
                let tail = unsafe { moved.add(old.size()) };
                // SAFETY: the rest of the block.
                unsafe { tail.write_bytes(0, new.size() - old.size()) };
                Ok(NonNull::slice_from_raw_parts(moved, new.size()))
            }

            unsafe fn shrink(
                &self,
                block: NonNull<u8>,
                _old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $api::alloc::AllocError> {
                // SAFETY: the caller's promise.
                let moved = unsafe { self.zone.realloc(block, new.align(), new.size()) };
                let moved = moved.map_err(|_| $api::alloc::AllocError)?;
                Ok(NonNull::slice_from_raw_parts(moved, new.size()))
            }
        }
    };
}

#[cfg(feature = "aa2-02")]
implement!(allocator_api2_02);
#[cfg(feature = "aa2-03")]
implement!(allocator_api2_03);
#[cfg(feature = "aa2-04")]
implement!(allocator_api2_04);

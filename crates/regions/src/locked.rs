//! A region behind a lock: for a program's global allocator, or any number of threads.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::RegionStatistics;
use heapwright_sync::{Guard, Lock};

use crate::region::Region;
use crate::wait::{Sleep, token};

/// A region that is made when it is first used, and that all threads share under one lock.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, Lines, Locked, Slab};
///
/// static HEAP: Locked<Slab<AnonymousPages>> =
///     Locked::new(|| Slab::new_in(AnonymousPages, 1 << 30, Lines::Packed));
/// // With `#[global_allocator]` it is the program's.
/// use core::alloc::{GlobalAlloc, Layout};
/// let layout = Layout::new::<u64>();
/// // SAFETY: the size is not 0.
/// let block = unsafe { HEAP.alloc(layout) };
/// assert!(!block.is_null());
/// // SAFETY: live, unused from here.
/// unsafe { HEAP.dealloc(block, layout) };
/// # }
/// ```
#[derive(Debug)]
pub struct Locked<R> {
    region: Lock<Option<R>, Sleep>,
    make: fn() -> Result<R, AllocError>,
}

impl<R: Region> Locked<R> {
    /// `make` runs when the first block is asked for, and again until it succeeds.
    pub const fn new(make: fn() -> Result<R, AllocError>) -> Self {
        Self { region: Lock::new(None), make }
    }

    fn lock(&self) -> Result<Guard<'_, Option<R>, Sleep>, AllocError> {
        // A thread inside that comes back (a signal's handler) is refused.
        self.region.lock(token()).map_err(|_| AllocError::Full {
            requested_bytes: 0,
            largest_free_bytes: 0,
            capacity_bytes: 0,
        })
    }

    fn with<T>(&self, run: impl FnOnce(&R) -> Result<T, AllocError>) -> Result<T, AllocError> {
        let mut region = self.lock()?;
        if region.is_none() {
            *region = Some((self.make)()?);
        }
        match &*region {
            Some(region) => run(region),
            None => unreachable!("made above"),
        }
    }
}

// SAFETY: blocks of the region, one thread at a time.
unsafe impl<R: Region> Region for Locked<R> {
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.with(|region| region.try_alloc_block(layout))
    }

    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
        let freed = self.with(|region| {
            // SAFETY: the caller's promise.
            unsafe { region.free_block(block, layout) };
            Ok(())
        });
        // A handler that interrupts its own thread inside leaks the block.
        let _ = freed;
    }

    unsafe fn resize_block(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<u8>, AllocError> {
        self.with(|region| {
            // SAFETY: the caller's promise.
            unsafe { region.resize_block(block, old, new) }
        })
    }

    fn region_statistics(&self) -> RegionStatistics {
        let seen = self.with(|region| Ok(region.region_statistics()));
        seen.unwrap_or_default()
    }
}

// SAFETY: blocks of the region; nothing here unwinds but a region's report of misuse.
unsafe impl<R: Region + Send> GlobalAlloc for Locked<R> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.try_alloc_block(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise.
            unsafe { self.free_block(block, layout) };
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(bytes, layout.align()) else {
            return core::ptr::null_mut();
        };
        let Some(block) = NonNull::new(block) else { return core::ptr::null_mut() };
        // SAFETY: the caller's promise.
        let moved = unsafe { self.resize_block(block, layout, new) };
        moved.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }
}

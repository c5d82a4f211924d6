//! A region for the blocks of one call site, used by one thread at a time.
//!
//! # Invariants
//! - I1: a region with live blocks is never dropped: they count as memory until the end.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use heapwright_regions::{
    AnonymousPages, Buddy, End, Linear, Lines, NoCounts, OutOfOrder, Pool, RegionStatistics, Slab,
    Stack, Tails,
};

use crate::RegionKind;
use crate::site::SiteRoute;

/// Natural alignment of blocks, as `malloc` gives it.
const ALIGN_LOG2: u32 = 4;
/// Leaves of a buddy heap.
const BUDDY_LEAF_BYTES: usize = 4096;

/// The five, each on the kernel's pages.
enum Region {
    Linear(Box<Linear<AnonymousPages, NoCounts, { 1 << ALIGN_LOG2 }>>),
    Stack(Stack<AnonymousPages>),
    Pool(Pool<AnonymousPages>),
    Slab(Box<Slab<AnonymousPages>>),
    Buddy(Box<Buddy<AnonymousPages>>),
}

/// A region and the number of its live blocks.
pub(super) struct OwnRegion {
    region: Option<Region>,
    live_blocks: u64,
}

impl OwnRegion {
    /// The region for `route`; one that gives no block when there is no memory for it.
    pub(super) fn new(route: &SiteRoute) -> Self {
        Self { region: make(route), live_blocks: 0 }
    }

    /// A block; null when the region has none.
    #[inline]
    pub(super) fn alloc(&mut self, layout: Layout) -> *mut u8 {
        let block = match &self.region {
            Some(Region::Linear(arena)) => arena.try_alloc_layout(layout).ok(),
            Some(Region::Stack(stack)) => stack.try_alloc(End::Low, layout).ok(),
            Some(Region::Pool(pool)) if fits(pool.block_layout(), layout) => pool.try_alloc().ok(),
            Some(Region::Slab(slab)) => slab.try_alloc(layout).ok(),
            Some(Region::Buddy(buddy)) => buddy.try_alloc(layout).ok(),
            _ => None,
        };
        self.live_blocks += u64::from(block.is_some());
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// A block of an arena, by the shortest way: what a program would do there is some ten
    /// instructions, and what is done beside it here counts as the arena's. None where the region
    /// is another, or has no block.
    #[inline(always)]
    pub(super) fn alloc_linear(&mut self, size: usize, align_log2: u32) -> Option<NonNull<u8>> {
        let Some(Region::Linear(arena)) = &self.region else { return None };
        if align_log2 > ALIGN_LOG2 {
            return None;
        }
        let block = arena.try_alloc_layout(layout(size, ALIGN_LOG2)?).ok()?;
        self.live_blocks += 1;
        Some(block)
    }

    /// Ends a block of an arena, by the shortest way; whether the region is one.
    #[inline(always)]
    pub(super) fn end_linear(&mut self) -> bool {
        let Some(Region::Linear(arena)) = &mut self.region else { return false };
        self.live_blocks -= 1;
        if self.live_blocks == 0 {
            arena.reset();
        }
        true
    }

    /// Ends a block. A linear region ends all together: when the last one goes.
    ///
    /// # Safety
    /// - `block` is a live block of this region, made with that layout.
    #[inline]
    pub(super) unsafe fn free(&mut self, block: NonNull<u8>, layout: Layout) {
        self.live_blocks -= 1;
        match &mut self.region {
            Some(Region::Linear(arena)) if self.live_blocks == 0 => arena.reset(),
            Some(Region::Linear(_)) | None => {}
            Some(Region::Stack(stack)) => {
                // SAFETY: the caller's block, of this stack; out of order it waits.
                let freed = unsafe { stack.free(block) };
                debug_assert!(freed.is_ok());
            }
            // SAFETY: the caller's block, of this pool.
            Some(Region::Pool(pool)) => unsafe { pool.free(block) },
            // SAFETY: the caller's block and layout.
            Some(Region::Slab(slab)) => unsafe { slab.free(block, layout) },
            Some(Region::Buddy(buddy)) => {
                // SAFETY: the caller's block and layout.
                let freed = unsafe { buddy.free(block, layout) };
                debug_assert!(freed.is_ok());
            }
        }
    }

    /// The block with another layout, its bytes kept; null, and the block as before, when there is
    /// none. A linear region makes its newest block longer where it is.
    ///
    /// # Safety
    /// - `block` is a live block of this region, made with `old`; if another one comes back, only
    ///   that is used from then on.
    pub(super) unsafe fn resize(
        &mut self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> *mut u8 {
        let resized = match &self.region {
            Some(Region::Linear(arena)) if new.size() >= old.size() => {
                // SAFETY: the caller's block and layout, made longer.
                unsafe { arena.grow(block, old, new) }.ok()
            }
            // SAFETY: the caller's block and layout, made shorter.
            Some(Region::Linear(arena)) => unsafe { arena.shrink(block, old, new) }.ok(),
            Some(Region::Pool(pool)) if fits(pool.block_layout(), new) => Some(block),
            // SAFETY: the caller's block and layout.
            _ => return unsafe { self.replace(block, old, new) },
        };
        resized.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Resizes by another block and a copy.
    ///
    /// # Safety
    /// - As for [`Self::resize`].
    unsafe fn replace(&mut self, block: NonNull<u8>, old: Layout, new: Layout) -> *mut u8 {
        let moved = self.alloc(new);
        if !moved.is_null() {
            let bytes = old.size().min(new.size());
            // SAFETY: both are live, different, and have at least so many bytes.
            unsafe { ptr::copy_nonoverlapping(block.as_ptr(), moved, bytes) };
            // SAFETY: the caller's promise.
            unsafe { self.free(block, old) };
        }
        moved
    }

    /// Bytes that the region holds now, and so at most: none of them gives memory back.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.region {
            Some(Region::Linear(arena)) => arena.statistics().committed_bytes,
            Some(Region::Stack(stack)) => resident(&stack.statistics()),
            Some(Region::Pool(pool)) => pool.statistics().committed_bytes,
            Some(Region::Slab(slab)) => resident(&slab.statistics()),
            Some(Region::Buddy(buddy)) => resident(&buddy.statistics()),
            None => 0,
        }
    }
}

impl Drop for OwnRegion {
    fn drop(&mut self) {
        if self.live_blocks != 0 {
            std::mem::forget(self.region.take());
        }
    }
}

/// Of a region of fixed length what was ever touched.
pub(super) fn resident(statistics: &RegionStatistics) -> usize {
    statistics.resident_bytes.value().unwrap_or(statistics.committed_bytes)
}

/// Whether a slot has room for a block.
pub(super) fn fits(slot: Layout, wanted: Layout) -> bool {
    wanted.size() <= slot.size() && wanted.align() <= slot.align()
}

/// What a region is asked for.
pub(super) fn layout(size: usize, align_log2: u32) -> Option<Layout> {
    Layout::from_size_align(size.max(1), 1 << align_log2.clamp(ALIGN_LOG2, 12)).ok()
}

/// A pool's blocks.
pub(super) fn pool_layout(route: &SiteRoute) -> Option<Layout> {
    let size = route.sizes.iter().copied().find(|&size| size > 0)?;
    layout(size.next_multiple_of(16), 0)
}

fn make(route: &SiteRoute) -> Option<Region> {
    let pages = AnonymousPages;
    Some(match route.kind {
        RegionKind::Linear => Region::Linear(Box::new(Linear::aligned_in(pages))),
        RegionKind::Stack => {
            let bytes = route.capacity_bytes;
            Region::Stack(Stack::new_in(pages, bytes, OutOfOrder::Defer).ok()?)
        }
        RegionKind::Pool => Region::Pool(Pool::new_in(pages, pool_layout(route)?)),
        RegionKind::Slab => {
            let bytes = route.capacity_bytes;
            Region::Slab(Box::new(Slab::new_in(pages, bytes, Lines::Packed).ok()?))
        }
        RegionKind::Buddy => {
            let bytes = route.capacity_bytes;
            let heap = Buddy::new_in(pages, bytes, BUDDY_LEAF_BYTES, Tails::Trim).ok()?;
            Region::Buddy(Box::new(heap))
        }
    })
}

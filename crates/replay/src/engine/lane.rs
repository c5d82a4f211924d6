//! The region that serves one call site in one replay thread, in the place of `malloc`.
//!
//! # Invariants
//! - I1: a block that a lane gives is freed by that lane: the plan's site has no block that one
//!   thread makes and another ends (the parent asks before it starts such a run).
//! - I2: a lane with live blocks is never dropped: they count as memory until the end.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use heapwright_regions::{
    AnonymousPages, Buddy, End, Linear, Lines, OutOfOrder, Pool, Slab, Stack, Tails,
};

use crate::site::{RegionKind, SiteRoute};

/// Natural alignment of blocks, as `malloc` gives it.
const ALIGN_LOG2: u32 = 4;
/// Leaves of a buddy heap.
const BUDDY_LEAF_BYTES: usize = 4096;

/// The five, each on the kernel's pages.
enum Region {
    Linear(Box<Linear<AnonymousPages>>),
    Stack(Stack<AnonymousPages>),
    Pool(Pool<AnonymousPages>),
    Slab(Box<Slab<AnonymousPages>>),
    Buddy(Box<Buddy<AnonymousPages>>),
}

/// A site's region in one thread; made at its first block.
pub(super) struct Lane {
    route: Option<SiteRoute>,
    region: Option<Region>,
    live_blocks: u64,
}

impl Lane {
    /// A lane for the routed site, if there is one.
    pub(super) fn new(route: Option<SiteRoute>) -> Self {
        Self { route, region: None, live_blocks: 0 }
    }

    /// Whether blocks of `site` are this lane's.
    #[inline(always)]
    pub(super) fn serves(&self, site: u32) -> bool {
        self.route.is_some_and(|route| route.site == site)
    }

    /// A block; null when the region has none.
    #[inline]
    pub(super) fn alloc(&mut self, size: usize, align_log2: u32) -> *mut u8 {
        let Some(layout) = layout(size, align_log2) else { return ptr::null_mut() };
        if self.region.is_none() {
            self.region = self.route.as_ref().and_then(make);
        }
        let block = match &self.region {
            Some(Region::Linear(arena)) => arena.try_alloc_layout(layout).ok(),
            Some(Region::Stack(stack)) => stack.try_alloc(End::Low, layout).ok(),
            Some(Region::Pool(pool)) if fits(pool.block_layout(), layout) => pool.try_alloc().ok(),
            Some(Region::Slab(slab)) => slab.try_alloc(layout).ok(),
            Some(Region::Buddy(buddy)) => buddy.try_alloc(layout).ok(),
            _ => None,
        };
        self.live_blocks += 1;
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Ends a block. A linear region ends all together: when the last one goes.
    ///
    /// # Safety
    /// - `block` is a live block of this lane, made with that size and alignment.
    #[inline]
    pub(super) unsafe fn free(&mut self, block: *mut u8, size: usize, align_log2: u32) {
        self.live_blocks -= 1;
        let (Some(block), Some(layout)) = (NonNull::new(block), layout(size, align_log2)) else {
            return;
        };
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

impl Drop for Lane {
    fn drop(&mut self) {
        if self.live_blocks != 0 {
            std::mem::forget(self.region.take());
        }
    }
}

/// Of a region of fixed length what was ever touched.
fn resident(statistics: &heapwright_regions::RegionStatistics) -> usize {
    statistics.resident_bytes.value().unwrap_or(statistics.committed_bytes)
}

fn fits(slot: Layout, wanted: Layout) -> bool {
    wanted.size() <= slot.size() && wanted.align() <= slot.align()
}

fn layout(size: usize, align_log2: u32) -> Option<Layout> {
    Layout::from_size_align(size.max(1), 1 << align_log2.clamp(ALIGN_LOG2, 12)).ok()
}

fn make(route: &SiteRoute) -> Option<Region> {
    let pages = AnonymousPages;
    Some(match route.kind {
        RegionKind::Linear => Region::Linear(Box::new(Linear::new())),
        RegionKind::Stack => {
            let bytes = route.capacity_bytes;
            Region::Stack(Stack::new_in(pages, bytes, OutOfOrder::Defer).ok()?)
        }
        RegionKind::Pool => {
            let size = route.sizes.iter().copied().find(|&size| size > 0)?;
            Region::Pool(Pool::new_in(pages, layout(size.next_multiple_of(16), 0)?))
        }
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

#[cfg(test)]
mod tests {
    use super::Lane;
    use crate::site::{RegionKind, SITE_SIZES_MAX, SiteRoute};

    #[test]
    fn every_region_gives_and_takes_blocks_and_tells_what_it_holds() {
        let mut sizes = [0; SITE_SIZES_MAX];
        sizes[..2].copy_from_slice(&[40, 100]);
        for kind in RegionKind::ALL {
            let route = SiteRoute { site: 3, kind, capacity_bytes: 1 << 20, sizes };
            let mut lane = Lane::new(Some(route));
            assert!(lane.serves(3) && !lane.serves(2));
            assert_eq!(lane.held_bytes(), 0);
            for _ in 0..3 {
                let blocks: Vec<*mut u8> = (0..50).map(|_| lane.alloc(40, 0)).collect();
                for &block in &blocks {
                    assert!(!block.is_null() && block.addr().is_multiple_of(16), "{kind:?}");
                    // SAFETY: a live block of 40 bytes.
                    unsafe { block.write_bytes(7, 40) };
                }
                assert!(lane.held_bytes() >= 50 * 40, "{kind:?}: {}", lane.held_bytes());
                for block in blocks.into_iter().rev() {
                    // SAFETY: live, of this lane and size.
                    unsafe { lane.free(block, 40, 0) };
                }
            }
            let after = lane.held_bytes();
            assert!(after < 1 << 20, "{kind:?}: {after} bytes held for 2000");
        }
    }
}

//! What serves one call site in one replay thread, in the place of `malloc`.
//!
//! # Invariants
//! - I1: a block that a lane gives is freed by that lane, or, where the site's blocks are ended by
//!   other threads than the ones that made them, by a lane of the same [`SharedRegion`] (the parent
//!   says which it is, from what the compiler counted).

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use heapwright_regions::{AnonymousPages, PoolLocal, SlabLocal};

use super::own_region::{OwnRegion, fits, layout};
use super::shared_region::SharedRegion;
use crate::site::SiteRoute;

/// A region of this thread's own, or its way to the one that threads share.
enum Seat {
    Own(OwnRegion),
    /// With what a block is.
    Pool(Layout, PoolLocal<'static, AnonymousPages>),
    Slab(Box<SlabLocal<'static, AnonymousPages>>),
    Locked(&'static Mutex<OwnRegion>),
}

/// A site's region as one thread uses it; made at its first block.
pub(super) struct Lane {
    route: Option<SiteRoute>,
    shared: Option<&'static SharedRegion>,
    seat: Option<Seat>,
}

impl Lane {
    /// A lane for the routed site, if there is one; its blocks are those of `shared`, if that is
    /// given, else of a region of its own.
    pub(super) fn new(route: Option<SiteRoute>, shared: Option<&'static SharedRegion>) -> Self {
        Self { route, shared, seat: None }
    }

    /// Whether blocks of `site` are this lane's.
    #[inline(always)]
    pub(super) fn serves(&self, site: u32) -> bool {
        self.route.is_some_and(|route| route.site == site)
    }

    /// A block; null when the region has none.
    #[inline(always)]
    pub(super) fn alloc(&mut self, size: usize, align_log2: u32) -> *mut u8 {
        if let Some(Seat::Own(region)) = &mut self.seat
            && let Some(block) = region.alloc_linear(size, align_log2)
        {
            return block.as_ptr();
        }
        self.alloc_any(size, align_log2)
    }

    #[inline(never)]
    fn alloc_any(&mut self, size: usize, align_log2: u32) -> *mut u8 {
        let Some(layout) = layout(size, align_log2) else { return ptr::null_mut() };
        let block = match self.seat() {
            Some(Seat::Own(region)) => return region.alloc(layout),
            Some(Seat::Locked(region)) => return lock(region).alloc(layout),
            Some(Seat::Pool(slot, pool)) if fits(*slot, layout) => pool.try_alloc().ok(),
            Some(Seat::Slab(slab)) => slab.try_alloc(layout).ok(),
            _ => None,
        };
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Ends a block.
    ///
    /// # Safety
    /// - `block` is a live block of this lane, or of one with the same shared region, made with
    ///   that size and alignment.
    #[inline(always)]
    pub(super) unsafe fn free(&mut self, block: *mut u8, size: usize, align_log2: u32) {
        if let Some(Seat::Own(region)) = &mut self.seat
            && region.end_linear()
        {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.free_any(block, size, align_log2) };
    }

    /// # Safety
    /// - As for [`Self::free`].
    #[inline(never)]
    unsafe fn free_any(&mut self, block: *mut u8, size: usize, align_log2: u32) {
        let (Some(block), Some(layout)) = (NonNull::new(block), layout(size, align_log2)) else {
            return;
        };
        match self.seat() {
            // SAFETY: the caller's block and layout, of this lane's own region.
            Some(Seat::Own(region)) => unsafe { region.free(block, layout) },
            // SAFETY: the caller's block and layout, of the one region that all share.
            Some(Seat::Locked(region)) => unsafe { lock(region).free(block, layout) },
            // SAFETY: the caller's block, of this pool: any handle may free it.
            Some(Seat::Pool(_, pool)) => unsafe { pool.free(block) },
            // SAFETY: the caller's block and layout, of this slab: any handle may free it.
            Some(Seat::Slab(slab)) => unsafe { slab.free(block, layout) },
            // No handle left for this thread: the block stays, as it would in the program.
            None => {}
        }
    }

    /// The block with `size` bytes: in place where the region can do that, else in another one
    /// with its bytes, the old one ended. Null (and the old one still there) when the region has
    /// none.
    ///
    /// # Safety
    /// - As for [`Lane::free`], with `old_size`; the new one has natural alignment.
    pub(super) unsafe fn resize(
        &mut self,
        block: *mut u8,
        old_size: usize,
        align_log2: u32,
        size: usize,
    ) -> *mut u8 {
        let (Some(old), Some(new)) = (layout(old_size, align_log2), layout(size, 0)) else {
            return ptr::null_mut();
        };
        let Some(start) = NonNull::new(block) else { return ptr::null_mut() };
        match self.seat() {
            // SAFETY: the caller's block and layout, of this lane's own region.
            Some(Seat::Own(region)) => return unsafe { region.resize(start, old, new) },
            // SAFETY: the caller's block and layout, of the one region that all share.
            Some(Seat::Locked(region)) => return unsafe { lock(region).resize(start, old, new) },
            Some(Seat::Pool(slot, _)) if fits(*slot, new) => return block,
            Some(Seat::Pool(..) | Seat::Slab(_)) | None => {}
        }
        let moved = self.alloc(size, 0);
        if !moved.is_null() {
            // SAFETY: both are live, different, and have at least so many bytes.
            unsafe { ptr::copy_nonoverlapping(block, moved, old_size.min(size)) };
            // SAFETY: the caller's promise.
            unsafe { self.free(block, old_size, align_log2) };
        }
        moved
    }

    /// Bytes that a region of this lane's own holds; the one that threads share tells it itself.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.seat {
            Some(Seat::Own(region)) => region.held_bytes(),
            _ => 0,
        }
    }

    /// The region, or the way to it, made now if there is none yet; none when there can be none.
    #[inline]
    fn seat(&mut self) -> Option<&mut Seat> {
        if self.seat.is_none() {
            self.seat = self.open();
        }
        self.seat.as_mut()
    }

    #[cold]
    fn open(&self) -> Option<Seat> {
        match self.shared {
            Some(SharedRegion::Pool(pool)) => Some(Seat::Pool(pool.block_layout(), pool.local())),
            Some(SharedRegion::Slab(slab)) => slab.local().ok().map(Box::new).map(Seat::Slab),
            Some(SharedRegion::Locked(region)) => Some(Seat::Locked(region)),
            None => self.route.as_ref().map(OwnRegion::new).map(Seat::Own),
        }
    }
}

fn lock(region: &Mutex<OwnRegion>) -> std::sync::MutexGuard<'_, OwnRegion> {
    region.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Lane, SharedRegion};
    use crate::site::{SITE_SIZES_MAX, SiteRoute};
    use heapwright_regions::RegionKind;

    fn route(kind: RegionKind, sizes: [usize; SITE_SIZES_MAX]) -> SiteRoute {
        SiteRoute { site: 3, kind, is_shared: false, capacity_bytes: 1 << 20, sizes }
    }

    #[test]
    fn blocks_of_a_shared_region_are_ended_by_another_thread() {
        let mut sizes = [0; SITE_SIZES_MAX];
        sizes[0] = 40;
        for kind in RegionKind::ALL {
            let route = SiteRoute { is_shared: true, ..route(kind, sizes) };
            let shared = SharedRegion::new(&route).expect("memory");
            for _ in 0..20 {
                let blocks: Vec<usize> = std::thread::scope(|scope| {
                    let maker = scope.spawn(|| {
                        let mut lane = Lane::new(Some(route), Some(shared));
                        (0..200).map(|_| lane.alloc(40, 0).expose_provenance()).collect()
                    });
                    maker.join().expect("blocks")
                });
                let mut lane = Lane::new(Some(route), Some(shared));
                for block in blocks {
                    assert_ne!(block, 0, "{kind:?}");
                    let block = std::ptr::with_exposed_provenance_mut::<u8>(block);
                    // SAFETY: a live block of 40 bytes.
                    unsafe { block.write_bytes(7, 40) };
                    // SAFETY: live, of the shared region and that size.
                    unsafe { lane.free(block, 40, 0) };
                }
            }
            let held = shared.held_bytes();
            assert!((200 * 40..1 << 20).contains(&held), "{kind:?}: {held} bytes held for 8000");
        }
    }

    /// Sizes, one after the other, of a block with others made between.
    fn resized(lane: &mut Lane, sizes: &[usize], has_neighbours: bool) -> usize {
        let mut block = lane.alloc(sizes[0], 0);
        let first = block;
        // SAFETY: a live block of that size.
        unsafe { block.write_bytes(9, sizes[0]) };
        let mut written = sizes[0];
        for pair in sizes.windows(2) {
            if has_neighbours {
                assert!(!lane.alloc(40, 0).is_null());
            }
            // SAFETY: live, of that size and natural alignment.
            block = unsafe { lane.resize(block, pair[0], 0, pair[1]) };
            assert!(!block.is_null());
            written = written.min(pair[1]);
            // SAFETY: a live block, so many of its first bytes written.
            let bytes = unsafe { std::slice::from_raw_parts(block, written) };
            assert!(bytes.iter().all(|&byte| byte == 9));
        }
        let distance = block.addr().abs_diff(first.addr());
        // SAFETY: live, of that size and natural alignment.
        unsafe { lane.free(block, sizes[sizes.len() - 1], 0) };
        distance
    }

    #[test]
    fn a_resized_block_keeps_its_bytes_in_every_region() {
        let mut sizes = [0; SITE_SIZES_MAX];
        sizes[0] = 40_000;
        for kind in RegionKind::ALL {
            for is_shared in [false, true] {
                let route = SiteRoute { is_shared, ..route(kind, sizes) };
                let shared = is_shared.then(|| SharedRegion::new(&route).expect("memory"));
                let mut lane = Lane::new(Some(route), shared);
                for has_neighbours in [false, true] {
                    resized(&mut lane, &[100, 30_000, 40_000, 64, 200], has_neighbours);
                }
            }
        }
    }

    #[test]
    fn an_arena_makes_its_newest_block_longer_where_it_is() {
        let mut lane = Lane::new(Some(route(RegionKind::Linear, [0; SITE_SIZES_MAX])), None);
        let sizes = [16, 100, 1000, 24, 500];
        assert_eq!(resized(&mut lane, &sizes, false), 0);
        assert_ne!(resized(&mut lane, &sizes, true), 0);
    }

    #[test]
    fn every_region_gives_and_takes_blocks_and_tells_what_it_holds() {
        let mut sizes = [0; SITE_SIZES_MAX];
        sizes[..2].copy_from_slice(&[40, 100]);
        for kind in RegionKind::ALL {
            let route = route(kind, sizes);
            let mut lane = Lane::new(Some(route), None);
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

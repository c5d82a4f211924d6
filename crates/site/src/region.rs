//! The region of a lane.
//!
//! # Invariants
//! - I1: one thread at a time uses a region, but for [`OwnRegion::room`] of a live block.

use core::alloc::Layout;
use core::cell::{Cell, UnsafeCell};
use core::ptr::{NonNull, null_mut};

use heapwright_os::{Protection, reserve};
use heapwright_regions::{
    Buddy, End, Linear, Lines, NoCounts, OutOfOrder, Pool, RegionKind, Slab, Stack, Tails,
};

use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::pages::{LANE_BYTES, LanePages};
use crate::table::{Served, SiteFacts};

/// Natural alignment of blocks, as `malloc` gives it.
const ALIGN: usize = 16;
/// A larger one is left to the program's allocator.
pub(crate) const ALIGN_MAX: usize = 4096;
/// Leaves of a buddy heap.
const LEAF_BYTES: usize = 4096;

type Pages = &'static LanePages;

/// One of the five, or none of them.
#[allow(clippy::large_enum_variant, reason = "one a lane, in memory that is mapped for it")]
enum Region {
    /// The program's allocator serves the site.
    None,
    Linear(UnsafeCell<Linear<Pages, NoCounts, ALIGN>>),
    Stack(Stack<Pages>),
    Pool(Pool<Pages>),
    Slab(Slab<Pages>),
    Buddy(Buddy<Pages>),
}

/// A region and what is known of its blocks.
pub(crate) struct OwnRegion {
    region: Region,
    facts: SiteFacts,
    pages: Pages,
    live_blocks: Cell<u64>,
    /// Of an arena whose blocks are resized: the newest one and its size.
    newest: Cell<(usize, usize)>,
    /// Of a buddy heap the size of the block that begins at each leaf.
    sizes: Option<Sizes>,
}

/// A number for each leaf of a lane.
struct Sizes {
    lane: usize,
    start: NonNull<AtomicU32>,
}

impl Sizes {
    fn new(pages: Pages) -> Option<Self> {
        let bytes = LANE_BYTES / LEAF_BYTES * size_of::<AtomicU32>();
        let start = reserve(bytes, Protection::ReadWrite).ok()?.cast();
        Some(Self { lane: pages.start(), start })
    }

    /// The number for the leaf at `block`, which is in the lane.
    #[inline]
    fn of(&self, block: NonNull<u8>) -> &AtomicU32 {
        let leaf = (block.as_ptr().addr() - self.lane) / LEAF_BYTES;
        debug_assert!(leaf < LANE_BYTES / LEAF_BYTES);
        // SAFETY: one of the lane's leaves, whose numbers were all mapped, for good.
        let place = unsafe { self.start.add(leaf) };
        // SAFETY: as above; zero bytes are a valid one, and it is changed as an atomic only.
        unsafe { place.as_ref() }
    }

    /// The layout that the block was made with, but for an alignment of less than a leaf.
    fn layout(&self, block: NonNull<u8>) -> Layout {
        // Relaxed: whoever has the block has it from somebody who saw the store.
        let bytes = self.of(block).load(Ordering::Relaxed) as usize;
        Layout::from_size_align(bytes, ALIGN).unwrap_or(Layout::new::<u8>())
    }
}

impl OwnRegion {
    /// The region that `facts` name; one without blocks where there is no memory for it.
    pub(crate) fn new(facts: SiteFacts, pages: Pages) -> Self {
        let region = make(&facts, pages).unwrap_or(Region::None);
        let sizes = if matches!(region, Region::Buddy(_)) { Sizes::new(pages) } else { None };
        let newest = Cell::new((0, 0));
        Self { region, facts, pages, live_blocks: Cell::new(0), newest, sizes }
    }

    /// A block of `size` bytes at a multiple of `align`; null when the region has none.
    #[inline(always)]
    pub(crate) fn alloc(&self, size: usize, align: usize) -> *mut u8 {
        if size > self.facts.size_max || align > ALIGN_MAX {
            return null_mut();
        }
        let Ok(layout) = Layout::from_size_align(size.max(1), align.max(ALIGN)) else {
            return null_mut();
        };
        let block = match &self.region {
            Region::None => None,
            Region::Linear(arena) => {
                // SAFETY: nobody else uses the region (I1), and no reference into it is kept.
                let arena = unsafe { &*arena.get() };
                let block = arena.try_alloc_layout(layout).ok();
                if self.facts.is_resized {
                    self.newest.set((block.map_or(0, |block| block.as_ptr().addr()), size));
                }
                block
            }
            Region::Stack(stack) => stack.try_alloc(End::Low, layout).ok(),
            Region::Pool(pool) if layout.align() <= pool.block_layout().align() => {
                pool.try_alloc().ok()
            }
            Region::Pool(_) => None,
            Region::Slab(slab) => slab.try_alloc(layout).ok(),
            Region::Buddy(heap) => self.sizes.as_ref().and_then(|sizes| {
                let bytes = u32::try_from(layout.size()).ok()?;
                let block = heap.try_alloc(layout).ok()?;
                sizes.of(block).store(bytes, Ordering::Relaxed);
                Some(block)
            }),
        };
        let Some(block) = block else { return null_mut() };
        self.live_blocks.set(self.live_blocks.get() + 1);
        block.as_ptr()
    }

    /// Ends a block. An arena ends all together: when the last one goes.
    ///
    /// # Safety
    /// - `block` is a live block of this region that nobody uses any more.
    #[inline(always)]
    pub(crate) unsafe fn free(&self, block: NonNull<u8>) {
        let left = self.live_blocks.get() - 1;
        self.live_blocks.set(left);
        match &self.region {
            Region::Linear(arena) => {
                if left == 0 {
                    self.newest.set((0, 0));
                    // SAFETY: nobody else uses the region (I1), and no block of it is left.
                    unsafe { &mut *arena.get() }.reset();
                }
            }
            Region::Stack(stack) => {
                // SAFETY: the caller's block, of this stack; out of order it waits.
                let freed = unsafe { stack.free(block) };
                debug_assert!(freed.is_ok(), "a block of this stack: {freed:?}");
            }
            // SAFETY: the caller's block, of this pool.
            Region::Pool(pool) => unsafe { pool.free(block) },
            Region::Slab(slab) => {
                let layout = slab.layout_of(block);
                // SAFETY: the caller's block, and the layout of its class.
                unsafe { slab.free(block, layout) };
            }
            Region::Buddy(heap) => {
                let layout = self.layout_in_buddy(block);
                // SAFETY: the caller's block, and its layout.
                let freed = unsafe { heap.free(block, layout) };
                debug_assert!(freed.is_ok(), "a block of this heap: {freed:?}");
            }
            Region::None => debug_assert!(false, "a block of no region"),
        }
    }

    /// How many bytes `block`, a live one of this region, has at least and at most: the same where
    /// the region knows. The lower figure may be touched, the upper one only read.
    pub(crate) fn room(&self, block: NonNull<u8>) -> (usize, usize) {
        let exact = |bytes| (bytes, bytes);
        match &self.region {
            Region::Linear(_) | Region::Stack(_) | Region::None => {
                (self.facts.size_min, self.pages.readable_bytes(block).min(self.facts.size_max))
            }
            Region::Pool(pool) => exact(pool.block_layout().size()),
            Region::Slab(slab) => exact(slab.layout_of(block).size()),
            Region::Buddy(_) => exact(self.layout_in_buddy(block).size()),
        }
    }

    fn layout_in_buddy(&self, block: NonNull<u8>) -> Layout {
        self.sizes.as_ref().map_or(Layout::new::<u8>(), |sizes| sizes.layout(block))
    }

    /// `block` with `size` bytes by the region's own short way, where it has one: in place, or an
    /// arena's newest block, which may move.
    ///
    /// # Safety
    /// - `block` is a live block of this region, which the calling thread uses; after success only
    ///   what comes back is used.
    pub(crate) unsafe fn resize(&self, block: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
        match &self.region {
            Region::Linear(arena) => {
                let (newest, old_size) = self.newest.get();
                if newest != block.as_ptr().addr() || size > self.facts.size_max {
                    return None;
                }
                let old = Layout::from_size_align(old_size.max(1), ALIGN).ok()?;
                let new = Layout::from_size_align(size.max(1), ALIGN).ok()?;
                if new.size() <= old.size() {
                    return Some(block);
                }
                // SAFETY: nobody else uses the region (I1).
                let arena = unsafe { &*arena.get() };
                // SAFETY: the newest block, made with the old layout.
                let grown = unsafe { arena.grow(block, old, new) }.ok()?;
                self.newest.set((grown.as_ptr().addr(), size));
                Some(grown)
            }
            Region::Stack(_) | Region::None => None,
            Region::Pool(_) | Region::Slab(_) | Region::Buddy(_) => {
                let (room, _) = self.room(block);
                // Much shorter is another class, and a buddy block's size is what was asked for.
                (size <= room && size > room / 2).then_some(block)
            }
        }
    }
}

fn make(facts: &SiteFacts, pages: Pages) -> Option<Region> {
    let bytes = facts.capacity_bytes;
    let Served::Region(kind) = facts.served else { return Some(Region::None) };
    Some(match kind {
        RegionKind::Linear => Region::Linear(UnsafeCell::new(Linear::aligned_in(pages))),
        RegionKind::Stack => Region::Stack(Stack::new_in(pages, bytes, OutOfOrder::Defer).ok()?),
        RegionKind::Pool => {
            let bytes = facts.size_max.max(1).checked_next_multiple_of(ALIGN)?;
            let layout = Layout::from_size_align(bytes, ALIGN).ok()?;
            Region::Pool(Pool::new_in(pages, layout))
        }
        RegionKind::Slab => Region::Slab(Slab::new_in(pages, bytes, Lines::Packed).ok()?),
        RegionKind::Buddy => {
            Region::Buddy(Buddy::new_in(pages, bytes, LEAF_BYTES, Tails::Trim).ok()?)
        }
    })
}

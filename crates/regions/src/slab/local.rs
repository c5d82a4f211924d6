//! The slab of one thread.

use core::alloc::Layout;
use core::cell::RefCell;
use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Counts, Figure, NoCounts, RegionStatistics};
use heapwright_core::size_class::class_bytes;
use heapwright_core::span_shape::PAGE_BYTES;
use heapwright_sync::Link;

use super::Lines;
use super::caches::{Caches, Home};
use super::ground::{Header, LARGE};
use super::pages::Pages;

/// Blocks of any size, freed in any order, for one thread: the general region.
///
/// Sizes up to 32 KiB go to one of 72 classes, at most 12.5 % apart above 128 bytes; a class takes
/// its slots from spans of 1 to 16 pages. Larger ones take whole pages. `alloc` and `free` are a
/// dozen instructions each until a list of a class is empty or too long. All bookkeeping is out of
/// band except for links in free slots. Memory that is free goes back to the backing when it
/// exceeds a quarter of what is in use, not before.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{AnonymousPages, Lines, Slab};
///
/// let slab = Slab::new_in(AnonymousPages, 1 << 30, Lines::Packed)?;
/// let layout = Layout::new::<[u8; 1000]>();
/// let block = slab.try_alloc(layout)?;
/// assert_eq!(slab.statistics().live_bytes.value(), Some(1024));
/// // SAFETY: live, unused from here.
/// unsafe { slab.free(block, layout) };
/// assert_eq!(slab.statistics().live_bytes.value(), Some(0));
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
pub struct Slab<B: Backing, C: Counts = NoCounts> {
    caches: Caches,
    pages: RefCell<Pages>,
    counts: C,
    backing: B,
}

// SAFETY: all memory belongs to this value alone; blocks are raw pointers, whose users are bound
// by what they promise to `free`.
unsafe impl<B: Backing + Send, C: Counts + Send> Send for Slab<B, C> {}

/// The slab as its own caches see it: every span is mine.
struct Alone<'a, B: Backing> {
    pages: &'a RefCell<Pages>,
    backing: &'a B,
}

impl<B: Backing> Home for Alone<'_, B> {
    const FLUSH_COUNT: u32 = 2;

    fn take(&self, pages: u32) -> Result<u32, AllocError> {
        self.pages.borrow_mut().take(self.backing, pages)
    }

    fn take_span(&self, pages: u32, class: u8) -> Result<u32, AllocError> {
        let mut all = self.pages.borrow_mut();
        let first = all.take(self.backing, pages)?;
        all.set_class(first, class);
        Ok(first)
    }

    fn give(&self, page: u32) {
        self.pages.borrow_mut().give(self.backing, page);
    }

    fn is_mine(&self, _: &Header) -> bool {
        true
    }

    fn send(&self, owner: u16, _: *mut Link, _: *mut Link) {
        unreachable!("owner {owner} of a slab of one thread");
    }

    fn arrived(&self) -> *mut Link {
        core::ptr::null_mut()
    }

    fn adopt(&self, _: u8) -> Option<u32> {
        None
    }
}

impl<B: Backing> Slab<B, NoCounts> {
    /// A slab of at most `capacity_bytes`, bookkeeping (0.8 %) included. Takes addresses only.
    ///
    /// # Errors
    /// What the backing says; [`AllocError::Unfit`] for less than a page or more than 16 TiB.
    pub fn new_in(backing: B, capacity_bytes: usize, lines: Lines) -> Result<Self, AllocError> {
        Self::counted_in(backing, capacity_bytes, lines, NoCounts)
    }
}

impl<B: Backing, C: Counts> Slab<B, C> {
    /// As [`Slab::new_in`], counting in `counts`.
    ///
    /// # Errors
    /// As there.
    pub fn counted_in(
        backing: B,
        capacity_bytes: usize,
        lines: Lines,
        counts: C,
    ) -> Result<Self, AllocError> {
        let pages = Pages::new(&backing, capacity_bytes)?;
        let caches = Caches::new(pages.ground, lines);
        Ok(Self { caches, pages: RefCell::new(pages), counts, backing })
    }

    /// Where memory comes from.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    #[inline]
    fn home(&self) -> Alone<'_, B> {
        Alone { pages: &self.pages, backing: &self.backing }
    }

    /// How many bytes a block of `layout` may use.
    #[inline]
    pub fn usable_bytes(&self, layout: Layout) -> usize {
        self.caches.usable_bytes(layout)
    }

    /// A layout that `block`, a live block of this slab, may be freed or resized with by who does
    /// not know the one it was made with: all bytes that it may use. Of another address it says
    /// anything, or panics. A look at the header of the block's page.
    #[inline]
    pub fn layout_of(&self, block: NonNull<u8>) -> Layout {
        let ground = &self.caches.ground;
        let header = ground.header(ground.span_of(ground.offset_of(block)));
        let bytes = match header.class.get() {
            LARGE => header.pages.get() as usize * PAGE_BYTES,
            class => class_bytes(class as usize),
        };
        Layout::from_size_align(bytes, 1).unwrap_or(Layout::new::<u8>())
    }

    /// A block of `layout`, uninitialised; also for no bytes.
    ///
    /// # Errors
    /// [`AllocError::Full`], what the backing says, or [`AllocError::Unfit`] for alignments above
    /// a page of 4096 bytes.
    #[inline]
    pub fn try_alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let Some(class) = self.caches.class_of(layout) else { return self.alloc_large(layout) };
        let block = match self.caches.pop(class) {
            Some(block) => block,
            None => self.refill(class)?,
        };
        self.counts.on_alloc(layout.size(), class_bytes(class));
        Ok(block)
    }

    #[cold]
    #[inline(never)]
    fn refill(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        let block = self.caches.refill(&self.home(), class);
        if block.is_err() {
            self.counts.on_failure();
        }
        block
    }

    #[cold]
    #[inline(never)]
    fn alloc_large(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let taken = large_pages(layout).and_then(|pages| {
            let home = self.home();
            home.take(pages).or_else(|_| {
                // Lists may hold the last blocks of spans that are empty otherwise.
                self.caches.flush_all(&home);
                home.take(pages)
            })
        });
        match taken {
            Ok(page) => {
                self.counts.on_alloc(layout.size(), self.usable_bytes(layout));
                Ok(self.caches.ground.at(page as usize * PAGE_BYTES))
            }
            Err(error) => {
                self.counts.on_failure();
                Err(error)
            }
        }
    }

    /// Gives a block back.
    ///
    /// # Panics
    /// If it is the last one of its class that came back (a double free that one comparison
    /// sees); later, if it is not of this slab.
    ///
    /// # Safety
    /// - `block` is a live block of this slab with that layout, and nobody uses it any more.
    #[inline]
    pub unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        let Some(class) = self.caches.class_of(layout) else {
            return self.free_large(block, layout);
        };
        // SAFETY: the caller's promise; the layout gives the class that the block was made for.
        if unsafe { self.caches.push(class, block) } {
            self.caches.flush(&self.home(), class);
        }
        self.counts.on_free(layout.size(), class_bytes(class));
    }

    #[cold]
    #[inline(never)]
    fn free_large(&self, block: NonNull<u8>, layout: Layout) {
        let offset = self.caches.ground.offset_of(block);
        self.pages.borrow_mut().give_large(&self.backing, offset);
        self.counts.on_free(layout.size(), self.usable_bytes(layout));
        self.pages.borrow().check();
    }

    /// Makes a block longer or shorter: in place while its class stays, else elsewhere.
    ///
    /// # Errors
    /// As [`Self::try_alloc`]; the block is then as before.
    ///
    /// # Safety
    /// - `block` is a live block of this slab with layout `old`; after success only the returned
    ///   pointer is used.
    pub unsafe fn resize(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<u8>, AllocError> {
        if self.caches.class_of(old) == self.caches.class_of(new)
            && self.usable_bytes(old) == self.usable_bytes(new)
            && new.align() <= old.align()
        {
            self.counts.on_free(old.size(), self.usable_bytes(old));
            self.counts.on_alloc(new.size(), self.usable_bytes(new));
            return Ok(block);
        }
        let moved = self.try_alloc(new)?;
        // SAFETY: two live blocks, both at least that long.
        unsafe { moved.copy_from_nonoverlapping(block, old.size().min(new.size())) };
        // SAFETY: the caller gives it up.
        unsafe { self.free(block, old) };
        Ok(moved)
    }

    /// Gives what no block uses back to the backing. O(spans), system calls.
    pub fn trim(&self) {
        self.caches.flush_all(&self.home());
        let mut pages = self.pages.borrow_mut();
        pages.trim(&self.backing);
        pages.check();
    }

    /// What the slab holds now. O(spans + free blocks at hand), and the kernel is asked.
    pub fn statistics(&self) -> RegionStatistics {
        let pages = self.pages.borrow();
        pages.check();
        let mut seen = pages.statistics(&self.backing);
        let (count, bytes) = self.caches.cached();
        let less = |figure: Figure, less| figure.value().map(|all: usize| all - less).into();
        seen.live_count = less(seen.live_count, count);
        seen.live_bytes = less(seen.live_bytes, bytes);
        let live_bytes = seen.live_bytes.value().unwrap_or(0);
        seen.free_bytes = Figure::Exact(pages.memory_bytes() - live_bytes);
        seen.largest_free_bytes = seen.largest_free_bytes.max(self.caches.largest_ready_bytes());
        self.counts.report(&mut seen);
        seen
    }
}

/// How many pages a large block of `layout` takes.
pub(super) fn large_pages(layout: Layout) -> Result<u32, AllocError> {
    let pages = u32::try_from(layout.size().div_ceil(PAGE_BYTES).max(1)).ok();
    pages.filter(|_| layout.align() <= PAGE_BYTES).ok_or(AllocError::Unfit {
        requested_bytes: layout.size(),
        align_bytes: layout.align(),
        largest_bytes: (u32::MAX as usize).saturating_mul(PAGE_BYTES),
    })
}

impl Pages {
    /// Gives the span of one block back, after looking whether it is one.
    pub(super) fn give_large<B: Backing>(&mut self, backing: &B, offset: usize) {
        let page = offset / PAGE_BYTES;
        let inside = page < self.ground.page_count() as usize;
        assert!(inside && offset.is_multiple_of(PAGE_BYTES), "no large block of this slab");
        let header = self.ground.header(page as u32);
        assert!(header.run_pages.get() == 0, "the large block is free already");
        assert!(header.class.get() == LARGE && header.back.get() == 0, "a large block of slots");
        self.give(backing, page as u32);
    }

    /// What pages tell: blocks in lists count as live.
    pub(super) fn statistics<B: Backing>(&self, backing: &B) -> RegionStatistics {
        let (mut count, mut bytes) = (0, 0);
        self.for_each_span(|_, header| {
            let class = header.class.get();
            let used = usize::from(header.used());
            count += used;
            bytes += match class {
                LARGE => header.pages.get() as usize * PAGE_BYTES,
                class => used * class_bytes(usize::from(class)),
            };
        });
        let mut seen = RegionStatistics {
            live_count: Figure::Exact(count),
            live_bytes: Figure::Exact(bytes),
            largest_free_bytes: self.largest_free_pages() as usize * PAGE_BYTES,
            ..RegionStatistics::default()
        };
        let mut resident = Some(0);
        for extent in self.extents() {
            seen.reserved_bytes += extent.reserved_bytes;
            seen.committed_bytes += extent.committed_bytes;
            if extent.committed_bytes > 0 {
                // SAFETY: a live extent of this backing.
                let here = unsafe { backing.resident_bytes(extent, 0..extent.committed_bytes) };
                resident = resident.zip(here).map(|(sum, here)| sum + here);
            }
        }
        seen.resident_bytes = resident.into();
        seen
    }
}

impl<B: Backing, C: Counts> Drop for Slab<B, C> {
    /// Gives all memory back; blocks still live end with it.
    fn drop(&mut self) {
        // SAFETY: the backing of `new_in`; the caches are not used any more.
        unsafe { self.pages.get_mut().release(&self.backing) };
    }
}

impl<B: Backing, C: Counts> fmt::Debug for Slab<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab").field("ground", &self.caches.ground).finish_non_exhaustive()
    }
}

//! The slab of many threads: each allocates from spans of its own through a handle.
//!
//! A block that another thread frees stays in that thread's list until the list is flushed; then
//! all blocks of one owner go to it in one atomic operation. What a thread leaves behind is
//! adopted by those that stay.
//!
//! # Invariants
//! design/regions.md#SL6: only the owner touches a span's slots; owners change under the lock.

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};
use heapwright_core::size_class::CLASS_COUNT;
use heapwright_core::span_shape::PAGE_BYTES;
use heapwright_sync::{Guard, Link, Lock, RemoteQueue};

use super::Lines;
use super::caches::{Caches, Home, link, put_slot, unlink};
use super::ground::{Ground, Header, NIL, NOBODY};
use super::local::large_pages;
use super::pages::Pages;
use crate::wait::{Sleep, token};

/// Threads that may have a handle at one time.
pub(super) const OWNER_COUNT: usize = 64;

/// What others send to one thread, on a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Owner {
    queue: RemoteQueue,
}

/// What is under the lock.
struct Common<B> {
    pages: Pages,
    backing: B,
    /// Bit `n`: handle `n` exists.
    owners: u64,
    /// Spans with free slots whose owner has gone, by class.
    orphans: [Cell<u32>; CLASS_COUNT],
}

// SAFETY: the pages' pointers lead to memory that belongs to the slab alone.
unsafe impl<B: Send> Send for Common<B> {}

/// Blocks of any size for many threads; see [`Slab`](super::Slab) for what a slab is.
///
/// Each thread takes a handle, [`Self::local`], and allocates and frees through it: as fast as a
/// slab of its own, without an atomic operation until a list runs empty or too long. A block may
/// be freed through any handle.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{AnonymousPages, Lines, SharedSlab};
///
/// let slab = SharedSlab::new_in(AnonymousPages, 1 << 30, Lines::Packed)?;
/// let layout = Layout::new::<u64>();
/// let here = slab.local()?;
/// let block = here.try_alloc(layout)?.as_ptr().expose_provenance();
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let there = slab.local().expect("less than 64 handles");
///         let block = core::ptr::with_exposed_provenance_mut(block);
///         // SAFETY: live, unused from here.
///         unsafe { there.free(core::ptr::NonNull::new(block).expect("a block"), layout) };
///     });
/// });
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
/// A handle stays in its thread:
/// ```compile_fail,E0277
/// # use heapwright_regions::{AnonymousPages, Lines, SharedSlab};
/// fn send(_: impl Send) {}
/// let slab = SharedSlab::new_in(AnonymousPages, 1 << 20, Lines::Packed).unwrap();
/// send(slab.local().unwrap());
/// ```
/// and does not outlive the slab:
/// ```compile_fail,E0505
/// # use heapwright_regions::{AnonymousPages, Lines, SharedSlab};
/// let slab = SharedSlab::new_in(AnonymousPages, 1 << 20, Lines::Packed).unwrap();
/// let local = slab.local().unwrap();
/// drop(slab);
/// drop(local);
/// ```
pub struct SharedSlab<B: Backing> {
    ground: Ground,
    lines: Lines,
    owners: [Owner; OWNER_COUNT],
    common: Lock<Common<B>, Sleep>,
}

// SAFETY: pages belong to this value alone; what threads share of them is under the lock, in
// queues, or their owner's alone (SL6).
unsafe impl<B: Backing + Send> Send for SharedSlab<B> {}
// SAFETY: as above.
unsafe impl<B: Backing + Send> Sync for SharedSlab<B> {}

impl<B: Backing> SharedSlab<B> {
    /// A slab of at most `capacity_bytes`, bookkeeping (0.8 %) included. Takes addresses only.
    ///
    /// # Errors
    /// As for [`Slab::new_in`](super::Slab::new_in).
    pub fn new_in(backing: B, capacity_bytes: usize, lines: Lines) -> Result<Self, AllocError> {
        let pages = Pages::new(&backing, capacity_bytes)?;
        let ground = pages.ground;
        let owners = core::array::from_fn(|_| {
            let queue = RemoteQueue::new();
            queue.close();
            Owner { queue }
        });
        let orphans = core::array::from_fn(|_| Cell::new(NIL));
        let common = Lock::new(Common { pages, backing, owners: 0, orphans });
        Ok(Self { ground, lines, owners, common })
    }

    /// A handle for the calling thread. A thread may have several; up to 64 exist at one time.
    ///
    /// # Errors
    /// [`AllocError::Unfit`] when there are 64 already.
    pub fn local(&self) -> Result<SlabLocal<'_, B>, AllocError> {
        let mut common = self.common();
        let index = common.owners.trailing_ones() as usize;
        if index == OWNER_COUNT {
            return Err(AllocError::Unfit { requested_bytes: 0, align_bytes: 1, largest_bytes: 0 });
        }
        common.owners |= 1 << index;
        self.owners[index].queue.open();
        drop(common);
        let home = Seat { slab: self, index: index as u16, thread: PhantomData };
        Ok(SlabLocal { caches: Caches::new(self.ground, self.lines), home })
    }

    fn common(&self) -> Guard<'_, Common<B>, Sleep> {
        match self.common.lock(token()) {
            Ok(guard) => guard,
            // No code of others runs inside, except the backing's.
            Err(_) => panic!("the backing of a slab used the slab"),
        }
    }

    /// What the slab holds now. O(spans), and the kernel is asked. What lies in threads' lists
    /// counts as live.
    pub fn statistics(&self) -> RegionStatistics {
        let common = self.common();
        let mut seen = common.pages.statistics(&common.backing);
        for figure in [&mut seen.live_count, &mut seen.live_bytes] {
            *figure = figure.value().map_or(Figure::Unknown, Figure::AtMost);
        }
        seen
    }

    /// Gives free pages back to the backing.
    pub fn trim(&self) {
        let mut common = self.common();
        let Common { pages, backing, .. } = &mut *common;
        pages.trim(backing);
    }
}

impl<B> Common<B> {
    /// Whether `owner` is the number of a handle.
    fn exists(&self, owner: u16) -> bool {
        owner != NOBODY && self.owners >> owner & 1 == 1
    }

    /// Puts an orphan's block into its span.
    fn put_orphan(&mut self, ground: &Ground, page: u32, block: NonNull<Link>)
    where
        B: Backing,
    {
        let header = ground.header(page);
        header.set_owner(NOBODY);
        let list = &self.orphans[usize::from(header.class.get())];
        let was_full = header.free.get().is_null() && header.unused.get() == 0;
        put_slot(header, block);
        if header.used() > 0 {
            if was_full {
                link(ground, list, page);
            }
            return;
        }
        if !was_full {
            unlink(ground, list, page);
        }
        self.pages.give(&self.backing, page);
    }
}

/// A handle's place among the owners.
struct Seat<'a, B: Backing> {
    slab: &'a SharedSlab<B>,
    index: u16,
    /// Neither `Send` nor `Sync`.
    thread: PhantomData<*mut ()>,
}

impl<B: Backing> Home for Seat<'_, B> {
    /// More than alone: those of another owner are a compare-and-swap together. With 8 a block from
    /// producer to consumer took 90 ns instead of 55.
    const FLUSH_COUNT: u32 = 32;

    fn take(&self, pages: u32) -> Result<u32, AllocError> {
        let mut common = self.slab.common();
        let Common { pages: all, backing, .. } = &mut *common;
        all.take(backing, pages)
    }

    fn take_span(&self, pages: u32, class: u8) -> Result<u32, AllocError> {
        let mut common = self.slab.common();
        let Common { pages: all, backing, .. } = &mut *common;
        let first = all.take(backing, pages)?;
        all.set_class(first, class);
        self.slab.ground.header(first).set_owner(self.index);
        Ok(first)
    }

    fn give(&self, page: u32) {
        let mut common = self.slab.common();
        let Common { pages, backing, .. } = &mut *common;
        pages.give(backing, page);
    }

    fn is_mine(&self, header: &Header) -> bool {
        header.owner() == self.index
    }

    fn send(&self, owner: u16, first: *mut Link, last: *mut Link) {
        if let Some(other) = self.slab.owners.get(usize::from(owner)) {
            // SAFETY: blocks that this thread has, linked by `Outgoing`, in no list.
            if unsafe { other.queue.push(first, last) }.is_ok() {
                return;
            }
        }
        // The owner has gone. Under the lock nobody comes or goes.
        let mut common = self.slab.common();
        let mut next = first;
        while let Some(block) = NonNull::new(next) {
            // SAFETY: as above; the failed push overwrote the last link only.
            next = if next == last { core::ptr::null_mut() } else { unsafe { block.read() }.next };
            let offset = self.slab.ground.offset_of(block.cast());
            let page = self.slab.ground.span_of(offset);
            let owner = self.slab.ground.header(page).owner();
            if common.exists(owner) {
                let queue = &self.slab.owners[usize::from(owner)].queue;
                // SAFETY: as above, a single block; its owner cannot close the queue now.
                let sent = unsafe { queue.push(block.as_ptr(), block.as_ptr()) };
                debug_assert!(sent.is_ok(), "a queue is open while its owner exists");
            } else {
                common.put_orphan(&self.slab.ground, page, block);
            }
        }
    }

    fn arrived(&self) -> *mut Link {
        let queue = &self.slab.owners[usize::from(self.index)].queue;
        if queue.is_empty_hint() { core::ptr::null_mut() } else { queue.take() }
    }

    fn adopt(&self, class: u8) -> Option<u32> {
        let common = self.slab.common();
        let list = &common.orphans[usize::from(class)];
        let page = list.get();
        if page == NIL {
            return None;
        }
        unlink(&self.slab.ground, list, page);
        self.slab.ground.header(page).set_owner(self.index);
        Some(page)
    }
}

/// A thread's way into a [`SharedSlab`].
pub struct SlabLocal<'a, B: Backing> {
    caches: Caches,
    home: Seat<'a, B>,
}

impl<B: Backing> SlabLocal<'_, B> {
    /// How many bytes a block of `layout` may use.
    #[inline]
    pub fn usable_bytes(&self, layout: Layout) -> usize {
        self.caches.usable_bytes(layout)
    }

    /// A block of `layout`, uninitialised; also for no bytes.
    ///
    /// # Errors
    /// As for [`Slab::try_alloc`](super::Slab::try_alloc).
    #[inline]
    pub fn try_alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let Some(class) = self.caches.class_of(layout) else { return self.alloc_large(layout) };
        match self.caches.pop(class) {
            Some(block) => Ok(block),
            None => self.caches.refill(&self.home, class),
        }
    }

    #[cold]
    #[inline(never)]
    fn alloc_large(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let pages = large_pages(layout)?;
        let page = self.home.take(pages).or_else(|_| {
            self.flush();
            self.home.take(pages)
        })?;
        Ok(self.caches.ground.at(page as usize * PAGE_BYTES))
    }

    /// Gives a block back, whichever handle it came from.
    ///
    /// # Panics
    /// As [`Slab::free`](super::Slab::free).
    ///
    /// # Safety
    /// - `block` is a live block of this handle's slab with that layout, and nobody uses it any
    ///   more.
    #[inline]
    pub unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        let Some(class) = self.caches.class_of(layout) else { return self.free_large(block) };
        // SAFETY: the caller's promise; the layout gives the class that the block was made for.
        if unsafe { self.caches.push(class, block) } {
            self.caches.flush(&self.home, class);
        }
    }

    #[cold]
    #[inline(never)]
    fn free_large(&self, block: NonNull<u8>) {
        let offset = self.caches.ground.offset_of(block);
        let mut common = self.home.slab.common();
        let Common { pages, backing, .. } = &mut *common;
        pages.give_large(backing, offset);
    }

    /// Of the whole slab, without what lies in this handle's lists.
    pub(crate) fn slab_statistics(&self) -> RegionStatistics {
        let mut seen = self.home.slab.statistics();
        let (count, bytes) = self.caches.cached();
        let less = |figure: Figure, less| {
            figure.value().map_or(Figure::Unknown, |all| Figure::AtMost(all - less))
        };
        seen.live_count = less(seen.live_count, count);
        seen.live_bytes = less(seen.live_bytes, bytes);
        seen
    }

    /// Gives all blocks at hand back to their spans, and takes in what others sent.
    pub fn flush(&self) {
        self.caches.take_all_in(&self.home);
        self.caches.flush_all(&self.home);
    }
}

impl<B: Backing> Drop for SlabLocal<'_, B> {
    /// Leaves what it has to the other handles.
    fn drop(&mut self) {
        self.flush();
        let slab = self.home.slab;
        let mut common = slab.common();
        let left = slab.owners[usize::from(self.home.index)].queue.close();
        common.owners &= !(1 << self.home.index);
        self.caches.abandon(|class, page| {
            let header = slab.ground.header(page);
            header.set_owner(NOBODY);
            if header.used() > 0 {
                link(&slab.ground, &common.orphans[class], page);
            } else {
                let Common { pages, backing, .. } = &mut *common;
                pages.give(backing, page);
            }
        });
        drop(common);
        // Spans of ours that are full keep our number; as it is nobody's now, blocks that go to
        // them find the way under the lock.
        if !left.is_null() {
            let mut last = left;
            loop {
                // SAFETY: blocks that were in our queue are ours alone now.
                let next = unsafe { last.read() }.next;
                if next.is_null() {
                    break;
                }
                last = next;
            }
            self.home.send(NOBODY, left, last);
        }
    }
}

impl<B: Backing> Drop for SharedSlab<B> {
    /// Gives all memory back; blocks still live end with it.
    fn drop(&mut self) {
        let mut common = self.common();
        let Common { pages, backing, .. } = &mut *common;
        // SAFETY: the backing of `new_in`; handles are borrows of us, so there is none.
        unsafe { pages.release(backing) };
    }
}

impl<B: Backing> fmt::Debug for SharedSlab<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSlab").field("ground", &self.ground).finish_non_exhaustive()
    }
}

impl<B: Backing> fmt::Debug for SlabLocal<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlabLocal").field("owner", &self.home.index).finish_non_exhaustive()
    }
}

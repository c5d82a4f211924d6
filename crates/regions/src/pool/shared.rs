//! The pool of many threads: each keeps blocks of its own and exchanges them by the batch.
//!
//! A handle has two lists. It allocates from and frees to the first; when that is empty or full,
//! it changes places with the second; and only when both are, a whole batch goes to or comes from
//! the depot, under the lock, without its links being followed.
//! Source: Bonwick and Adams, "Magazines and Vmem", USENIX 2001.
//!
//! # Invariants
//! design/regions.md#P4 and design/regions.md#P5.

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};
use heapwright_sync::{Guard, Lock};

use super::blocks::Pool;
use crate::wait::{Sleep, token};

/// Blocks of a batch of a growing pool.
const BATCH_COUNT: u32 = 64;
/// A bounded pool's handles hold a sixteenth of it at a time.
const BATCH_SHARE: usize = 16;

/// A free block. The first of a batch in the depot also leads to the next batch.
#[derive(Clone, Copy, Debug)]
struct FreeBlock {
    next: Option<NonNull<FreeBlock>>,
    next_batch: Option<NonNull<FreeBlock>>,
}

/// Free blocks that are linked, and how many.
#[derive(Clone, Copy, Debug, Default)]
struct List {
    head: Option<NonNull<FreeBlock>>,
    count: u32,
}

/// What is under the lock.
struct Common<B: Backing> {
    /// Blocks that were never given out.
    fresh: Pool<B>,
    /// Whole batches.
    batches: Option<NonNull<FreeBlock>>,
    batch_count: usize,
    /// Blocks that came back in no whole batch.
    rest: List,
}

// SAFETY: free blocks belong to the pool alone.
unsafe impl<B: Backing + Send> Send for Common<B> {}

/// Blocks of one layout for many threads.
///
/// Each thread takes a handle, [`Self::local`], and allocates and frees through it without an
/// atomic operation; every 64th operation at most takes a lock. A block may be freed through any
/// handle. A handle keeps up to 128 free blocks (of a bounded pool, an eighth of all) from the
/// others until it is dropped.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{AnonymousPages, SharedPool};
///
/// let pool = SharedPool::new_in(AnonymousPages, Layout::new::<[u64; 4]>());
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| {
///             let local = pool.local();
///             let block = local.try_alloc().expect("memory");
///             // SAFETY: live, unused from here.
///             unsafe { local.free(block) };
///         });
///     }
/// });
/// # }
/// ```
/// A handle stays in its thread:
/// ```compile_fail,E0277
/// # use core::alloc::Layout;
/// # use heapwright_regions::{AnonymousPages, SharedPool};
/// fn send(_: impl Send) {}
/// let pool = SharedPool::new_in(AnonymousPages, Layout::new::<u64>());
/// send(pool.local());
/// ```
pub struct SharedPool<B: Backing> {
    slot: Layout,
    batch: u32,
    common: Lock<Common<B>, Sleep>,
}

// SAFETY: free blocks belong to the pool or to one handle; the rest is under the lock.
unsafe impl<B: Backing + Send> Sync for SharedPool<B> {}

impl<B: Backing> SharedPool<B> {
    /// A growing pool of blocks of `layout`. Takes no memory until it is used.
    ///
    /// # Panics
    /// If no slot can have that layout: its size, 16 bytes at least, is close to `isize::MAX`.
    pub const fn new_in(backing: B, layout: Layout) -> Self {
        let fresh = Pool::new_in(backing, shared_layout(layout));
        Self::over(fresh, BATCH_COUNT)
    }

    /// A pool of `count` blocks of `layout` and never more, all taken now.
    ///
    /// # Errors
    /// As for [`Pool::bounded`].
    pub fn bounded(backing: B, layout: Layout, count: usize) -> Result<Self, AllocError> {
        let fresh = Pool::bounded(backing, shared_layout(layout), count)?;
        let share = u32::try_from(count / BATCH_SHARE).unwrap_or(BATCH_COUNT);
        Ok(Self::over(fresh, share.clamp(1, BATCH_COUNT)))
    }

    const fn over(fresh: Pool<B>, batch: u32) -> Self {
        let slot = fresh.block_layout();
        let rest = List { head: None, count: 0 };
        let common = Lock::new(Common { fresh, batches: None, batch_count: 0, rest });
        Self { slot, batch, common }
    }

    /// A handle for the calling thread.
    pub const fn local(&self) -> PoolLocal<'_, B> {
        PoolLocal {
            head: Cell::new(None),
            count: Cell::new(0),
            batch: self.batch,
            second: Cell::new(None),
            pool: self,
            thread: PhantomData,
        }
    }

    /// What a block is.
    pub const fn block_layout(&self) -> Layout {
        self.slot
    }

    fn common(&self) -> Guard<'_, Common<B>, Sleep> {
        match self.common.lock(token()) {
            Ok(guard) => guard,
            Err(_) => panic!("the backing of a pool used the pool"),
        }
    }

    /// What the pool holds now. Blocks that handles keep count as live.
    pub fn statistics(&self) -> RegionStatistics {
        let common = self.common();
        let mut seen = common.fresh.statistics();
        let idle = common.batch_count * self.batch as usize + common.rest.count as usize;
        let less = |figure: Figure, less| {
            figure.value().map_or(Figure::Unknown, |all: usize| Figure::AtMost(all - less))
        };
        seen.live_count = less(seen.live_count, idle);
        seen.live_bytes = less(seen.live_bytes, idle * self.slot.size());
        seen.free_bytes = Figure::Exact(
            seen.committed_bytes.saturating_sub(seen.live_bytes.value().unwrap_or(0)),
        );
        if idle > 0 {
            seen.largest_free_bytes = self.slot.size();
        }
        seen
    }
}

impl<B: Backing> Common<B> {
    /// Up to `batch` blocks: a whole batch, or what came back alone, or fresh ones.
    fn take(&mut self, batch: u32) -> Result<List, AllocError> {
        if let Some(first) = self.batches {
            // SAFETY: in the depot: a free block that nobody uses (P4).
            self.batches = unsafe { first.read() }.next_batch;
            self.batch_count -= 1;
            return Ok(List { head: Some(first), count: batch });
        }
        if self.rest.count > 0 {
            return Ok(core::mem::take(&mut self.rest));
        }
        let mut list = List::default();
        while list.count < batch {
            match self.fresh.try_alloc() {
                Ok(block) => list.push(block.cast()),
                Err(error) if list.count == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(list)
    }

    fn put_batch(&mut self, first: NonNull<FreeBlock>) {
        // SAFETY: free blocks that their handle gave up (P4).
        let block = FreeBlock { next_batch: self.batches, ..unsafe { first.read() } };
        // SAFETY: as above.
        unsafe { first.write(block) };
        self.batches = Some(first);
        self.batch_count += 1;
    }
}

impl List {
    fn push(&mut self, block: NonNull<FreeBlock>) {
        // SAFETY: a slot of at least 16 bytes, aligned for a pointer, that nobody uses.
        unsafe { block.write(FreeBlock { next: self.head, next_batch: None }) };
        self.head = Some(block);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<NonNull<FreeBlock>> {
        let block = self.head?;
        // SAFETY: a free block of this list (P4).
        self.head = unsafe { block.read() }.next;
        self.count -= 1;
        Some(block)
    }
}

/// A thread's way into a [`SharedPool`].
pub struct PoolLocal<'a, B: Backing> {
    /// Less than a batch, or a whole one.
    head: Cell<Option<NonNull<FreeBlock>>>,
    count: Cell<u32>,
    batch: u32,
    /// A whole batch, or none.
    second: Cell<Option<NonNull<FreeBlock>>>,
    pool: &'a SharedPool<B>,
    /// Neither `Send` nor `Sync`.
    thread: PhantomData<*mut ()>,
}

impl<B: Backing> PoolLocal<'_, B> {
    /// A block, uninitialised.
    ///
    /// # Errors
    /// As for [`Pool::try_alloc`]; other handles may have free blocks then.
    #[inline(always)]
    pub fn try_alloc(&self) -> Result<NonNull<u8>, AllocError> {
        match self.pop() {
            Some(block) => Ok(block),
            None => self.refill(),
        }
    }

    #[inline(always)]
    fn pop(&self) -> Option<NonNull<u8>> {
        let block = self.head.get()?;
        // SAFETY: in our list, so a free block that only we use (P4). The link is its first word.
        let next = unsafe { block.cast::<Option<NonNull<FreeBlock>>>().read() };
        self.head.set(next);
        self.count.set(self.count.get() - 1);
        Some(block.cast())
    }

    #[cold]
    #[inline(never)]
    fn refill(&self) -> Result<NonNull<u8>, AllocError> {
        let list = match self.second.take() {
            Some(second) => List { head: Some(second), count: self.batch },
            None => self.pool.common().take(self.batch)?,
        };
        debug_assert!(list.count > 0, "P5");
        self.head.set(list.head);
        self.count.set(list.count);
        self.check();
        let full = AllocError::Full {
            requested_bytes: self.pool.slot.size(),
            largest_free_bytes: 0,
            capacity_bytes: 0,
        };
        self.pop().ok_or(full)
    }

    /// Gives a block back, whichever handle it came from.
    ///
    /// # Panics
    /// If it was the last one given back here: a double free that costs one comparison to see.
    ///
    /// # Safety
    /// - `block` is a live block of this handle's pool, and nobody uses it any more.
    #[inline(always)]
    pub unsafe fn free(&self, block: NonNull<u8>) {
        let block = block.cast::<FreeBlock>();
        let next = self.head.get();
        if next == Some(block) {
            freed_twice(block.as_ptr().addr());
        }
        if self.count.get() == self.batch {
            self.make_room();
        }
        let next = self.head.get();
        // SAFETY: a slot of ours, aligned for a pointer, that the caller gave up. The link is its
        // first word.
        unsafe { block.cast::<Option<NonNull<FreeBlock>>>().write(next) };
        self.head.set(Some(block));
        self.count.set(self.count.get() + 1);
    }

    /// The first list, which is a whole batch, becomes the second; that one goes to the depot.
    #[cold]
    #[inline(never)]
    fn make_room(&self) {
        self.check();
        if let Some(second) = self.second.get() {
            self.pool.common().put_batch(second);
        }
        self.second.set(self.head.take());
        self.count.set(0);
    }

    /// Gives all free blocks that this handle keeps to the others.
    pub fn flush(&self) {
        let mut common = self.pool.common();
        if let Some(second) = self.second.take() {
            common.put_batch(second);
        }
        let mut list = List { head: self.head.take(), count: self.count.replace(0) };
        while let Some(block) = list.pop() {
            common.rest.push(block);
            if common.rest.count == self.batch {
                let whole = core::mem::take(&mut common.rest);
                whole.head.into_iter().for_each(|first| common.put_batch(first));
            }
        }
    }

    /// Walks P5; empty in release builds.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let lists = [(self.head.get(), self.count.get()), (self.second.get(), self.batch)];
        for (head, count) in lists {
            let mut list = List { head, count: u32::MAX };
            while list.pop().is_some() {}
            let walked = u32::MAX - list.count;
            assert!(walked == count || (head.is_none() && walked == 0), "P5: {walked} of {count}");
        }
    }
}

impl<B: Backing> Drop for PoolLocal<'_, B> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A slot with room for both links of a free block.
const fn shared_layout(layout: Layout) -> Layout {
    let least = size_of::<FreeBlock>();
    let size = if layout.size() > least { layout.size() } else { least };
    match Layout::from_size_align(size, layout.align()) {
        Ok(layout) => layout,
        Err(_) => panic!("a layout that no slot can have"),
    }
}

#[cold]
#[inline(never)]
fn freed_twice(address: usize) -> ! {
    panic!("{address:#x} was given back twice in a row");
}

impl<B: Backing> fmt::Debug for SharedPool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPool").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl<B: Backing> fmt::Debug for PoolLocal<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolLocal").field("count", &self.count).finish_non_exhaustive()
    }
}

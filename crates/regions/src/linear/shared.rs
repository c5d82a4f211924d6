//! The arena of many threads: one range of addresses, one cursor that all move.
//!
//! # Invariants
//! design/regions.md#L9 and design/regions.md#L10.

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, BackingError, Extent};
use heapwright_core::bump::bump;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};
use heapwright_sync::atomic::{AtomicUsize, Ordering};
use heapwright_sync::{BumpCursor, Lock, NotClaimed};

use crate::growth::{Use, commit_to};
use crate::wait::{Sleep, token};

/// What the range is aligned to, and so the largest alignment of a block.
const BASE_ALIGN: usize = 4096;
/// A handle claims so much at once, and serves blocks up to an eighth of it.
const PIECE_BYTES: usize = 32 << 10;
const PIECE_SHARE: usize = 8;

/// Blocks that die together, from many threads.
///
/// All memory is one range of addresses, committed as it is used. A block costs one atomic
/// operation; through a handle, [`Self::local`], one in hundreds of blocks does.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, SharedLinear};
///
/// let mut arena = SharedLinear::new_in(AnonymousPages, 1 << 30)?;
/// let sum: u64 = std::thread::scope(|scope| {
///     let workers: Vec<_> =
///         (0..2).map(|n| scope.spawn({ let arena = &arena; move || arena.alloc(n) })).collect();
///     workers.into_iter().map(|worker| *worker.join().unwrap().unwrap()).sum()
/// });
/// assert_eq!(sum, 1);
/// arena.reset();
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
/// No block outlives the reset:
/// ```compile_fail,E0502
/// # use heapwright_regions::{AnonymousPages, SharedLinear};
/// let mut arena = SharedLinear::new_in(AnonymousPages, 1 << 20).unwrap();
/// let block = arena.alloc(1u8).unwrap();
/// arena.reset();
/// *block = 2;
/// ```
pub struct SharedLinear<B: Backing> {
    cursor: BumpCursor,
    committed_bytes: AtomicUsize,
    failure_count: AtomicUsize,
    extent: Extent,
    backing: Lock<B, Sleep>,
}

// SAFETY: the extent belongs to this value alone; ranges of it are handed out once (L9), values
// in them are lent by the rules of references.
unsafe impl<B: Backing + Send> Send for SharedLinear<B> {}
// SAFETY: as above; the backing is used under the lock.
unsafe impl<B: Backing + Send> Sync for SharedLinear<B> {}

impl<B: Backing> SharedLinear<B> {
    /// An arena of at most `capacity_bytes`. Takes addresses only.
    ///
    /// # Errors
    /// What the backing says.
    pub fn new_in(backing: B, capacity_bytes: usize) -> Result<Self, AllocError> {
        let exhausted =
            BackingError::Exhausted { requested_bytes: capacity_bytes, available_bytes: 0 };
        let layout = Layout::from_size_align(capacity_bytes.max(1), BASE_ALIGN);
        let extent = backing.reserve(layout.map_err(|_| exhausted)?)?;
        Ok(Self {
            cursor: BumpCursor::new(),
            committed_bytes: AtomicUsize::new(extent.committed_bytes),
            failure_count: AtomicUsize::new(0),
            extent,
            backing: Lock::new(backing),
        })
    }

    /// A block of `layout`, uninitialised.
    ///
    /// # Errors
    /// [`AllocError::Full`], what the backing says, or [`AllocError::Unfit`] for alignments above
    /// 4096.
    #[inline]
    pub fn try_alloc_layout(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        if layout.size() == 0 || layout.align() > BASE_ALIGN {
            return self.alloc_rare(layout);
        }
        // Acquire: pairs with the Release in `commit_more`; the memory below is committed.
        let limit = self.committed_bytes.load(Ordering::Acquire);
        match self.cursor.claim(layout.size(), layout.align(), limit) {
            Ok(start) => Ok(self.at(start)),
            Err(_) => self.alloc_slow(layout),
        }
    }

    #[cold]
    fn alloc_rare(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        if layout.size() == 0 {
            // L7: nothing of the arena is touched.
            return Ok(super::arena::dangling(layout));
        }
        self.failure_count.fetch_add(1, Ordering::Relaxed);
        Err(AllocError::Unfit {
            requested_bytes: layout.size(),
            align_bytes: layout.align(),
            largest_bytes: self.extent.reserved_bytes,
        })
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        loop {
            let limit = self.committed_bytes.load(Ordering::Acquire);
            let end = match self.cursor.claim(layout.size(), layout.align(), limit) {
                Ok(start) => return Ok(self.at(start)),
                Err(NotClaimed::AboveLimit(end)) => end,
                Err(NotClaimed::Overflow) => usize::MAX,
            };
            if let Err(error) = self.commit_more(end, layout) {
                self.failure_count.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
        }
    }

    /// Commits at least up to `end`, unless another thread did.
    fn commit_more(&self, end: usize, layout: Layout) -> Result<(), AllocError> {
        if end > self.extent.reserved_bytes {
            let used = self.cursor.position().min(self.extent.reserved_bytes);
            return Err(AllocError::Full {
                requested_bytes: layout.size(),
                largest_free_bytes: self.extent.reserved_bytes - used,
                capacity_bytes: self.extent.reserved_bytes,
            });
        }
        let backing = match self.backing.lock(token()) {
            Ok(guard) => guard,
            Err(_) => panic!("the backing of an arena used the arena"),
        };
        let committed_bytes = self.committed_bytes.load(Ordering::Relaxed);
        if end <= committed_bytes {
            return Ok(());
        }
        let extent = Extent { committed_bytes, ..self.extent };
        let reached = commit_to(&*backing, &extent, end, extent.reserved_bytes, Use::InOrder)?;
        // Release: pairs with the Acquire loads; whoever sees the limit may use what is below.
        self.committed_bytes.store(reached, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset <= self.extent.reserved_bytes);
        // SAFETY: claimed below the committed bytes (L9), so inside the extent.
        unsafe { self.extent.start.add(offset) }
    }

    /// Puts `value` into the arena. Its destructor never runs; a type that has one is refused.
    ///
    /// # Errors
    /// As for [`Self::try_alloc_layout`].
    #[expect(clippy::mut_from_ref, reason = "each call lends another place")]
    pub fn alloc<T>(&self, value: T) -> Result<&mut T, AllocError> {
        const { assert!(!core::mem::needs_drop::<T>(), "the destructor would never run") };
        let place = self.try_alloc_layout(Layout::new::<T>())?.cast::<T>();
        // SAFETY: a fresh block of the layout of `T`.
        unsafe { place.write(value) };
        let mut place = place;
        // SAFETY: as above; nobody else knows it, and it is there as long as the borrow: ending
        // blocks takes the arena exclusively.
        Ok(unsafe { place.as_mut() })
    }

    /// A handle for the calling thread, which claims 32 KiB at a time.
    pub const fn local(&self) -> LinearLocal<'_, B> {
        let nowhere = NonNull::dangling();
        LinearLocal {
            cursor: Cell::new(nowhere),
            end: Cell::new(nowhere),
            arena: self,
            thread: PhantomData,
        }
    }

    /// Ends every block and keeps all memory. O(1).
    pub fn reset(&mut self) {
        self.cursor.reset();
    }

    /// As [`Self::reset`], and gives back what is committed above `keep_bytes`.
    pub fn reset_and_trim(&mut self, keep_bytes: usize) {
        self.reset();
        let to = self.committed_bytes.load(Ordering::Relaxed);
        let from = keep_bytes.next_multiple_of(self.extent.step_bytes);
        if from >= to || !to.is_multiple_of(self.extent.step_bytes) {
            return;
        }
        let extent = Extent { committed_bytes: to, ..self.extent };
        if let Ok(backing) = self.backing.lock(token()) {
            // SAFETY: our extent and committed bytes of it; the exclusive borrow: no block lives.
            if unsafe { backing.decommit(&extent, from..to) }.is_ok() {
                self.committed_bytes.store(from, Ordering::Relaxed);
            }
        }
    }

    /// What the arena holds now. What handles have claimed counts as live.
    pub fn statistics(&self) -> RegionStatistics {
        let committed_bytes = self.committed_bytes.load(Ordering::Relaxed);
        let live_bytes = self.cursor.position().min(committed_bytes);
        let mut resident = None;
        if let (Ok(backing), true) = (self.backing.lock(token()), committed_bytes > 0) {
            let extent = Extent { committed_bytes, ..self.extent };
            // SAFETY: our live extent.
            resident = unsafe { backing.resident_bytes(&extent, 0..committed_bytes) };
        }
        RegionStatistics {
            live_bytes: Figure::AtMost(live_bytes),
            reserved_bytes: self.extent.reserved_bytes,
            committed_bytes,
            resident_bytes: resident.into(),
            free_bytes: Figure::Exact(committed_bytes - live_bytes),
            largest_free_bytes: self.extent.reserved_bytes - live_bytes,
            failure_count: Figure::Exact(self.failure_count.load(Ordering::Relaxed)),
            ..RegionStatistics::default()
        }
    }
}

impl<B: Backing> Drop for SharedLinear<B> {
    fn drop(&mut self) {
        let committed_bytes = self.committed_bytes.load(Ordering::Relaxed);
        let extent = Extent { committed_bytes, ..self.extent };
        if let Ok(backing) = self.backing.lock(token()) {
            // SAFETY: our extent, once; blocks and handles are borrows, so there are none.
            unsafe { backing.release(extent) };
        }
    }
}

impl<B: Backing> fmt::Debug for SharedLinear<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLinear").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

/// A thread's way into a [`SharedLinear`]: pieces of it for this thread alone.
pub struct LinearLocal<'a, B: Backing> {
    cursor: Cell<NonNull<u8>>,
    end: Cell<NonNull<u8>>,
    arena: &'a SharedLinear<B>,
    /// Neither `Send` nor `Sync`.
    thread: PhantomData<*mut ()>,
}

impl<'a, B: Backing> LinearLocal<'a, B> {
    /// A block of `layout`, uninitialised, that lives as long as the arena's borrow.
    ///
    /// # Errors
    /// As for [`SharedLinear::try_alloc_layout`].
    #[inline(always)]
    pub fn try_alloc_layout(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let cursor = self.cursor.get();
        let end = self.end.get().as_ptr().addr();
        if layout.size() > 0
            && let Some(placed) = bump(cursor.as_ptr().addr(), end, layout, 1)
        {
            // SAFETY: inside the piece, which is ours (L10).
            let block = unsafe { cursor.add(placed.skip_bytes) };
            // SAFETY: as above.
            self.cursor.set(unsafe { cursor.add(placed.advance_bytes) });
            return Ok(block);
        }
        self.alloc_slow(layout)
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        if layout.size() == 0
            || layout.size() > PIECE_BYTES / PIECE_SHARE
            || layout.align() > PIECE_BYTES / PIECE_SHARE
        {
            return self.arena.try_alloc_layout(layout);
        }
        let piece = Layout::from_size_align(PIECE_BYTES, layout.align().max(64));
        let piece = piece.map_err(|_| AllocError::TooLarge { requested_bytes: layout.size() })?;
        let Ok(start) = self.arena.try_alloc_layout(piece) else {
            // There may be room for the block alone.
            return self.arena.try_alloc_layout(layout);
        };
        // SAFETY: the first bytes of the piece.
        self.cursor.set(unsafe { start.add(layout.size()) });
        // SAFETY: one past the piece.
        self.end.set(unsafe { start.add(PIECE_BYTES) });
        Ok(start)
    }

    /// As [`SharedLinear::alloc`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn alloc<T>(&self, value: T) -> Result<&'a mut T, AllocError> {
        const { assert!(!core::mem::needs_drop::<T>(), "the destructor would never run") };
        let mut place = self.try_alloc_layout(Layout::new::<T>())?.cast::<T>();
        // SAFETY: a fresh block of the layout of `T`.
        unsafe { place.write(value) };
        // SAFETY: as above; nobody else knows it, and ending blocks takes the arena exclusively.
        Ok(unsafe { place.as_mut() })
    }
}

impl<B: Backing> fmt::Debug for LinearLocal<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinearLocal").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

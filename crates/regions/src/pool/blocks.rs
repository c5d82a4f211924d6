//! A pool of blocks of one layout: a list through the free ones, fresh ones by a cursor.
//!
//! # Invariants
//! design/regions.md#P1 to design/regions.md#P3.
//!
//! # Not here
//! Values (`typed`), keys (`handles`), several sizes.

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, BackingError};
use heapwright_core::region_error::{AllocError, FreeError};
use heapwright_core::region_statistics::{Counts, Figure, NoCounts, RegionStatistics};

use crate::chunk::Chunk;
use crate::growth::Use;
use crate::misuse::{Misuse, report};

/// First chunk where chunks have a price.
const CHUNK_BYTES_MIN: usize = 4 << 10;
/// Chunks double up to this.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A slot that is free: the link to the next one. In debug builds the rest is left alone, too.
#[derive(Debug)]
struct FreeSlot {
    next: Option<NonNull<FreeSlot>>,
}

/// Blocks of one layout from one thread, last in, first out.
///
/// `alloc` and `free` are a few instructions each and make no system call, save when memory is
/// used for the first time. A *growing* pool takes chunks when it needs them and keeps them; a
/// *bounded* one takes everything when it is made. For blocks on cache lines of their own, ask for
/// a layout aligned to 64.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{AnonymousPages, Pool};
///
/// let pool: Pool<_> = Pool::bounded(AnonymousPages, Layout::new::<[u8; 64]>(), 2)?;
/// let (first, second) = (pool.alloc(), pool.alloc());
/// assert!(first.is_some() && second.is_some() && pool.alloc().is_none());
/// // SAFETY: live, unused from here.
/// unsafe { pool.free(first.expect("two slots")) };
/// assert_eq!(pool.alloc(), first);
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
pub struct Pool<B: Backing, C: Counts = NoCounts> {
    free: Cell<Option<NonNull<FreeSlot>>>,
    /// The next slot of the first chunk that was never given out.
    fresh: Cell<NonNull<u8>>,
    fresh_end: Cell<NonNull<u8>>,
    slot: Layout,
    bounded: bool,
    /// Newest first; only its first has fresh slots.
    chunks: Cell<Option<NonNull<Chunk>>>,
    counts: C,
    backing: B,
}

// SAFETY: chunks and slots belong to this value alone; blocks are raw pointers, whose users are
// bound by what they promise to `free`.
unsafe impl<B: Backing + Send, C: Counts + Send> Send for Pool<B, C> {}

impl<B: Backing> Pool<B, NoCounts> {
    /// A growing pool of blocks of `layout`. Takes no memory until it is used.
    pub const fn new_in(backing: B, layout: Layout) -> Self {
        Self::counted_in(backing, layout, NoCounts)
    }

    /// A pool of `count` blocks of `layout` and never more, all taken now.
    ///
    /// # Errors
    /// What the backing says, or [`AllocError::TooLarge`].
    pub fn bounded(backing: B, layout: Layout, count: usize) -> Result<Self, AllocError> {
        Self::counted_bounded(backing, layout, count, NoCounts)
    }
}

impl<B: Backing, C: Counts> Pool<B, C> {
    /// As [`Pool::new_in`], counting in `counts`.
    pub const fn counted_in(backing: B, layout: Layout, counts: C) -> Self {
        Self {
            free: Cell::new(None),
            fresh: Cell::new(NonNull::dangling()),
            fresh_end: Cell::new(NonNull::dangling()),
            slot: slot_layout(layout),
            bounded: false,
            chunks: Cell::new(None),
            counts,
            backing,
        }
    }

    /// As [`Pool::bounded`], counting in `counts`.
    ///
    /// # Errors
    /// As there.
    pub fn counted_bounded(
        backing: B,
        layout: Layout,
        count: usize,
        counts: C,
    ) -> Result<Self, AllocError> {
        let mut pool = Self::counted_in(backing, layout, counts);
        let header_bytes = pool.header_bytes();
        let bytes = count
            .checked_mul(pool.slot.size())
            .and_then(|bytes| bytes.checked_add(header_bytes))
            .ok_or(AllocError::TooLarge { requested_bytes: usize::MAX })?;
        let at = pool.make_chunk(bytes, bytes)?;
        pool.bounded = true;
        pool.chunks.set(Some(at));
        pool.fresh.set(pool.chunk(at).at(header_bytes));
        pool.fresh_end.set(pool.chunk(at).at(bytes));
        Ok(pool)
    }

    /// What a block is: its size and alignment, at least those asked for.
    pub const fn block_layout(&self) -> Layout {
        self.slot
    }

    /// Where memory comes from.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    /// A block, uninitialised; `None` if a bounded pool is full or the backing gives no more
    /// ([`Self::try_alloc`] says which).
    #[inline(always)]
    pub fn alloc(&self) -> Option<NonNull<u8>> {
        match self.pop() {
            Some(block) => Some(block),
            None => self.alloc_fresh().ok(),
        }
    }

    /// A block, uninitialised.
    ///
    /// # Errors
    /// [`AllocError::Full`] of a bounded pool, or what the backing says.
    #[inline]
    pub fn try_alloc(&self) -> Result<NonNull<u8>, AllocError> {
        match self.pop() {
            Some(block) => Ok(block),
            None => self.alloc_fresh(),
        }
    }

    #[inline(always)]
    fn pop(&self) -> Option<NonNull<u8>> {
        let slot = self.free.get()?;
        // SAFETY: on the free list, so a slot of ours that nobody uses and that holds a link (P1,
        // P2).
        let FreeSlot { next } = unsafe { slot.read() };
        self.free.set(next);
        self.counts.on_alloc(self.slot.size(), self.slot.size());
        Some(slot.cast())
    }

    /// A slot that was never given out.
    #[inline(never)]
    fn alloc_fresh(&self) -> Result<NonNull<u8>, AllocError> {
        let slot = self.fresh.get();
        let room = self.fresh_end.get().as_ptr().addr() - slot.as_ptr().addr();
        if room < self.slot.size() {
            return self.alloc_slow();
        }
        // SAFETY: there is room for a slot below the end, which is in the same chunk.
        self.fresh.set(unsafe { slot.add(self.slot.size()) });
        self.counts.on_alloc(self.slot.size(), self.slot.size());
        Ok(slot)
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&self) -> Result<NonNull<u8>, AllocError> {
        let grown = self.grow();
        self.check();
        match grown {
            Ok(()) => self.alloc_fresh(),
            Err(error) => {
                self.counts.on_failure();
                Err(error)
            }
        }
    }

    /// Makes a fresh slot: commits more, or takes another chunk.
    fn grow(&self) -> Result<(), AllocError> {
        let size = self.slot.size();
        if self.bounded {
            let capacity_bytes = self.capacity() * size;
            return Err(AllocError::Full {
                requested_bytes: size,
                largest_free_bytes: 0,
                capacity_bytes,
            });
        }
        let mut last = 0;
        if let Some(at) = self.chunks.get() {
            let chunk = self.chunk(at);
            last = chunk.extent.get().reserved_bytes;
            let used = self.fresh.get().as_ptr().addr() - at.as_ptr().addr();
            if matches!(chunk.extend(&self.backing, used + size), Ok(true)) {
                self.fresh_end.set(chunk.end());
                return Ok(());
            }
            chunk.used_bytes.set(used);
        }
        let least = self
            .header_bytes()
            .checked_add(size)
            .ok_or(AllocError::TooLarge { requested_bytes: size })?;
        let wanted = last.saturating_mul(2).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX).max(least);
        let hint = self.backing.reserve_hint(wanted);
        let at = self.make_chunk(hint, least)?;
        let chunk = self.chunk(at);
        chunk.next.set(self.chunks.get());
        self.chunks.set(Some(at));
        self.fresh.set(chunk.at(self.header_bytes()));
        self.fresh_end.set(chunk.end());
        Ok(())
    }

    /// Gives a block back; it is the next one that [`Self::alloc`] returns.
    ///
    /// # Panics
    /// If it was the last one given back: a double free that costs one comparison to see.
    ///
    /// # Safety
    /// - `block` is a live block of this pool, and nobody uses it any more.
    #[inline(always)]
    pub unsafe fn free(&self, block: NonNull<u8>) {
        let slot = block.cast::<FreeSlot>();
        let next = self.free.get();
        if next == Some(slot) {
            freed_twice(slot.as_ptr().addr());
        }
        // SAFETY: a slot of ours, large and aligned enough for a link (P2), that the caller gave
        // up.
        unsafe { slot.write(FreeSlot { next }) };
        self.free.set(Some(slot));
        self.counts.on_free(self.slot.size(), self.slot.size());
    }

    /// Gives a block back after looking whether it is one: for debugging. O(chunks + free slots).
    ///
    /// # Errors
    /// [`FreeError`]; nothing has changed then.
    ///
    /// # Safety
    /// - If `block` is a live block of this pool, nobody uses it any more. It may be anything.
    pub unsafe fn free_checked(&self, block: NonNull<u8>) -> Result<(), FreeError> {
        let address = block.as_ptr().addr();
        let mut next = self.chunks.get();
        let distance_bytes = loop {
            let Some(at) = next else { return Err(FreeError::NotOwned { address }) };
            if let Some(offset) = self
                .slots_of(at)
                .and_then(|slots| (slots.contains(&address)).then(|| address - slots.start))
            {
                break offset % self.slot.size();
            }
            next = self.chunk(at).next.get();
        };
        if distance_bytes != 0 {
            return Err(FreeError::NotBlockStart { address, distance_bytes });
        }
        if self.free_slots().any(|slot| slot.as_ptr().addr() == address) {
            return Err(FreeError::AlreadyFree { address });
        }
        // SAFETY: a slot that was given out and is not free: live; unused, as the caller says.
        unsafe { self.free(block) };
        Ok(())
    }

    /// Whether `block` is in the pool's slots. O(chunks): of a bounded pool O(1).
    pub fn owns(&self, block: NonNull<u8>) -> bool {
        let address = block.as_ptr().addr();
        let mut next = self.chunks.get();
        while let Some(at) = next {
            if self.slots_of(at).is_some_and(|slots| slots.contains(&address)) {
                return true;
            }
            next = self.chunk(at).next.get();
        }
        false
    }

    /// Addresses of the slots of a chunk that were ever given out.
    fn slots_of(&self, at: NonNull<Chunk>) -> Option<core::ops::Range<usize>> {
        let start = at.as_ptr().addr();
        let end = if self.chunks.get() == Some(at) {
            self.fresh.get().as_ptr().addr()
        } else {
            start + self.chunk(at).used_bytes.get()
        };
        let first = start + self.header_bytes();
        (first < end).then_some(first..end)
    }

    fn free_slots(&self) -> impl Iterator<Item = NonNull<FreeSlot>> {
        core::iter::successors(self.free.get(), |slot| {
            // SAFETY: on the free list: a slot that nobody uses, with a link (P1).
            unsafe { slot.as_ref() }.next
        })
    }

    /// A chunk for this pool's slots, of `bytes`, or of `bytes_min` at least where there are no more.
    fn make_chunk(&self, bytes: usize, bytes_min: usize) -> Result<NonNull<Chunk>, BackingError> {
        let usage = Use::of_blocks(self.slot.size());
        Chunk::make(&self.backing, bytes, bytes_min, self.slot.align(), usage)
    }

    fn header_bytes(&self) -> usize {
        Chunk::header_bytes(self.slot.align())
    }

    fn chunk(&self, at: NonNull<Chunk>) -> &Chunk {
        // SAFETY: every pointer in our list is that of a header that `Chunk::make` wrote and that
        // stays while the pool lives (P3); slots lie behind it, and it is changed through cells.
        unsafe { at.as_ref() }
    }

    /// Slots ever given out, and slots of committed memory that were not.
    fn slot_counts(&self) -> (usize, usize) {
        let mut given = 0;
        let mut next = self.chunks.get();
        while let Some(at) = next {
            given += self.slots_of(at).map_or(0, |slots| slots.len() / self.slot.size());
            next = self.chunk(at).next.get();
        }
        let fresh = self.fresh_end.get().as_ptr().addr() - self.fresh.get().as_ptr().addr();
        (given, fresh / self.slot.size())
    }

    /// How many blocks there can be without more memory. O(chunks).
    pub fn capacity(&self) -> usize {
        let (given, fresh) = self.slot_counts();
        given + fresh
    }

    /// What the pool holds now. O(chunks + free slots).
    pub fn statistics(&self) -> RegionStatistics {
        let mut seen = RegionStatistics::default();
        let mut resident = Some(0);
        let mut next = self.chunks.get();
        while let Some(at) = next {
            let extent = self.chunk(at).extent.get();
            next = self.chunk(at).next.get();
            seen.reserved_bytes += extent.reserved_bytes;
            seen.committed_bytes += extent.committed_bytes;
            let committed = 0..extent.committed_bytes;
            // SAFETY: a live extent of this backing.
            let here = unsafe { self.backing.resident_bytes(&extent, committed) };
            resident = resident.zip(here).map(|(sum, here)| sum + here);
        }
        let (given, fresh) = self.slot_counts();
        let live_count = given - self.free_slots().count();
        let live_bytes = live_count * self.slot.size();
        seen.live_count = Figure::Exact(live_count);
        seen.live_bytes = Figure::Exact(live_bytes);
        seen.resident_bytes = resident.into();
        seen.free_bytes = Figure::Exact(seen.committed_bytes - live_bytes);
        let has_free = live_count < given || fresh > 0;
        seen.largest_free_bytes = if has_free { self.slot.size() } else { 0 };
        self.counts.report(&mut seen);
        seen
    }

    /// Walks the invariants; empty in release builds.
    pub(crate) fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let (given, _) = self.slot_counts();
        let mut free = 0;
        for slot in self.free_slots() {
            free += 1;
            assert!(free <= given, "P1: the free list has a cycle");
            assert!(slot.is_aligned(), "P2");
        }
        assert!(self.fresh.get() <= self.fresh_end.get());
    }
}

impl<B: Backing, C: Counts> Drop for Pool<B, C> {
    /// Gives all memory back; blocks still live end with it.
    fn drop(&mut self) {
        let mut next = self.chunks.get();
        while let Some(at) = next {
            let extent = self.chunk(at).extent.get();
            next = self.chunk(at).next.get();
            // SAFETY: the extent of a chunk, once; its header was read for the last time.
            unsafe { self.backing.release(extent) };
        }
    }
}

impl<B: Backing, C: Counts> fmt::Debug for Pool<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// The layout of a slot for blocks of `layout`: room for a link, a multiple of its alignment.
const fn slot_layout(layout: Layout) -> Layout {
    let link = Layout::new::<FreeSlot>();
    let align = if layout.align() > link.align() { layout.align() } else { link.align() };
    let size = if layout.size() > link.size() { layout.size() } else { link.size() };
    match Layout::from_size_align(size, align) {
        Ok(layout) => layout.pad_to_align(),
        Err(_) => panic!("a layout that no slot can have"),
    }
}

#[cold]
#[inline(never)]
fn freed_twice(address: usize) -> ! {
    report(Misuse::DoubleFree { address })
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use crate::{AllocError, AnonymousPages, Buffer, FreeError, LocalCounts};
    use core::alloc::Layout;
    use core::mem::MaybeUninit;
    use std::collections::BTreeSet;

    #[test]
    fn every_slot_is_given_once_and_again_after_it_came_back() {
        let pool: Pool<_> = Pool::new_in(AnonymousPages, Layout::new::<[u64; 5]>());
        let blocks: BTreeSet<_> = (0..10_000).map(|_| pool.alloc().expect("memory")).collect();
        assert_eq!(blocks.len(), 10_000);
        assert_eq!(pool.statistics().live_count.value(), Some(10_000));
        for block in &blocks {
            // SAFETY: live, unused from here.
            unsafe { pool.free(*block) };
        }
        pool.check();
        let before = pool.statistics().committed_bytes;
        let again: BTreeSet<_> = (0..10_000).map(|_| pool.alloc().expect("memory")).collect();
        assert_eq!(again, blocks);
        assert_eq!(pool.statistics().committed_bytes, before);
    }

    #[test]
    fn a_bounded_pool_is_full_with_its_number() {
        let mut memory = [MaybeUninit::uninit(); 1000];
        let layout = Layout::from_size_align(24, 64).expect("a layout");
        let buffer = Buffer::new(&mut memory);
        let pool = Pool::counted_bounded(buffer, layout, 8, LocalCounts::new()).expect("512 bytes");
        for _ in 0..8 {
            let block = pool.try_alloc().expect("eight");
            assert!(block.as_ptr().addr().is_multiple_of(64));
        }
        let full =
            AllocError::Full { requested_bytes: 64, largest_free_bytes: 0, capacity_bytes: 512 };
        assert_eq!(pool.try_alloc(), Err(full));
        assert_eq!(pool.statistics().failure_count.value(), Some(1));
        assert!(Pool::bounded(AnonymousPages, layout, usize::MAX / 8).is_err());
    }

    #[test]
    fn what_is_no_live_block_is_refused() {
        let pool: Pool<_> = Pool::new_in(AnonymousPages, Layout::new::<[u64; 4]>());
        let block = pool.alloc().expect("memory");
        // SAFETY: inside the block.
        let inside = unsafe { block.add(8) };
        let address = inside.as_ptr().addr();
        // SAFETY: checked; likewise below.
        let refused = unsafe { pool.free_checked(inside) };
        assert_eq!(refused, Err(FreeError::NotBlockStart { address, distance_bytes: 8 }));
        let mut elsewhere = [0u64; 4];
        let foreign = core::ptr::NonNull::from(&mut elsewhere).cast();
        // SAFETY: as above.
        assert!(matches!(unsafe { pool.free_checked(foreign) }, Err(FreeError::NotOwned { .. })));
        // SAFETY: as above.
        assert_eq!(unsafe { pool.free_checked(block) }, Ok(()));
        // SAFETY: as above.
        let twice = unsafe { pool.free_checked(block) };
        assert!(matches!(twice, Err(FreeError::AlreadyFree { .. })));
    }

    #[test]
    #[should_panic(expected = "heapwright: double-free: the block at 0x")]
    fn trap_13_a_double_free_is_seen_at_once() {
        let pool: Pool<_> = Pool::new_in(AnonymousPages, Layout::new::<u64>());
        let block = pool.alloc().expect("memory");
        // SAFETY: live.
        unsafe { pool.free(block) };
        // SAFETY: not live: what is tested; the pool sees it before it changes anything.
        unsafe { pool.free(block) };
    }
}

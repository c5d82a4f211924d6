//! The pool and its hot paths.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};

use super::areas::{Areas, Part};
use super::guard::{PinnedValue, PinnedValueMut};
use super::pass::Sweep;
use super::spot::Spot;
use super::table::{AWAY, LISTED, LIVE, NONE, PINS_MAX, WRITER, dead_of, is_name, name_of};
use crate::compacting::access::AccessError;
use crate::pool::Handle;

/// Values are aligned to this at most.
const ALIGN_MAX: usize = 64;

/// Values of one type under handles that may be moved while nobody has them pinned.
///
/// Making and ending a value is little more than in a [`Pool`](crate::Pool): a value is at the
/// place that its handle says until compaction has moved it, and a dead index keeps its place, so
/// that the next value gets both. Each value costs 4 bytes beside its own, or after compaction 3
/// to 10; a dead index costs none then. Memory grows as values come, within 1 GiB of addresses of
/// anonymous pages unless a capacity is given, the rest of a buffer, 1 MiB of another allocator.
///
/// Compaction moves the last values into the places of dead ones, so it changes the order of those
/// it moves; a [`CompactingHeap`](crate::CompactingHeap) keeps the order and takes any size.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, CompactingPool};
///
/// let pool = CompactingPool::new_in(AnonymousPages);
/// let first = pool.insert([1u64; 8]).expect("memory");
/// let second = pool.insert([2u64; 8]).expect("memory");
/// assert_eq!(pool.remove(first).expect("live"), [1; 8]);
/// pool.compact();
/// pool.pin_mut(second).expect("live")[0] = 3;
/// assert_eq!(pool.pin(second).expect("live")[0], 3);
/// assert!(pool.pin(first).is_err());
/// # }
/// ```
/// A value cannot be used after its pin:
/// ```compile_fail,E0716
/// # use heapwright_regions::{AnonymousPages, CompactingPool};
/// let pool = CompactingPool::new_in(AnonymousPages);
/// let handle = pool.insert([1u64; 8]).unwrap();
/// let first = pool.pin(handle).unwrap().first();
/// pool.compact();
/// assert_eq!(first, Some(&1));
/// ```
pub struct CompactingPool<T, B: Backing> {
    /// How many dead indices have their homes and are listed: a stack, from `frees`.
    pub(super) free_count: Cell<u32>,
    /// Indices below this are removed the short way: none while a pass is under way.
    pub(super) direct_count: Cell<u32>,
    /// Indices that have a tag.
    pub(super) tag_count: Cell<u32>,
    /// Slots and tags start here; dangling before the first use.
    slots: Cell<NonNull<u8>>,
    tags: Cell<NonNull<Cell<u32>>>,
    frees: Cell<NonNull<u32>>,
    /// Live values and listed indices.
    pub(super) stocked_count: Cell<u32>,
    pub(super) areas: Areas<B>,
    /// One past the last place that may have a value.
    pub(super) top: Cell<u32>,
    /// The first place below `top` that is nobody's and whose index is not listed; the next is in
    /// the slot there.
    pub(super) orphans: Cell<u32>,
    /// No index below this is dead without being listed.
    pub(super) next_index: Cell<u32>,
    /// Cells of runs in use.
    pub(super) run_cells: Cell<u32>,
    pub(super) sweep: Sweep,
    /// Walks under way: nothing moves meanwhile.
    pub(super) walk_count: Cell<u32>,
    pub(super) place_peak: Cell<u32>,
    pub(super) failure_count: Cell<usize>,
    /// Values are written through shared references, as a cell's.
    value: PhantomData<Cell<T>>,
}

// SAFETY: the memory belongs to this value alone, as a `Vec`'s does; guards borrow it, so that it
// does not go to another thread before them.
unsafe impl<T: Send, B: Backing + Send> Send for CompactingPool<T, B> {}

impl<T, B: Backing> CompactingPool<T, B> {
    /// Slots hold a value or a link.
    pub(super) const SLOT_BYTES: usize = {
        let link = size_of::<u32>();
        let bytes = if size_of::<T>() < link { link } else { size_of::<T>() };
        let align = if align_of::<T>() < link { link } else { align_of::<T>() };
        bytes.next_multiple_of(align)
    };

    /// An empty pool. Takes nothing until it is used. Does not compile for values aligned to more
    /// than 64 bytes.
    pub const fn new_in(backing: B) -> Self {
        Self::with_capacity_max(backing, usize::MAX)
    }

    /// An empty pool of at most `bytes_max` bytes, bookkeeping included; it takes that many
    /// addresses at the first use, and memory as values come.
    pub const fn with_capacity_max(backing: B, bytes_max: usize) -> Self {
        const {
            assert!(align_of::<T>() <= ALIGN_MAX, "values align to 64 at most");
            assert!(size_of::<T>() < 1 << 31, "values are shorter than 2 GiB");
        }
        Self {
            free_count: Cell::new(0),
            direct_count: Cell::new(0),
            tag_count: Cell::new(0),
            slots: Cell::new(NonNull::dangling()),
            tags: Cell::new(NonNull::dangling()),
            frees: Cell::new(NonNull::dangling()),
            stocked_count: Cell::new(0),
            areas: Areas::new(backing, bytes_max),
            top: Cell::new(0),
            orphans: Cell::new(NONE),
            next_index: Cell::new(0),
            run_cells: Cell::new(0),
            sweep: Sweep::new(),
            walk_count: Cell::new(0),
            place_peak: Cell::new(0),
            failure_count: Cell::new(0),
            value: PhantomData,
        }
    }

    /// Values in the pool.
    pub fn len(&self) -> usize {
        (self.stocked_count.get() - self.free_count.get()) as usize
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the value at `place` is.
    #[inline(always)]
    pub(super) fn slot(&self, place: u32) -> NonNull<u8> {
        debug_assert!(place as usize * Self::SLOT_BYTES < self.areas.committed_of(Part::Slots));
        // SAFETY: places are below the number of slots, all in the part of the values.
        unsafe { self.slots.get().add(place as usize * Self::SLOT_BYTES) }
    }

    /// The tag of an index in the table itself, which is zero if the page is packed.
    #[inline(always)]
    pub(super) fn tag(&self, index: u32) -> &Cell<u32> {
        debug_assert!(index < self.tag_count.get());
        // SAFETY: below the count of tags.
        let at = unsafe { self.tags.get().add(index as usize) };
        // SAFETY: all below the count were written, and are changed through cells only.
        unsafe { at.as_ref() }
    }

    /// Puts a listed index on the stack.
    #[inline(always)]
    pub(super) fn push_free(&self, index: u32) {
        let count = self.free_count.get();
        debug_assert!(count < self.tag_count.get(), "V2: an index is listed twice");
        // SAFETY: the stack has room for every index, and each is there once at most (V2).
        let at = unsafe { self.frees.get().add(count as usize) };
        // SAFETY: as above.
        unsafe { at.write(index) };
        self.free_count.set(count + 1);
    }

    /// Finds out where slots and tags are, after memory was taken.
    pub(super) fn locate(&self) {
        self.slots.set(self.areas.start(Part::Slots));
        self.tags.set(self.areas.start(Part::Tags).cast());
        self.frees.set(self.areas.start(Part::Free).cast());
    }

    /// Puts a value in. O(1).
    ///
    /// # Errors
    /// [`AllocError::Full`] if there are as many values as the memory holds, or what the backing
    /// says, with the value.
    #[inline]
    pub fn insert(&self, value: T) -> Result<Handle<T>, (AllocError, T)> {
        let mut count = self.free_count.get();
        if count == 0 {
            // The value is not lent to what is cold: it would have to be in memory for that.
            match self.refill() {
                Ok(None) => count = self.free_count.get(),
                Ok(Some((index, place))) => return Ok(self.fill_away(index, place, value)),
                Err(error) => return Err((error, value)),
            }
        }
        let count = count - 1;
        self.free_count.set(count);
        // SAFETY: below the count of the stack.
        let at = unsafe { self.frees.get().add(count as usize) };
        // SAFETY: as above; what is below the count was written.
        let index = unsafe { at.read() };
        let tag = self.tag(index);
        // A dead tag has the bit clear. Not an addition: so it is seen that no handle is zero.
        let name = (tag.get() | LIVE) ^ LISTED;
        debug_assert!(is_name(name), "V2: {index} is listed and not dead");
        tag.set(name);
        // SAFETY: the home of a listed index (V2): a slot for a `T`, aligned as its size and the
        // extent are, which nobody has now.
        unsafe { self.slot(index).cast::<T>().write(value) };
        Ok(Handle::of_parts(index, name))
    }

    /// Puts `value` where an index has a place that is not its home: that was somebody's.
    #[inline]
    fn fill_away(&self, index: u32, place: u32, value: T) -> Handle<T> {
        // SAFETY: a slot for a `T`, aligned as its size and the extent are, which nobody has now.
        unsafe { self.slot(place).cast::<T>().write(value) };
        self.stocked_count.set(self.stocked_count.get() + 1);
        self.check();
        Handle::of_parts(index, name_of(self.tag(index).get()) | LIVE)
    }

    /// Takes the value out; no handle names it any more. O(1); a search among 1024 if compaction
    /// packed the index.
    ///
    /// # Errors
    /// [`AccessError::Stale`], or [`AccessError::InUse`] if it is pinned.
    #[inline]
    pub fn remove(&self, handle: Handle<T>) -> Result<T, AccessError> {
        let (index, name) = handle.parts();
        if index < self.direct_count.get() && is_name(name) {
            let tag = self.tag(index);
            // The tag is the name: nobody has the value pinned, and it is at home.
            if tag.get() == name
                && let Some(dead) = dead_of(name)
            {
                // SAFETY: a live value that nobody has pinned; it is gone with the next lines.
                let value = unsafe { self.slot(index).cast::<T>().read() };
                tag.set(dead | LISTED);
                self.push_free(index);
                return Ok(value);
            }
        }
        self.remove_slow(index, name)
    }

    #[cold]
    #[inline(never)]
    fn remove_slow(&self, index: u32, name: u32) -> Result<T, AccessError> {
        let spot = self.find(index, name).ok_or(AccessError::Stale)?;
        if spot.pins() != 0 {
            return Err(AccessError::InUse);
        }
        let place = self.place_of(index, &spot);
        // SAFETY: a live value that nobody has pinned; it is gone with the next lines.
        let value = unsafe { self.slot(place).cast::<T>().read() };
        self.stocked_count.set(self.stocked_count.get() - 1);
        self.bury(index, name, spot, place);
        Ok(value)
    }

    /// Where the value that a handle names has its pins.
    #[inline(always)]
    pub(super) fn find(&self, index: u32, name: u32) -> Option<Spot<'_>> {
        if index >= self.tag_count.get() || !is_name(name) {
            return None;
        }
        let tag = self.tag(index);
        if name_of(tag.get()) == name {
            return Some(Spot::Table(tag));
        }
        self.find_packed(index).filter(|spot| self.name_at(spot) == name)
    }

    /// Where a live value is.
    #[inline(always)]
    pub(super) fn place_of(&self, index: u32, spot: &Spot<'_>) -> u32 {
        match spot {
            Spot::Table(tag) if tag.get() & AWAY == 0 => index,
            Spot::Table(_) => self.place(index),
            Spot::Run { cell, at, .. } => self.run_place(*cell, *at),
        }
    }

    /// The value, which stays where it is while the guard lives.
    ///
    /// # Errors
    /// [`AccessError`]; [`AccessError::InUse`] if it is pinned for writing,
    /// [`AccessError::TooManyPins`] if it has 61 pins.
    #[inline]
    pub fn pin(&self, handle: Handle<T>) -> Result<PinnedValue<'_, T, B>, AccessError> {
        let (index, name) = handle.parts();
        let spot = self.find(index, name).ok_or(AccessError::Stale)?;
        let pins = spot.pins();
        if pins >= PINS_MAX {
            return Err(match pins {
                WRITER => AccessError::InUse,
                _ => AccessError::TooManyPins,
            });
        }
        spot.set_pins(pins + 1);
        Ok(PinnedValue::new(self, (index, name), self.place_of(index, &spot)))
    }

    /// The value for one who writes.
    ///
    /// # Errors
    /// [`AccessError`]; [`AccessError::InUse`] if it is pinned.
    #[inline]
    pub fn pin_mut(&self, handle: Handle<T>) -> Result<PinnedValueMut<'_, T, B>, AccessError> {
        let (index, name) = handle.parts();
        let spot = self.find(index, name).ok_or(AccessError::Stale)?;
        if spot.pins() != 0 {
            return Err(AccessError::InUse);
        }
        spot.set_pins(WRITER);
        Ok(PinnedValueMut::new(self, (index, name), self.place_of(index, &spot)))
    }

    /// Takes one pin back, of a reader or the writer.
    #[inline(always)]
    pub(super) fn unpin(&self, (index, name): (u32, u32)) {
        let Some(spot) = self.find(index, name) else {
            debug_assert!(false, "V5: a pinned value is gone");
            return;
        };
        let pins = spot.pins();
        debug_assert!(pins > 0, "V5: an unpinned value is unpinned");
        spot.set_pins(if pins == WRITER { 0 } else { pins - 1 });
    }

    /// Whether `handle` names a value.
    pub fn contains(&self, handle: Handle<T>) -> bool {
        let (index, tag) = handle.parts();
        self.find(index, tag).is_some()
    }

    /// What the pool holds now. Values are counted as long as they are; live bytes at their peak
    /// are an upper bound: places that were ever in use at once. O(1), and the kernel is asked
    /// about the memory.
    pub fn statistics(&self) -> RegionStatistics {
        let live = self.len();
        let free_slots = self.areas.committed_of(Part::Slots) / Self::SLOT_BYTES - live;
        RegionStatistics {
            live_count: Figure::Exact(live),
            live_bytes: Figure::Exact(live * size_of::<T>()),
            peak_live_bytes: Figure::AtMost(self.place_peak.get() as usize * size_of::<T>()),
            requested_bytes: Figure::Exact(live * size_of::<T>()),
            reserved_bytes: self.areas.reserved_bytes(),
            committed_bytes: self.areas.committed_bytes(),
            resident_bytes: self.areas.resident_bytes().into(),
            free_bytes: Figure::Exact(free_slots * Self::SLOT_BYTES),
            largest_free_bytes: if free_slots > 0 { size_of::<T>() } else { 0 },
            failure_count: Figure::Exact(self.failure_count.get()),
        }
    }
}

impl<T, B: Backing> Drop for CompactingPool<T, B> {
    /// Drops all values. If a destructor panics, the rest is leaked.
    fn drop(&mut self) {
        if core::mem::needs_drop::<T>() {
            let mut next = 0;
            while let Some((index, _, place)) = self.next_live(next) {
                // SAFETY: a live value, which nobody can reach any more, dropped once.
                unsafe { self.slot(place).cast::<T>().drop_in_place() };
                next = index + 1;
            }
        }
    }
}

impl<T, B: Backing> fmt::Debug for CompactingPool<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactingPool")
            .field("live_count", &self.len())
            .field("top", &self.top)
            .field("tag_count", &self.tag_count)
            .finish_non_exhaustive()
    }
}

//! A pool whose values are named by handles instead of pointers.
//!
//! # Invariants
//! design/regions.md#H1 to design/regions.md#H3.

mod bits;
mod walk;

use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop, MaybeUninit};
use core::num::NonZero;
use core::sync::atomic::{AtomicU64, Ordering};

use heapwright_core::backing::Backing;
use heapwright_core::prefetch::prefetch_read;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::RegionStatistics;

use super::column::{self, Column};

use walk::Places;
pub use walk::{Iter, Values};

/// No next free slot.
const NONE: u32 = u32::MAX;
const WORD_BITS: usize = u64::BITS as usize;
/// A batched look-up and a walk ask for lines so many values ahead.
const AHEAD_COUNT: usize = 16;

/// Value and generation in one place: a look-up touches one cache line.
#[repr(C)]
struct Entry<T> {
    /// While there is a value, the bits of its handle: the entry's own index below its generation,
    /// which is even. Else the index and one, below an odd generation (H1).
    header: u64,
    content: Content<T>,
}

/// What an entry has: a value or, by its generation, the way to the next free entry.
union Content<T> {
    value: ManuallyDrop<MaybeUninit<T>>,
    next_free: u32,
}

impl<T> Entry<T> {
    #[inline(always)]
    const fn generation(&self) -> u32 {
        (self.header >> 32) as u32
    }

    #[inline(always)]
    const fn has_value(&self) -> bool {
        self.header & UPPER_ONE == 0
    }

    /// # Safety
    /// - It has a value.
    #[inline(always)]
    unsafe fn value(&self) -> &T {
        // SAFETY: the caller's; every bit pattern is a `MaybeUninit`.
        let value = unsafe { &self.content.value };
        // SAFETY: the caller's.
        unsafe { value.assume_init_ref() }
    }

    /// # Safety
    /// - It has a value.
    #[inline(always)]
    unsafe fn value_mut(&mut self) -> &mut T {
        // SAFETY: as in `value`, lent exclusively.
        let value = unsafe { &mut self.content.value };
        // SAFETY: the caller's.
        unsafe { value.assume_init_mut() }
    }

    /// # Safety
    /// - It has no value, and was put on the free list.
    #[inline(always)]
    const unsafe fn next_free(&self) -> u32 {
        // SAFETY: the caller's: it was written then.
        unsafe { self.content.next_free }
    }
}

/// The first free entry: its index, the handle that it can have, the next free one.
struct Vacant {
    index: u32,
    bits: u64,
    next_free: u32,
}

/// From a handle to the header without that value, and on to the next handle: one generation each,
/// and the index is off by one between, so that no number names what is not there (H1).
const TO_FREE: u64 = UPPER_ONE + 1;
const TO_HANDLE: u64 = UPPER_ONE - 1;

/// The upper half of a header, a handle and a tally, and one of what it counts.
const UPPER: u64 = !(u32::MAX as u64);
const UPPER_ONE: u64 = 1 << 32;

/// Names a value of a [`HandlePool`]: 8 bytes, as is an `Option` of it.
///
/// A handle of a value that was removed never names another one. Only the pool that gave it knows
/// it: another pool of the same type may have a value of that name.
pub struct Handle<T: ?Sized> {
    /// The index below the generation, which is not zero.
    bits: NonZero<u64>,
    /// A name owns nothing.
    value: PhantomData<fn() -> T>,
}

impl<T: ?Sized> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for Handle<T> {}
impl<T: ?Sized> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}
impl<T: ?Sized> Eq for Handle<T> {}
impl<T: ?Sized> Hash for Handle<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits.hash(state);
    }
}
impl<T: ?Sized> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, generation) = self.parts();
        write!(f, "Handle({index}, generation {generation})")
    }
}

/// Values of one type under handles, contiguous, in place for as long as they live.
///
/// Memory is taken as values come, within one range of addresses: 1 GiB of anonymous pages unless
/// a capacity is given, the rest of a buffer.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, HandlePool};
///
/// let mut pool: HandlePool<&str, _> = HandlePool::new_in(AnonymousPages);
/// let first = pool.insert("first").expect("memory");
/// assert_eq!(pool.get(first), Some(&"first"));
/// assert_eq!(pool.remove(first), Some("first"));
/// let second = pool.insert("second").expect("memory");
/// assert_eq!(pool.get(first), None, "the slot is the same, the handle is not");
/// assert_eq!(pool.get(second), Some(&"second"));
/// # }
/// ```
/// It is shared between threads if its values may be:
/// ```compile_fail,E0277
/// # use heapwright_regions::{AnonymousPages, HandlePool};
/// fn share(_: impl Sync) {}
/// share(HandlePool::<core::cell::Cell<u8>, _>::new_in(AnonymousPages));
/// ```
pub struct HandlePool<T, B: Backing> {
    entries: Column<Entry<T>>,
    /// Entries ever used.
    used_count: u32,
    /// Entries that are committed.
    committed_count: u32,
    capacity_max: u32,
    /// The count of values above the first free entry: what a removal and an insertion change is
    /// one word, and one store.
    tally: u64,
    /// A bit for each entry: it may have a value (H4).
    live: Column<AtomicU64>,
    backing: B,
    value: PhantomData<T>,
}

// SAFETY: the rows belong to this value alone, as a `Vec`'s items do; their headers too.
unsafe impl<T: Send, B: Backing + Send> Send for HandlePool<T, B> {}
// SAFETY: by shared reference values are lent shared and the header is only read.
unsafe impl<T: Sync, B: Backing + Sync> Sync for HandlePool<T, B> {}

impl<T, B: Backing> HandlePool<T, B> {
    /// A pool of as many values as its addresses have room for. Takes no memory until it is used.
    pub const fn new_in(backing: B) -> Self {
        Self::with_capacity_max(backing, NONE)
    }

    /// A pool of at most `capacity_max` values.
    pub const fn with_capacity_max(backing: B, capacity_max: u32) -> Self {
        Self {
            entries: Column::new(),
            used_count: 0,
            committed_count: 0,
            capacity_max,
            tally: NONE as u64,
            live: Column::new(),
            backing,
            value: PhantomData,
        }
    }

    /// Values in the pool.
    pub const fn len(&self) -> usize {
        (self.tally >> 32) as usize
    }

    /// Whether there is no value.
    pub const fn is_empty(&self) -> bool {
        self.tally < UPPER_ONE
    }

    /// The first free entry, or `NONE`.
    #[inline(always)]
    const fn free(&self) -> u32 {
        self.tally as u32
    }

    /// Puts a value in. O(1).
    ///
    /// # Errors
    /// The value, if there is no room; [`Self::try_reserve`] says why.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Handle<T>, T> {
        if let Some(vacant) = self.vacant() {
            return Ok(self.fill(vacant, value));
        }
        let value = ManuallyDrop::new(value);
        // SAFETY: a value that nobody else reads, or drops once it is in the pool.
        match unsafe { self.insert_slow(&value) } {
            Some(handle) => Ok(handle),
            None => Err(ManuallyDrop::into_inner(value)),
        }
    }

    /// Moves a value in where no free entry is at hand; `None` if there is no room. By reference and
    /// without the value in the answer: what the slow way returns, the hot one would return in
    /// memory, too.
    ///
    /// # Safety
    /// - After a handle the value is the pool's, and its owner forgets it.
    #[cold]
    #[inline(never)]
    unsafe fn insert_slow(&mut self, value: &ManuallyDrop<T>) -> Option<Handle<T>> {
        loop {
            if let Some(vacant) = self.vacant() {
                let value: *const T = &raw const **value;
                // SAFETY: the caller's; once, since we return.
                return Some(self.fill(vacant, unsafe { value.read() }));
            }
            if !self.find_vacant() {
                return None;
            }
        }
    }

    /// The first free entry; none if there is no free one or the first has no generation left (H2).
    #[inline(always)]
    fn vacant(&mut self) -> Option<Vacant> {
        let index = self.free();
        if index == NONE {
            return None;
        }
        // SAFETY: on the free list, so below `used_count` (H3).
        let entry = unsafe { self.entry_mut(index) };
        // After the last generation there is none, and the addition says so.
        let bits = entry.header.checked_add(TO_HANDLE)?;
        // SAFETY: on the free list, so it has the next one (H3).
        let next_free = unsafe { entry.next_free() };
        Some(Vacant { index, bits, next_free })
    }

    /// Takes a first free entry that has no generation left off the list for ever (H2); else puts
    /// one that was never used onto it. Whether there is a first one now.
    fn find_vacant(&mut self) -> bool {
        let first = self.free();
        let next_free = if first != NONE {
            // SAFETY: on the free list, so below `used_count` (H3).
            let entry = unsafe { self.entry_mut(first) };
            debug_assert!(entry.generation() == u32::MAX, "H2: not used up");
            // SAFETY: on the free list, so it has the next one (H3).
            unsafe { entry.next_free() }
        } else if self.used_count == self.committed_count && self.try_reserve(1).is_err() {
            return false;
        } else {
            let index = self.used_count;
            // SAFETY: below `committed_count`, so committed, aligned and ours.
            let place = unsafe { self.entries.at(index as usize) };
            let header = UPPER_ONE + u64::from(index) + 1;
            // SAFETY: as above; nothing there needs to be dropped.
            unsafe { place.write(Entry { header, content: Content { next_free: NONE } }) };
            self.used_count += 1;
            index
        };
        self.tally = self.tally & UPPER | u64::from(next_free);
        true
    }

    /// Puts `value` into the first free entry.
    #[inline]
    fn fill(&mut self, Vacant { index, bits, next_free }: Vacant, value: T) -> Handle<T> {
        debug_assert!(index < self.used_count);
        // SAFETY: below `used_count`.
        let entry = unsafe { self.entry_mut(index) };
        debug_assert!(entry.header == bits - TO_HANDLE && !entry.has_value(), "H1: {bits:#x}");
        entry.content = Content { value: ManuallyDrop::new(MaybeUninit::new(value)) };
        entry.header = bits;
        // SAFETY: a generation is one at least without a value, and more with one.
        let handle = unsafe { Handle::of_bits(bits) };
        self.tally = ((self.tally & UPPER) + UPPER_ONE) | u64::from(next_free);
        self.set_live(index);
        handle
    }

    /// Takes memory for `more` values beyond those that fit now without more.
    ///
    /// # Errors
    /// [`AllocError::Full`] at the pool's capacity, or what the backing says.
    pub fn try_reserve(&mut self, more: u32) -> Result<(), AllocError> {
        let size = size_of::<Entry<T>>();
        let full = AllocError::Full {
            requested_bytes: size.saturating_mul(more as usize),
            largest_free_bytes: 0,
            capacity_bytes: size.saturating_mul(self.capacity_max as usize),
        };
        let wanted = self.committed_count.checked_add(more).filter(|sum| *sum <= self.capacity_max);
        let wanted = wanted.ok_or(full)? as usize;
        if !self.entries.is_reserved() {
            self.reserve(wanted)?;
        }
        let committed = self.entries.commit(&self.backing, wanted)?.ok_or(full)?;
        let committed = committed.min(self.capacity_max as usize) as u32;
        self.extend_live(committed)?;
        self.committed_count = committed;
        self.check();
        Ok(())
    }

    /// Takes addresses for the entries, `wanted` at least, and for their bits.
    fn reserve(&mut self, wanted: usize) -> Result<(), AllocError> {
        let bytes = Column::<Entry<T>>::bytes(wanted)?;
        let capacity_max = self.capacity_max as usize;
        let most = |backing: &B| {
            let room = Column::<Entry<T>>::count_in(backing.reserve_hint(bytes));
            room.min(capacity_max).max(wanted)
        };
        // The bits first: the hint may be all that a buffer has.
        let words = (most(&self.backing) + 1).div_ceil(WORD_BITS);
        self.live.reserve(&self.backing, words, 1)?;
        self.entries.reserve(&self.backing, most(&self.backing), wanted)
    }

    /// Makes room for the bits of `count` entries; new ones are clear.
    fn extend_live(&mut self, count: u32) -> Result<(), AllocError> {
        let words = (count as usize).div_ceil(WORD_BITS);
        let full = AllocError::Full {
            requested_bytes: words * size_of::<u64>(),
            largest_free_bytes: 0,
            capacity_bytes: self.live.extent().map_or(0, |extent| extent.reserved_bytes),
        };
        self.live.commit(&self.backing, words)?.ok_or(full)?;
        let from = (self.committed_count as usize).div_ceil(WORD_BITS);
        if words > from {
            // SAFETY: inside the words just committed.
            let fresh = unsafe { self.live.at(from) };
            // SAFETY: as above; no entry had a bit there, and this borrow is exclusive.
            unsafe { fresh.write_bytes(0, words - from) };
        }
        Ok(())
    }

    /// The word with the bits of entries from `64 * word` on.
    #[inline]
    fn live_word(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < (self.used_count as usize).div_ceil(WORD_BITS));
        // SAFETY: a word with the bit of an entry that was used, so committed.
        let place = unsafe { self.live.at(word) };
        // SAFETY: as above; cleared when it was committed, and only used as an atomic since.
        unsafe { place.as_ref() }
    }

    /// A place that had a value mostly has its bit still.
    #[inline]
    fn set_live(&mut self, index: u32) {
        let bits = self.live_word(index as usize / WORD_BITS).load(Ordering::Relaxed);
        if bits >> (index as usize % WORD_BITS) & 1 == 0 {
            self.set_live_slow(index);
        }
    }

    #[cold]
    #[inline(never)]
    fn set_live_slow(&mut self, index: u32) {
        let word = self.live_word(index as usize / WORD_BITS);
        let bit = 1 << (index as usize % WORD_BITS);
        // Relaxed: the exclusive borrow orders it.
        word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
    }

    /// Clears bits of entries without a value. Of several walks at once each may undo the other's:
    /// too many bits remain then, never too few, since nobody sets one under a shared borrow.
    #[cold]
    fn clear_live(&self, word: usize, dead: u64) {
        let word = self.live_word(word);
        // Relaxed: nothing is published by it.
        word.store(word.load(Ordering::Relaxed) & !dead, Ordering::Relaxed);
    }

    /// The value named `handle`, unless it was removed. One comparison of the index, one of index
    /// and generation.
    #[inline]
    pub fn get(&self, handle: Handle<T>) -> Option<&T> {
        if handle.index() >= self.used_count {
            return None;
        }
        // SAFETY: below `used_count`.
        unsafe { self.get_in_range(handle) }
    }

    /// The value named `handle`, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, handle: Handle<T>) -> Option<&mut T> {
        if handle.index() >= self.used_count {
            return None;
        }
        // SAFETY: below `used_count`.
        unsafe { self.get_mut_in_range(handle) }
    }

    /// [`Self::get`] with one comparison.
    ///
    /// # Safety
    /// - The handle's index is below `used_count`, as that of each handle of this pool is.
    #[inline(always)]
    pub(super) unsafe fn get_in_range(&self, handle: Handle<T>) -> Option<&T> {
        debug_assert!(handle.index() < self.used_count);
        // SAFETY: the caller's: in the committed entries.
        let entry = unsafe { self.entries.at(handle.index() as usize) };
        // SAFETY: written when `used_count` passed it; lent as we are.
        let entry = unsafe { entry.as_ref() };
        if entry.header != handle.to_bits() {
            return None;
        }
        // SAFETY: the low half is the entry's own index, so there is a value (H1).
        Some(unsafe { entry.value() })
    }

    /// [`Self::get_mut`] with one comparison.
    ///
    /// # Safety
    /// - As [`Self::get_in_range`].
    #[inline(always)]
    pub(super) unsafe fn get_mut_in_range(&mut self, handle: Handle<T>) -> Option<&mut T> {
        // SAFETY: the caller's.
        let entry = unsafe { self.entry_mut(handle.index()) };
        if entry.header != handle.to_bits() {
            return None;
        }
        // SAFETY: the low half is the entry's own index, so there is a value (H1).
        Some(unsafe { entry.value_mut() })
    }

    /// Whether `handle` names a value.
    #[inline]
    pub fn contains(&self, handle: Handle<T>) -> bool {
        self.get(handle).is_some()
    }

    /// Takes the value named `handle` out; no handle names it any more. O(1).
    #[inline]
    pub fn remove(&mut self, handle: Handle<T>) -> Option<T> {
        if handle.index() >= self.used_count {
            return None;
        }
        // SAFETY: below `used_count`.
        unsafe { self.remove_in_range(handle) }
    }

    /// [`Self::remove`] with one comparison.
    ///
    /// # Safety
    /// - As [`Self::get_in_range`].
    #[inline(always)]
    pub(super) unsafe fn remove_in_range(&mut self, handle: Handle<T>) -> Option<T> {
        let tally = self.tally;
        // SAFETY: the caller's.
        let entry = unsafe { self.entry_mut(handle.index()) };
        if entry.header != handle.to_bits() {
            return None;
        }
        // SAFETY: the low half is the entry's own index, so there is a value (H1), gone from here on.
        let value: *const T = unsafe { entry.value() };
        // SAFETY: as above.
        let value = unsafe { value.read() };
        // Even, so at most u32::MAX afterwards; `insert` retires the entry then (H2).
        entry.header = handle.to_bits() + TO_FREE;
        entry.content.next_free = tally as u32;
        self.tally = ((tally & UPPER) - UPPER_ONE) | u64::from(handle.index());
        Some(value)
    }

    /// Removes all values. Handles of before name nothing.
    pub fn clear(&mut self) {
        for index in 0..self.used_count {
            if let Some(handle) = self.handle_at(index) {
                drop(self.remove(handle));
            }
        }
        self.check();
    }

    /// All values with their handles, in the order of their places. Places without a value are
    /// not touched.
    pub fn iter(&self) -> Iter<'_, T, B> {
        Iter { places: Places::of(self) }
    }

    /// All values, in the order of their places.
    pub fn values(&self) -> Values<'_, T, B> {
        Values { places: Places::of(self) }
    }

    /// Asks the processor for the value named `handle`, which is looked up soon.
    #[inline]
    pub fn prefetch(&self, handle: Handle<T>) {
        if handle.index() < self.used_count {
            // SAFETY: below `used_count`, so in the committed entries.
            let entry = unsafe { self.entries.at(handle.index() as usize) };
            prefetch_read(entry.as_ptr());
        }
    }

    /// Looks all `handles` up, in their order, and calls `visit` with each value; lines are asked
    /// for 16 values ahead. For many values beyond the cache: see docs/design/regions.md.
    #[inline]
    pub fn get_many<'a>(&'a self, handles: &[Handle<T>], mut visit: impl FnMut(Option<&'a T>)) {
        handles.iter().take(AHEAD_COUNT).for_each(|handle| self.prefetch(*handle));
        for (index, handle) in handles.iter().enumerate() {
            if let Some(ahead) = handles.get(index + AHEAD_COUNT) {
                self.prefetch(*ahead);
            }
            visit(self.get(*handle));
        }
    }

    fn handle_at(&self, index: u32) -> Option<Handle<T>> {
        let entry = self.entry(index)?;
        if entry.has_value() { Handle::from_bits(entry.header) } else { None }
    }

    #[inline]
    fn entry(&self, index: u32) -> Option<&Entry<T>> {
        if index >= self.used_count {
            return None;
        }
        // SAFETY: below `used_count`, so in the committed entries.
        let entry = unsafe { self.entries.at(index as usize) };
        // SAFETY: written when `used_count` passed it; lent as we are.
        Some(unsafe { entry.as_ref() })
    }

    /// # Safety
    /// - `index` is below `used_count`.
    #[inline]
    unsafe fn entry_mut(&mut self, index: u32) -> &mut Entry<T> {
        debug_assert!(index < self.used_count);
        // SAFETY: below `used_count`, so in the committed entries.
        let mut entry = unsafe { self.entries.at(index as usize) };
        // SAFETY: written when `used_count` passed it; lent exclusively as we are.
        unsafe { entry.as_mut() }
    }

    /// What the pool holds now. O(1), and the kernel is asked about its memory.
    pub fn statistics(&self) -> RegionStatistics {
        let rows = [self.entries.extent(), self.live.extent()];
        let has_free = self.free() != NONE || self.used_count < self.committed_count;
        column::statistics(&self.backing, rows, self.len(), size_of::<T>(), has_free)
    }

    /// Walks the invariants; empty in release builds.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert!(self.used_count <= self.committed_count && self.len() <= self.used_count as usize);
        let live = (0..self.used_count).filter(|index| self.handle_at(*index).is_some()).count();
        assert_eq!(live, self.len(), "H3: length");
        for index in 0..self.used_count {
            let bits = self.live_word(index as usize / WORD_BITS).load(Ordering::Relaxed);
            let bit = bits >> (index as usize % WORD_BITS);
            let handle = self.handle_at(index);
            assert!(bit & 1 == 1 || handle.is_none(), "H4: {index}");
            let named = index + u32::from(handle.is_none());
            assert!(self.entry(index).is_some_and(|one| one.header as u32 == named), "H1: {index}");
        }
        let mut free = 0;
        let mut next = self.free();
        while let Some(entry) = self.entry(next) {
            let generation = entry.generation();
            assert!(!generation.is_multiple_of(2), "H3: {next}");
            free += 1;
            assert!(free <= self.used_count as usize, "H3: the free list has a cycle");
            // SAFETY: no value, and on the free list.
            next = unsafe { entry.next_free() };
        }
        assert!(live + free <= self.used_count as usize, "H3");
    }
}

impl<T, B: Backing> Drop for HandlePool<T, B> {
    /// Drops all values and gives the memory back. If a destructor panics, the rest is leaked.
    fn drop(&mut self) {
        if mem::needs_drop::<T>() {
            self.clear();
        }
        // SAFETY: reserved from this backing; nothing of it is used any more.
        unsafe { self.entries.release(&self.backing) };
        // SAFETY: as above.
        unsafe { self.live.release(&self.backing) };
    }
}

impl<T: fmt::Debug, B: Backing> fmt::Debug for HandlePool<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a, T, B: Backing> IntoIterator for &'a HandlePool<T, B> {
    type Item = (Handle<T>, &'a T);
    type IntoIter = Iter<'a, T, B>;

    fn into_iter(self) -> Iter<'a, T, B> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;
    use std::vec::Vec;

    use super::{Handle, HandlePool};
    use crate::AnonymousPages;

    #[test]
    fn trap_11_a_slot_retires_when_its_generation_wraps() {
        let mut pool: HandlePool<u32, _> = HandlePool::new_in(AnonymousPages);
        let first = pool.insert(1).expect("memory");
        assert_eq!(pool.remove(first), Some(1));
        // SAFETY: used above.
        let entry = unsafe { pool.entry_mut(first.index()) };
        entry.header = u64::from(u32::MAX - 2) << 32 | entry.header & !super::UPPER;
        let last = pool.insert(2).expect("memory");
        assert_eq!(last.parts(), (first.index(), u32::MAX - 1));
        assert_eq!(pool.remove(last), Some(2));
        let other = pool.insert(3).expect("memory");
        assert_ne!(other.index(), first.index(), "the slot is never used again");
        for stale in [first, last] {
            assert_eq!(pool.get(stale), None);
            assert_eq!(pool.remove(stale), None);
        }
        pool.check();
        assert_eq!(pool.iter().map(|(_, value)| *value).sum::<u32>(), 3);
        assert_eq!(size_of::<Option<Handle<u32>>>(), 8);
    }

    /// Bits are left behind by removals; walks, several at once too, clear them and no others.
    #[test]
    fn a_walk_clears_the_bits_of_what_is_gone() {
        let mut pool: HandlePool<u32, _> = HandlePool::new_in(AnonymousPages);
        let handles: Vec<_> = (0..1000).map(|n| pool.insert(n).expect("memory")).collect();
        for handle in handles.iter().step_by(3) {
            assert!(pool.remove(*handle).is_some());
        }
        let bits = |pool: &HandlePool<u32, _>| -> u32 {
            let words = (0..1000_usize.div_ceil(64)).map(|word| pool.live_word(word));
            words.map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
        };
        assert_eq!((bits(&pool), pool.len()), (1000, 666));
        let expected: u32 = (0..1000).filter(|n| n % 3 != 0).sum();
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(pool.values().sum::<u32>(), expected));
            scope.spawn(|| assert_eq!(pool.iter().map(|(_, one)| *one).sum::<u32>(), expected));
        });
        let mut sum = 0;
        for value in &pool {
            sum += value.1;
        }
        assert_eq!((sum, bits(&pool)), (expected, 666), "one alone clears them all");
        let again = pool.insert(7).expect("memory");
        pool.check();
        assert_eq!(pool.values().sum::<u32>(), expected + 7);
        assert_eq!(pool.remove(again), Some(7));
    }
}

//! A pool whose values are named by handles instead of pointers.
//!
//! # Invariants
//! design/regions.md#H1 to design/regions.md#H3.

mod bits;
mod walk;

use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::num::NonZero;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::prefetch::prefetch_read;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};

use crate::chunk::Chunk;

use walk::Places;
pub use walk::{Iter, Values};

/// No next free slot.
const NONE: u32 = u32::MAX;
const LINE_BYTES: usize = 64;
const WORD_BITS: usize = u64::BITS as usize;
/// A batched look-up and a walk ask for lines so many values ahead.
const AHEAD_COUNT: usize = 16;

/// Value and generation in one place: a look-up touches one cache line.
#[derive(Debug)]
#[repr(C)]
struct Entry<T> {
    /// While there is a value, the bits of its handle: its index below its generation, which is
    /// odd. Else the index of the next free entry below an even generation (H1).
    header: u64,
    value: MaybeUninit<T>,
}

impl<T> Entry<T> {
    #[inline(always)]
    const fn generation(&self) -> u32 {
        (self.header >> 32) as u32
    }
}

const fn header_of(generation: u32, index: u32) -> u64 {
    (generation as u64) << 32 | index as u64
}

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
    /// The first entry; dangling before the first insert.
    entries: NonNull<Entry<T>>,
    /// Entries ever used.
    used_count: u32,
    /// Entries that are committed.
    committed_count: u32,
    capacity_max: u32,
    free: u32,
    length: u32,
    chunk: Option<NonNull<Chunk>>,
    /// A bit for each entry: it has a value. Dangling before the first insert.
    live: NonNull<u64>,
    live_chunk: Option<NonNull<Chunk>>,
    backing: B,
    value: PhantomData<T>,
}

// SAFETY: the entries belong to this value alone, as a `Vec`'s items do; the chunk's header too.
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
            entries: NonNull::dangling(),
            used_count: 0,
            committed_count: 0,
            capacity_max,
            free: NONE,
            length: 0,
            chunk: None,
            live: NonNull::dangling(),
            live_chunk: None,
            backing,
            value: PhantomData,
        }
    }

    /// Values in the pool.
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there is no value.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Puts a value in. O(1).
    ///
    /// # Errors
    /// The value, if there is no room; [`Self::try_reserve`] says why.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Handle<T>, T> {
        let index = self.free;
        if index == NONE {
            return self.insert_fresh(value);
        }
        // SAFETY: on the free list, so below `used_count` (H3).
        let header = unsafe { self.entry_mut(index) }.header;
        self.free = header as u32;
        Ok(self.fill(index, header, value))
    }

    #[inline(never)]
    fn insert_fresh(&mut self, value: T) -> Result<Handle<T>, T> {
        if self.used_count == self.committed_count && self.try_reserve(1).is_err() {
            return Err(value);
        }
        let index = self.used_count;
        // SAFETY: below `committed_count`, so committed, aligned and ours.
        let place = unsafe { self.entries.add(index as usize) };
        // SAFETY: as above; nothing there needs to be dropped.
        unsafe { place.write(Entry { header: header_of(0, NONE), value: MaybeUninit::uninit() }) };
        self.used_count += 1;
        Ok(self.fill(index, header_of(0, NONE), value))
    }

    /// Puts `value` into the entry at `index`, which is below `used_count`, has none but `header`,
    /// and is on no list.
    #[inline]
    fn fill(&mut self, index: u32, header: u64, value: T) -> Handle<T> {
        debug_assert!(index < self.used_count);
        // SAFETY: below `used_count`.
        let entry = unsafe { self.entry_mut(index) };
        debug_assert!(entry.generation().is_multiple_of(2), "H1: there is a value");
        entry.value.write(value);
        // Even before, so at most u32::MAX - 1.
        let handle = Handle::of_parts(index, (header >> 32) as u32 | 1);
        entry.header = handle.to_bits();
        self.length += 1;
        self.flip_live(index);
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
        let too_large = AllocError::TooLarge { requested_bytes: usize::MAX };
        let header_bytes = Self::header_bytes();
        let bytes = (wanted.ok_or(full)? as usize)
            .checked_mul(size)
            .and_then(|bytes| bytes.checked_add(header_bytes))
            .ok_or(too_large)?;
        let at = match self.chunk {
            Some(at) => at,
            None => self.start(bytes)?,
        };
        // SAFETY: written by `Chunk::make`, there until the pool is dropped, not overlapped by
        // entries; changed through cells.
        let chunk = unsafe { at.as_ref() };
        if !chunk.extend(&self.backing, bytes)? {
            return Err(full);
        }
        let entries = chunk.at(header_bytes).cast();
        let committed = (chunk.extent.get().committed_bytes - header_bytes) / size;
        let committed = committed.min(self.capacity_max as usize) as u32;
        self.extend_live(committed)?;
        self.entries = entries;
        self.committed_count = committed;
        self.check();
        Ok(())
    }

    /// Takes the range of addresses for the entries, with room for `bytes` at once, and one for
    /// their bits.
    fn start(&mut self, bytes: usize) -> Result<NonNull<Chunk>, AllocError> {
        let size = size_of::<Entry<T>>();
        let most = (self.capacity_max as usize).saturating_mul(size);
        let most = most.saturating_add(Self::header_bytes());
        let hint = self.backing.reserve_hint(bytes).min(most).max(bytes);
        // The bits first: the hint may be all that a buffer has.
        let bit_bytes = (hint / size + 1).div_ceil(WORD_BITS) * size_of::<u64>();
        let header_bytes = Chunk::header_bytes(LINE_BYTES);
        let least = header_bytes + size_of::<u64>();
        let live = match self.live_chunk {
            Some(live) => live,
            None => Chunk::make(&self.backing, header_bytes + bit_bytes, least, LINE_BYTES)?,
        };
        self.live_chunk = Some(live);
        let hint = self.backing.reserve_hint(bytes).min(hint).max(bytes);
        let at = Chunk::make(&self.backing, hint, bytes, Self::ALIGN)?;
        self.chunk = Some(at);
        Ok(at)
    }

    /// Makes room for the bits of `count` entries; new ones are clear.
    fn extend_live(&mut self, count: u32) -> Result<(), AllocError> {
        let Some(at) = self.live_chunk else { return Ok(()) };
        // SAFETY: as for the chunk of the entries.
        let chunk = unsafe { at.as_ref() };
        let header_bytes = Chunk::header_bytes(LINE_BYTES);
        let words = (count as usize).div_ceil(WORD_BITS);
        if !chunk.extend(&self.backing, header_bytes + words * size_of::<u64>())? {
            return Err(AllocError::Full {
                requested_bytes: words * size_of::<u64>(),
                largest_free_bytes: 0,
                capacity_bytes: chunk.extent.get().reserved_bytes,
            });
        }
        let from = (self.committed_count as usize).div_ceil(WORD_BITS);
        self.live = chunk.at(header_bytes).cast();
        if words > from {
            // SAFETY: inside the words just committed.
            let fresh = unsafe { self.live.add(from) };
            // SAFETY: as above; no entry had a bit there.
            unsafe { fresh.write_bytes(0, words - from) };
        }
        Ok(())
    }

    /// The word with the bits of entries from `64 * word` on.
    #[inline]
    fn live_word(&self, word: usize) -> u64 {
        debug_assert!(word < (self.used_count as usize).div_ceil(WORD_BITS));
        // SAFETY: a word with the bit of an entry that was used, so committed and written.
        let place = unsafe { self.live.add(word) };
        // SAFETY: as above; written by exclusive borrows only.
        unsafe { place.read() }
    }

    #[inline]
    fn flip_live(&mut self, index: u32) {
        // SAFETY: the word of a used entry, as in `live_word`.
        let place = unsafe { self.live.add(index as usize / WORD_BITS) };
        // SAFETY: as above.
        let word = unsafe { place.read() };
        // SAFETY: as above, borrowed exclusively.
        unsafe { place.write(word ^ 1 << (index as usize % WORD_BITS)) };
    }

    /// The value named `handle`, unless it was removed. One comparison of the index, one of index
    /// and generation.
    #[inline]
    pub fn get(&self, handle: Handle<T>) -> Option<&T> {
        let entry = self.entry(handle.index())?;
        if entry.header != handle.to_bits() {
            return None;
        }
        // SAFETY: the low half is the entry's own index, so there is a value (H1).
        Some(unsafe { entry.value.assume_init_ref() })
    }

    /// The value named `handle`, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, handle: Handle<T>) -> Option<&mut T> {
        if handle.index() >= self.used_count {
            return None;
        }
        // SAFETY: below `used_count`.
        let entry = unsafe { self.entry_mut(handle.index()) };
        if entry.header != handle.to_bits() {
            return None;
        }
        // SAFETY: the low half is the entry's own index, so there is a value (H1).
        Some(unsafe { entry.value.assume_init_mut() })
    }

    /// Whether `handle` names a value.
    #[inline]
    pub fn contains(&self, handle: Handle<T>) -> bool {
        self.get(handle).is_some()
    }

    /// Takes the value named `handle` out; no handle names it any more. O(1).
    #[inline]
    pub fn remove(&mut self, handle: Handle<T>) -> Option<T> {
        let index = handle.index();
        if index >= self.used_count {
            return None;
        }
        let next_free = self.free;
        // SAFETY: below `used_count`.
        let entry = unsafe { self.entry_mut(index) };
        if entry.header != handle.to_bits() {
            return None;
        }
        // SAFETY: the low half is the entry's own index, so there is a value (H1), which is marked
        // as gone below.
        let value = unsafe { entry.value.assume_init_read() };
        // From u32::MAX to 0: retired (H2), no handle has generation 0.
        let generation = handle.parts().1.wrapping_add(1);
        entry.header = header_of(generation, next_free);
        if generation != 0 {
            self.free = index;
        }
        self.length -= 1;
        self.flip_live(index);
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
            let entry = unsafe { self.entries.add(handle.index() as usize) };
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
        let has_value = !entry.generation().is_multiple_of(2);
        if has_value { Handle::from_bits(entry.header) } else { None }
    }

    #[inline]
    fn entry(&self, index: u32) -> Option<&Entry<T>> {
        if index >= self.used_count {
            return None;
        }
        // SAFETY: below `used_count`, so in the committed entries.
        let entry = unsafe { self.entries.add(index as usize) };
        // SAFETY: written when `used_count` passed it; lent as we are.
        Some(unsafe { entry.as_ref() })
    }

    /// # Safety
    /// - `index` is below `used_count`.
    #[inline]
    unsafe fn entry_mut(&mut self, index: u32) -> &mut Entry<T> {
        debug_assert!(index < self.used_count);
        // SAFETY: below `used_count`, so in the committed entries.
        let mut entry = unsafe { self.entries.add(index as usize) };
        // SAFETY: written when `used_count` passed it; lent exclusively as we are.
        unsafe { entry.as_mut() }
    }

    /// Entries start at a line, so that those of a line's size do not straddle two.
    const ALIGN: usize =
        if align_of::<Entry<T>>() > LINE_BYTES { align_of::<Entry<T>>() } else { LINE_BYTES };

    const fn header_bytes() -> usize {
        Chunk::header_bytes(Self::ALIGN)
    }

    /// What the pool holds now. O(1), and the kernel is asked about its memory.
    pub fn statistics(&self) -> RegionStatistics {
        let mut seen = RegionStatistics::default();
        let live_bytes = self.len() * size_of::<T>();
        let mut all = Some(0);
        for at in [self.chunk, self.live_chunk].into_iter().flatten() {
            // SAFETY: as in `try_reserve`; only read.
            let extent = unsafe { at.as_ref() }.extent.get();
            let committed = 0..extent.committed_bytes;
            // SAFETY: a live extent of this backing.
            let resident = unsafe { self.backing.resident_bytes(&extent, committed) };
            seen.reserved_bytes += extent.reserved_bytes;
            seen.committed_bytes += extent.committed_bytes;
            all = all.zip(resident).map(|(sum, here)| sum + here);
        }
        seen.resident_bytes = all.into();
        seen.live_count = Figure::Exact(self.len());
        seen.live_bytes = Figure::Exact(live_bytes);
        seen.requested_bytes = seen.live_bytes;
        seen.free_bytes = Figure::Exact(seen.committed_bytes - live_bytes);
        let has_free = self.free != NONE || self.used_count < self.committed_count;
        seen.largest_free_bytes = if has_free { size_of::<T>() } else { 0 };
        seen
    }

    /// Walks the invariants; empty in release builds.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert!(self.used_count <= self.committed_count && self.length <= self.used_count);
        let odd = (0..self.used_count).filter(|index| self.handle_at(*index).is_some()).count();
        assert_eq!(odd, self.len(), "H3: length");
        for index in 0..self.used_count {
            let bit = self.live_word(index as usize / WORD_BITS) >> (index as usize % WORD_BITS);
            let handle = self.handle_at(index);
            assert_eq!(bit & 1 == 1, handle.is_some(), "H4: {index}");
            assert!(handle.is_none_or(|handle| handle.index() == index), "H1: {index}");
        }
        let mut free = 0;
        let mut next = self.free;
        while let Some(entry) = self.entry(next) {
            let generation = entry.generation();
            assert!(generation.is_multiple_of(2) && generation > 0, "H3: {next}");
            free += 1;
            assert!(free <= self.used_count as usize, "H3: the free list has a cycle");
            next = entry.header as u32;
        }
        assert!(odd + free <= self.used_count as usize, "H3");
    }
}

impl<T, B: Backing> Drop for HandlePool<T, B> {
    /// Drops all values and gives the memory back. If a destructor panics, the rest is leaked.
    fn drop(&mut self) {
        if core::mem::needs_drop::<T>() {
            self.clear();
        }
        for at in [self.chunk, self.live_chunk].into_iter().flatten() {
            // SAFETY: as in `try_reserve`.
            let extent = unsafe { at.as_ref() }.extent.get();
            // SAFETY: one of our two extents, once; nothing of it is used any more.
            unsafe { self.backing.release(extent) };
        }
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
    use super::{Handle, HandlePool};
    use crate::AnonymousPages;

    #[test]
    fn trap_11_a_slot_retires_when_its_generation_wraps() {
        let mut pool: HandlePool<u32, _> = HandlePool::new_in(AnonymousPages);
        let first = pool.insert(1).expect("memory");
        assert_eq!(pool.remove(first), Some(1));
        // SAFETY: used above.
        let entry = unsafe { pool.entry_mut(first.index()) };
        entry.header = super::header_of(u32::MAX - 1, entry.header as u32);
        let last = pool.insert(2).expect("memory");
        assert_eq!(last.parts(), (first.index(), u32::MAX));
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
}

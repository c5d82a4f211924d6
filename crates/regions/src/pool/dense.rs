//! A pool whose values lie side by side, named by handles: a walk over them is a walk over a slice.
//!
//! # Invariants
//! design/regions.md#D1 to design/regions.md#D3.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::RegionStatistics;

use super::column::{self, Column};
use super::handles::Handle;

/// No next free slot.
const NONE: u32 = u32::MAX;

/// What a handle leads to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Slot {
    /// Even while there is a value; a generation only grows.
    generation: u32,
    /// The value's place, or the next free slot.
    place: u32,
}

impl Slot {
    const fn has_value(self) -> bool {
        self.generation & 1 == 0
    }
}

/// Values of one type under handles, without gaps: whoever walks them often takes this, whoever
/// looks single ones up takes a [`HandlePool`](crate::HandlePool).
///
/// A look-up is one hop longer, since the last value moves into the gap when another is removed; a
/// walk reads values and nothing else, in any state of the pool. 12 bytes a value beside it.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, DensePool};
///
/// let mut pool: DensePool<u64, _> = DensePool::new_in(AnonymousPages);
/// let handles = [1, 2, 3].map(|value| pool.insert(value).expect("memory"));
/// assert_eq!(pool.remove(handles[0]), Some(1));
/// assert_eq!(pool.values(), [3, 2]);
/// assert_eq!(pool.get(handles[2]), Some(&3));
/// assert_eq!(pool.get(handles[0]), None);
/// # }
/// ```
pub struct DensePool<T, B: Backing> {
    /// By the index of a handle.
    slots: Column<Slot>,
    /// By place: whose value it is.
    owners: Column<u32>,
    /// By place.
    values: Column<T>,
    length: u32,
    /// Slots ever used.
    used_count: u32,
    /// Slots, owners and values that have room.
    committed_count: u32,
    capacity_max: u32,
    free: u32,
    backing: B,
    value: PhantomData<T>,
}

// SAFETY: the rows belong to this value alone, as a `Vec`'s items do.
unsafe impl<T: Send, B: Backing + Send> Send for DensePool<T, B> {}
// SAFETY: by shared reference values are lent shared and nothing is written.
unsafe impl<T: Sync, B: Backing + Sync> Sync for DensePool<T, B> {}

impl<T, B: Backing> DensePool<T, B> {
    /// A pool of as many values as its addresses have room for: 1 GiB of anonymous pages, the rest
    /// of a buffer. Takes no memory until it is used.
    pub const fn new_in(backing: B) -> Self {
        Self::with_capacity_max(backing, NONE)
    }

    /// A pool of at most `capacity_max` values.
    pub const fn with_capacity_max(backing: B, capacity_max: u32) -> Self {
        Self {
            slots: Column::new(),
            owners: Column::new(),
            values: Column::new(),
            length: 0,
            used_count: 0,
            committed_count: 0,
            capacity_max,
            free: NONE,
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

    /// Puts a value in, behind all others. O(1).
    ///
    /// # Errors
    /// The value, if there is no room; [`Self::try_reserve`] says why.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Handle<T>, T> {
        loop {
            let index = self.free;
            if index == NONE {
                if !self.add_slot() {
                    return Err(value);
                }
                continue;
            }
            let slot = self.slot(index);
            self.free = slot.place;
            // After the last generation the slot stays off the list for ever.
            let Some(generation) = slot.generation.checked_add(1) else { continue };
            let place = self.length;
            debug_assert!(place < self.committed_count, "D3");
            // SAFETY: a slot is free, so fewer values than slots, which have room as those do (D3).
            let to = unsafe { self.values.at(place as usize) };
            // SAFETY: ours, aligned, without a value (D1).
            unsafe { to.write(value) };
            self.set_owner(place, index);
            self.set_slot(index, Slot { generation, place });
            self.length += 1;
            return Ok(Handle::of_parts(index, generation));
        }
    }

    /// Puts a slot that was never used on the list, which is empty. Whether there was one.
    #[cold]
    #[inline(never)]
    fn add_slot(&mut self) -> bool {
        if self.used_count == self.committed_count && self.try_reserve(1).is_err() {
            return false;
        }
        let index = self.used_count;
        self.used_count += 1;
        self.set_slot(index, Slot { generation: 1, place: NONE });
        self.free = index;
        true
    }

    /// Takes memory for `more` values beyond those that fit now without more.
    ///
    /// # Errors
    /// [`AllocError::Full`] at the pool's capacity, or what the backing says.
    pub fn try_reserve(&mut self, more: u32) -> Result<(), AllocError> {
        let size = size_of::<T>();
        let full = AllocError::Full {
            requested_bytes: size.saturating_mul(more as usize),
            largest_free_bytes: 0,
            capacity_bytes: size.saturating_mul(self.capacity_max as usize),
        };
        let wanted = self.committed_count.checked_add(more).filter(|sum| *sum <= self.capacity_max);
        let wanted = wanted.ok_or(full)? as usize;
        let beside = size_of::<Slot>() + size_of::<u32>();
        let headers =
            Column::<Slot>::HEADER_BYTES + Column::<u32>::HEADER_BYTES + Column::<T>::HEADER_BYTES;
        let each = size.saturating_add(beside);
        let bytes = wanted.saturating_mul(each).saturating_add(headers);
        let room = self.backing.reserve_hint(bytes).saturating_sub(headers) / each;
        let most = room.min(self.capacity_max as usize).max(wanted);
        // Each row is as long as the others; the first call decides.
        self.slots.reserve(&self.backing, most, wanted)?;
        self.owners.reserve(&self.backing, most, wanted)?;
        self.values.reserve(&self.backing, most, wanted)?;
        let slots = self.slots.commit(&self.backing, wanted)?.ok_or(full)?;
        let owners = self.owners.commit(&self.backing, wanted)?.ok_or(full)?;
        let values = self.values.commit(&self.backing, wanted)?.ok_or(full)?;
        let count = slots.min(owners).min(values).min(self.capacity_max as usize);
        self.committed_count = count as u32;
        self.check();
        Ok(())
    }

    /// The place of the value named `handle`.
    #[inline(always)]
    fn place_of(&self, handle: Handle<T>) -> Option<usize> {
        let (index, generation) = handle.parts();
        if index >= self.used_count {
            return None;
        }
        let slot = self.slot(index);
        // A number that was made up may have a free slot's generation, which is odd.
        (slot.generation == generation && slot.has_value()).then_some(slot.place as usize)
    }

    /// The value named `handle`, unless it was removed.
    #[inline]
    pub fn get(&self, handle: Handle<T>) -> Option<&T> {
        let place = self.place_of(handle)?;
        debug_assert!(place < self.len(), "D2");
        // SAFETY: the place of a value (D2).
        let value = unsafe { self.values.at(place) };
        // SAFETY: a value (D1), lent as we are.
        Some(unsafe { value.as_ref() })
    }

    /// The value named `handle`, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, handle: Handle<T>) -> Option<&mut T> {
        let place = self.place_of(handle)?;
        debug_assert!(place < self.len(), "D2");
        // SAFETY: the place of a value (D2).
        let mut value = unsafe { self.values.at(place) };
        // SAFETY: a value (D1), lent exclusively as we are.
        Some(unsafe { value.as_mut() })
    }

    /// Whether `handle` names a value.
    #[inline]
    pub fn contains(&self, handle: Handle<T>) -> bool {
        self.place_of(handle).is_some()
    }

    /// Takes the value named `handle` out; the last one moves into its place. O(1).
    #[inline]
    pub fn remove(&mut self, handle: Handle<T>) -> Option<T> {
        let place = self.place_of(handle)?;
        self.vacate(handle.index());
        self.length -= 1;
        let last = self.length;
        // SAFETY: the place of a value (D2).
        let gap = unsafe { self.values.at(place) };
        // SAFETY: a value (D1); it is not counted any more, or overwritten below.
        let value = unsafe { gap.read() };
        if place != last as usize {
            // SAFETY: the last value was counted until now.
            let moved = unsafe { self.values.at(last as usize) };
            // SAFETY: two places of the row, both ours; the value is counted at its new place.
            unsafe { gap.copy_from_nonoverlapping(moved, 1) };
            let owner = self.owner(last);
            self.set_owner(place as u32, owner);
            let generation = self.slot(owner).generation;
            self.set_slot(owner, Slot { generation, place: place as u32 });
        }
        Some(value)
    }

    /// Ends the slot's generation and puts it on the list.
    #[inline(always)]
    fn vacate(&mut self, index: u32) {
        // Even before, so at most u32::MAX afterwards; `insert` retires it then.
        let generation = self.slot(index).generation + 1;
        self.set_slot(index, Slot { generation, place: self.free });
        self.free = index;
    }

    /// Removes all values. Handles of before name nothing.
    pub fn clear(&mut self) {
        for place in 0..self.length {
            self.vacate(self.owner(place));
        }
        let gone: *mut [T] = self.values_mut();
        self.length = 0;
        // SAFETY: values that are not counted any more, so that nobody drops them again, even if
        // a destructor panics.
        unsafe { gone.drop_in_place() };
        self.check();
    }

    /// All values. Their order is that of insertion until the first removal.
    pub const fn values(&self) -> &[T] {
        // SAFETY: the first of the row, or dangling with a length of 0.
        let start = unsafe { self.values.at(0) };
        // SAFETY: so many values from there on (D1), lent as we are.
        unsafe { slice::from_raw_parts(start.as_ptr(), self.length as usize) }
    }

    /// All values, to change them in place.
    pub const fn values_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `values`.
        let start = unsafe { self.values.at(0) };
        // SAFETY: as in `values`, lent exclusively.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), self.length as usize) }
    }

    /// All values with their handles, in the order of [`Self::values`].
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Handle<T>, &T)> {
        self.values().iter().enumerate().map(|(place, value)| {
            let owner = self.owner(place as u32);
            (Handle::of_parts(owner, self.slot(owner).generation), value)
        })
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Slot {
        debug_assert!(index < self.used_count);
        // SAFETY: used, so it has room.
        let slot = unsafe { self.slots.at(index as usize) };
        // SAFETY: written when `used_count` passed it.
        unsafe { slot.read() }
    }

    #[inline(always)]
    fn set_slot(&mut self, index: u32, slot: Slot) {
        debug_assert!(index < self.used_count);
        // SAFETY: used, so it has room.
        let to = unsafe { self.slots.at(index as usize) };
        // SAFETY: ours alone.
        unsafe { to.write(slot) };
    }

    /// Whose value is at `place`, which had one.
    #[inline(always)]
    fn owner(&self, place: u32) -> u32 {
        debug_assert!(place < self.committed_count);
        // SAFETY: there is room for it.
        let owner: NonNull<u32> = unsafe { self.owners.at(place as usize) };
        // SAFETY: written with the value.
        unsafe { owner.read() }
    }

    #[inline(always)]
    fn set_owner(&mut self, place: u32, index: u32) {
        debug_assert!(place < self.committed_count);
        // SAFETY: there is room for it.
        let to = unsafe { self.owners.at(place as usize) };
        // SAFETY: ours alone.
        unsafe { to.write(index) };
    }

    /// What the pool holds now. O(1), and the kernel is asked about its memory.
    pub fn statistics(&self) -> RegionStatistics {
        let rows = [self.slots.extent(), self.owners.extent(), self.values.extent()];
        let has_free = self.free != NONE || self.used_count < self.committed_count;
        column::statistics(&self.backing, rows, self.len(), size_of::<T>(), has_free)
    }

    /// Walks the invariants; empty in release builds.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert!(self.length <= self.used_count && self.used_count <= self.committed_count, "D3");
        for place in 0..self.length {
            let slot = self.slot(self.owner(place));
            assert!(slot.has_value() && slot.place == place, "D2: {place}");
        }
        let mut free = 0;
        let mut next = self.free;
        while next != NONE {
            assert!(!self.slot(next).has_value(), "D3: {next}");
            free += 1;
            assert!(free + self.length <= self.used_count, "D3: the free list has a cycle");
            next = self.slot(next).place;
        }
    }
}

impl<T, B: Backing> Drop for DensePool<T, B> {
    /// Drops all values and gives the memory back.
    fn drop(&mut self) {
        let gone: *mut [T] = self.values_mut();
        // SAFETY: values that nobody uses after this.
        unsafe { gone.drop_in_place() };
        // SAFETY: reserved from this backing; nothing of it is used any more.
        unsafe { self.slots.release(&self.backing) };
        // SAFETY: as above.
        unsafe { self.owners.release(&self.backing) };
        // SAFETY: as above.
        unsafe { self.values.release(&self.backing) };
    }
}

impl<T: fmt::Debug, B: Backing> fmt::Debug for DensePool<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{DensePool, Slot};
    use crate::{AnonymousPages, Handle};

    #[test]
    fn trap_11_a_slot_of_a_dense_pool_retires_when_its_generation_wraps() {
        let mut pool: DensePool<u32, _> = DensePool::new_in(AnonymousPages);
        let first = pool.insert(1).expect("memory");
        assert_eq!(pool.remove(first), Some(1));
        let slot = pool.slot(first.index());
        pool.set_slot(first.index(), Slot { generation: u32::MAX - 2, ..slot });
        let last = pool.insert(2).expect("memory");
        assert_eq!(last.parts(), (first.index(), u32::MAX - 1));
        assert_eq!(pool.remove(last), Some(2));
        let other = pool.insert(3).expect("memory");
        assert_ne!(other.index(), first.index(), "the slot is never used again");
        assert!([first, last].iter().all(|stale| !pool.contains(*stale)));
        pool.check();
        assert_eq!(pool.values(), [3]);
    }

    #[test]
    fn trap_11_a_made_up_number_names_no_free_slot_of_a_dense_pool() {
        let mut pool: DensePool<&str, _> = DensePool::new_in(AnonymousPages);
        let handles: [_; 3] = core::array::from_fn(|_| pool.insert("value").expect("memory"));
        assert!(handles.iter().all(|handle| pool.remove(*handle).is_some()));
        for number in (1..6).flat_map(|generation| (0..4).map(move |at| generation << 32 | at)) {
            let made = Handle::from_bits(number).expect("a generation");
            assert_eq!(pool.get(made), None, "{made:?}");
            assert_eq!(pool.remove(made), None, "{made:?}");
        }
    }

    #[test]
    fn values_of_no_bytes_have_handles_too() {
        let mut pool: DensePool<(), _> = DensePool::with_capacity_max(AnonymousPages, 2);
        let handles = [(), ()].map(|value| pool.insert(value).expect("two"));
        assert_eq!(pool.insert(()), Err(()));
        assert_eq!((pool.remove(handles[0]), pool.values().len()), (Some(()), 1));
        assert!(pool.contains(handles[1]) && !pool.contains(handles[0]));
    }
}

//! Memory for the heap and for its tables, straight from the operating system.
//!
//! # Invariants
//! - M1: a [`Reserve`] owns its range: readable, writable, zero until written, released on drop.
//! - M2: the first `len` items of a [`Table`] are initialised, and `len <= capacity`.

use core::ptr::NonNull;

use heapwright_os::{Advice, Protection, advise, page_bytes, release, remap, reserve};

use crate::HeapError;

/// An owned range of addresses, whose pages the kernel supplies when they are touched.
#[derive(Debug)]
pub(crate) struct Reserve {
    start: NonNull<u8>,
    bytes: usize,
}

impl Reserve {
    /// Reserves `bytes`, rounded up to pages.
    pub(crate) fn new(bytes: usize) -> Result<Self, HeapError> {
        let bytes = bytes.max(1).next_multiple_of(page_bytes());
        let start = reserve(bytes, Protection::ReadWrite)
            .map_err(|errno| HeapError::Reserve { bytes, errno })?;
        Ok(Self { start, bytes })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The same contents with room for `bytes`, elsewhere as a rule. The kernel moves the pages, so
    /// that a table that grows in a slice of a collection does not copy what it holds. Gives the
    /// reserve back when the kernel refuses.
    fn grown(self, bytes: usize) -> Result<Self, (Self, HeapError)> {
        let bytes = bytes.next_multiple_of(page_bytes());
        // SAFETY: the reserve owns the whole mapping (M1), and its old address goes with `self`.
        match unsafe { remap(self.start, self.bytes, bytes, true) } {
            Ok(start) => {
                core::mem::forget(self);
                Ok(Self { start, bytes })
            }
            Err(errno) => Err((self, HeapError::Reserve { bytes, errno })),
        }
    }

    /// Asks for huge pages in the whole 2 MiB units of `bytes` from `offset`, the first few KiB
    /// apart, so that a small heap stays small. A page fault then brings 512 pages, and the walks
    /// of a collection miss the translation cache less.
    pub(crate) fn want_huge_pages(&self, offset: usize, bytes: usize) {
        debug_assert!(offset + bytes <= self.bytes);
        // SAFETY: inside the reserve.
        let start = unsafe { self.start.add(offset) };
        let skip =
            SMALL_BYTES + start.as_ptr().wrapping_add(SMALL_BYTES).align_offset(HUGE_PAGE_BYTES);
        let whole = bytes.saturating_sub(skip) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        if whole > 0 {
            // SAFETY: `skip + whole <= bytes`, so the place is inside the reserve.
            let first = unsafe { start.add(skip) };
            // SAFETY: whole pages of ours; the advice changes no contents. A kernel without huge
            // pages refuses, and nothing is lost.
            let _ = unsafe { advise(first, whole, Advice::HugePage) };
        }
    }
}

/// What is never in a huge page, at the beginning of each space and map.
const SMALL_BYTES: usize = 64 << 10;
/// What the kernel calls a huge page on the machines we know.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

impl Drop for Reserve {
    fn drop(&mut self) {
        // SAFETY: the range is ours (M1), and its owner is gone. A failure only keeps it mapped.
        let _ = unsafe { release(self.start, self.bytes) };
    }
}

/// Gives the whole pages inside `bytes` from `start` back to the kernel; they read as zero then,
/// the rest of the range keeps its contents.
///
/// # Safety
/// - The range lies in one [`Reserve`], and nobody needs its contents.
pub(crate) unsafe fn purge(start: NonNull<u8>, bytes: usize) {
    let page = page_bytes();
    let skip = start.addr().get().next_multiple_of(page) - start.addr().get();
    let whole = bytes.saturating_sub(skip) / page * page;
    if whole > 0 {
        // SAFETY: `skip + whole <= bytes`, so the place is in the caller's range.
        let first = unsafe { start.add(skip) };
        // SAFETY: whole pages of a range whose contents the caller gives up. Where the kernel
        // refuses, the pages stay resident.
        let _ = unsafe { advise(first, whole, Advice::DontNeed) };
    }
}

/// Asks the kernel for the memory of `bytes` from `start` now; their contents stay as they are. One
/// that refuses supplies it when it is touched.
///
/// # Safety
/// - Whole pages of one [`Reserve`].
pub(crate) unsafe fn populate(start: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise; contents do not change.
    let _ = unsafe { advise(start, bytes, Advice::Populate) };
}

/// A growing array of plain values in memory of its own.
#[derive(Debug)]
pub(crate) struct Table<T: Copy> {
    items: NonNull<T>,
    len: usize,
    capacity: usize,
    memory: Option<Reserve>,
}

impl<T: Copy> Table<T> {
    /// An empty table; takes no memory yet.
    pub(crate) const fn new() -> Self {
        Self { items: NonNull::dangling(), len: 0, capacity: 0, memory: None }
    }

    /// Appends `item`. O(1) amortised.
    ///
    /// # Panics
    /// If the kernel has no memory: a collection cannot go on then.
    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        let pushed = self.try_push(item);
        assert!(pushed.is_ok(), "no memory for a table of the collector");
    }

    /// Appends `item`, or tells that there is no memory.
    #[inline]
    pub(crate) fn try_push(&mut self, item: T) -> Result<(), HeapError> {
        if self.len == self.capacity {
            self.grow()?;
        }
        // SAFETY: `len < capacity`, so the place is inside our memory.
        let place = unsafe { self.items.add(self.len) };
        // SAFETY: inside our memory, which nobody else writes.
        unsafe { place.write(item) };
        self.len += 1;
        Ok(())
    }

    /// Takes the last item.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: `len` was above this index (M2), so it is inside our memory.
        let place = unsafe { self.items.add(self.len) };
        // SAFETY: initialised (M2).
        Some(unsafe { place.read() })
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Takes over what was written to [`Table::items`] directly.
    ///
    /// # Safety
    /// - The first `len` items, at most the capacity, are initialised.
    pub(crate) unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity);
        self.len = len;
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: M2; the table is borrowed for as long as the slice.
        unsafe { core::slice::from_raw_parts(self.items.as_ptr(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: M2; the table is borrowed exclusively for as long as the slice.
        unsafe { core::slice::from_raw_parts_mut(self.items.as_ptr(), self.len) }
    }

    /// Where the items lie, and for how many there is room.
    pub(crate) fn items(&self) -> NonNull<T> {
        self.items
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Doubles the room.
    #[cold]
    #[inline(never)]
    pub(crate) fn grow(&mut self) -> Result<(), HeapError> {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= 4096) };
        let bytes = (self.capacity * 2 * size_of::<T>()).max(16 << 10);
        let memory = match self.memory.take() {
            None => Reserve::new(bytes),
            Some(memory) => memory.grown(bytes).map_err(|(memory, error)| {
                self.memory = Some(memory);
                error
            }),
        }?;
        self.items = memory.start().cast();
        self.capacity = memory.bytes / size_of::<T>();
        self.memory = Some(memory);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_table_keeps_its_items_while_it_grows() {
        let mut table = Table::new();
        (0..100_000u32).for_each(|item| table.push(item));
        assert!(table.as_slice().iter().copied().eq(0..100_000));
        assert_eq!(table.pop(), Some(99_999));
        table.truncate(2);
        assert_eq!(table.as_slice(), [0, 1]);
    }
}

//! A vector in memory of its own: pages straight from the kernel, never moved into the program's
//! heap.

use core::ptr::NonNull;

use heapwright_os::{Protection, release, reserve};

/// Elements of the first mapping, at least.
const CAPACITY_MIN: usize = 256;

/// A growing array of plain values; all zero bytes are a valid `T`.
#[derive(Debug)]
pub(crate) struct Grown<T: Copy> {
    start: *mut T,
    length: usize,
    capacity: usize,
}

// SAFETY: it owns its mapping; values are plain.
unsafe impl<T: Copy + Send> Send for Grown<T> {}

impl<T: Copy> Grown<T> {
    pub(crate) const fn new() -> Self {
        Self { start: core::ptr::null_mut(), length: 0, capacity: 0 }
    }

    /// Bytes of the mapping.
    pub(crate) fn bytes(&self) -> usize {
        self.capacity * size_of::<T>()
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: the first `length` elements of our mapping were written.
        unsafe { core::slice::from_raw_parts(self.start, self.length) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        if self.start.is_null() {
            return &mut [];
        }
        // SAFETY: as above, and ours alone.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// Appends `values`; false when there is no memory, and nothing has changed then.
    pub(crate) fn extend(&mut self, values: &[T]) -> bool {
        let Some(length) = self.length.checked_add(values.len()) else { return false };
        if length > self.capacity && !self.make_capacity(length) {
            return false;
        }
        let end = self.start.wrapping_add(self.length);
        // SAFETY: behind the elements there is room for all of `values`, which lie elsewhere.
        unsafe { end.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        self.length = length;
        true
    }

    /// `length` zeroed elements in place of what there was; false when there is no memory.
    pub(crate) fn reset_zeroed(&mut self, length: usize) -> bool {
        let Ok(fresh) = reserve(length * size_of::<T>(), Protection::ReadWrite) else {
            return false;
        };
        self.replace(fresh.as_ptr().cast(), length);
        self.length = length;
        true
    }

    /// Gives the memory back; it is empty then.
    pub(crate) fn release(&mut self) {
        self.replace(core::ptr::null_mut(), 0);
        self.length = 0;
    }

    fn make_capacity(&mut self, wanted: usize) -> bool {
        let capacity = wanted.next_power_of_two().max(CAPACITY_MIN);
        let Ok(fresh) = reserve(capacity * size_of::<T>(), Protection::ReadWrite) else {
            return false;
        };
        let fresh = fresh.as_ptr().cast::<T>();
        if !self.start.is_null() {
            // SAFETY: two mappings of ours, the new one longer.
            unsafe { fresh.copy_from_nonoverlapping(self.start, self.length) };
        }
        self.replace(fresh, capacity);
        true
    }

    fn replace(&mut self, fresh: *mut T, capacity: usize) {
        let old = core::mem::replace(&mut self.start, fresh);
        let old_bytes = core::mem::replace(&mut self.capacity, capacity) * size_of::<T>();
        if let Some(old) = NonNull::new(old) {
            // SAFETY: a whole mapping of ours that nobody refers to. A refusal leaves it mapped.
            let _ = unsafe { release(old.cast(), old_bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Grown;

    #[test]
    fn it_grows_and_keeps_what_was_there() {
        let mut grown = Grown::new();
        for step in 0..3000u64 {
            assert!(grown.extend(&[step, step * 2]));
        }
        assert_eq!(grown.as_slice().len(), 6000);
        assert!(
            grown
                .as_slice()
                .chunks(2)
                .enumerate()
                .all(|(step, pair)| { pair == [step as u64, step as u64 * 2] })
        );
        assert!(grown.reset_zeroed(10));
        assert_eq!(grown.as_mut_slice(), [0; 10]);
    }
}

//! A table of fixed size in memory of its own, touched where it is used: out of reach of the
//! program's overflows by whole mappings.

use core::marker::PhantomData;
use core::ptr::NonNull;

use heapwright_os::{Advice, Protection, advise, reserve};
use heapwright_sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// What a table may hold.
///
/// # Safety
/// - All zero bytes are a valid value, shared use by threads is sound (fields are atomics), and
///   there is nothing to drop.
pub(crate) unsafe trait Zeroed: Sync {}

// SAFETY: an atomic word.
unsafe impl Zeroed for heapwright_sync::atomic::AtomicU32 {}
// SAFETY: an atomic word.
unsafe impl Zeroed for AtomicUsize {}
// SAFETY: a byte that only the holder of a lock uses, by atomic access.
unsafe impl Zeroed for heapwright_sync::atomic::AtomicU8 {}

/// A table of `T`, all zero at first. Empty until [`Table::reserve`].
pub(crate) struct Table<T> {
    start: AtomicPtr<T>,
    len: AtomicUsize,
    holds: PhantomData<T>,
}

impl<T: Zeroed> Table<T> {
    pub(crate) const fn new() -> Self {
        Self {
            start: AtomicPtr::new(core::ptr::null_mut()),
            len: AtomicUsize::new(0),
            holds: PhantomData,
        }
    }

    /// Takes address space for `len` entries; false when there is none. Once for a table.
    pub(crate) fn reserve(&self, len: usize) -> bool {
        let bytes = (len * size_of::<T>()).next_multiple_of(heapwright_os::page_bytes());
        let Ok(start) = reserve(bytes, Protection::ReadWrite) else { return false };
        // SAFETY: the mapping just made. A table without entries in a core file is no loss.
        let _ = unsafe { advise(start, bytes, Advice::NoHugePage) };
        self.start.store(start.as_ptr().cast(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `len`; publishes `start`.
        self.len.store(len, Ordering::Release);
        true
    }

    /// Takes address space for `len` entries, or for as large a part of them as there is, at least
    /// `least`. Once for a table.
    pub(crate) fn reserve_up_to(&self, len: usize, least: usize) -> bool {
        let mut len = len;
        while len >= least {
            if self.reserve(len) {
                return true;
            }
            len /= 2;
        }
        false
    }

    /// The addresses of the table.
    pub(crate) fn range(&self) -> (usize, usize) {
        let start = self.start.load(Ordering::Relaxed).addr();
        (start, start + self.len() * size_of::<T>())
    }

    /// How many entries there are.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        // Acquire: pairs with the Release in `reserve`.
        self.len.load(Ordering::Acquire)
    }

    /// Entry `index`; none beyond the end.
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        if index >= self.len() {
            return None;
        }
        let start = NonNull::new(self.start.load(Ordering::Relaxed))?;
        // SAFETY: below `len`, so inside the mapping, which is never given back.
        let entry = unsafe { start.add(index) };
        // SAFETY: aligned (mappings are, to a page), and valid as zero or as written (`Zeroed`).
        Some(unsafe { entry.as_ref() })
    }
}

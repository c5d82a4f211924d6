//! Memory that the caller has: a slice, or a static array.

use core::alloc::Layout;
use core::cell::{Cell, UnsafeCell};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, BackingError, Extent};
use heapwright_core::bump::bump;
use heapwright_sync::atomic::{AtomicBool, Ordering};

/// A caller's buffer, cut from the front. The last extent's bytes can be used again after its
/// release, and all when no extent is left.
#[derive(Debug)]
pub struct Buffer<'a> {
    start: NonNull<u8>,
    bytes: usize,
    used_bytes: Cell<usize>,
    extent_count: Cell<usize>,
    lifetime: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

// SAFETY: it is the only one that knows the buffer, as the exclusive borrow it was made of.
unsafe impl Send for Buffer<'_> {}

impl<'a> Buffer<'a> {
    /// A backing of `buffer`. O(1).
    pub fn new(buffer: &'a mut [MaybeUninit<u8>]) -> Self {
        Self {
            bytes: buffer.len(),
            start: NonNull::from(buffer).cast(),
            used_bytes: Cell::new(0),
            extent_count: Cell::new(0),
            lifetime: PhantomData,
        }
    }

    /// Bytes not in any extent, some of which alignment may take.
    pub fn free_bytes(&self) -> usize {
        self.bytes - self.used_bytes.get()
    }
}

// SAFETY: extents are disjoint parts of the buffer, at or above `used_bytes` when they are cut
// (I1); the borrow keeps the buffer alive, and its address does not change with ours; everything
// is readable and writable (I2); nothing is claimed about its contents (I4).
unsafe impl Backing for Buffer<'_> {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let base = self.start.as_ptr().addr();
        let used = self.used_bytes.get();
        let placed =
            bump(base + used, base + self.bytes, layout, 1).ok_or(BackingError::Exhausted {
                requested_bytes: layout.size(),
                available_bytes: self.free_bytes(),
            })?;
        self.used_bytes.set(used + placed.advance_bytes);
        self.extent_count.set(self.extent_count.get() + 1);
        // SAFETY: `bump` placed the block between `used` and the end of the buffer.
        let start = unsafe { self.start.add(used + placed.skip_bytes) };
        Ok(Extent {
            start,
            reserved_bytes: layout.size(),
            committed_bytes: layout.size(),
            step_bytes: 1,
            zeroed: false,
            tag: 0,
        })
    }

    unsafe fn release(&self, extent: Extent) {
        let offset = extent.start.as_ptr().addr() - self.start.as_ptr().addr();
        let left = self.extent_count.get() - 1;
        self.extent_count.set(left);
        if left == 0 {
            self.used_bytes.set(0);
        } else if offset + extent.reserved_bytes == self.used_bytes.get() {
            self.used_bytes.set(offset);
        }
    }

    /// What is left, less what an alignment of 64 can take.
    fn reserve_hint(&self, bytes_min: usize) -> usize {
        let address = self.start.as_ptr().addr() + self.used_bytes.get();
        let skip = address.wrapping_neg() & 63;
        bytes_min.max(self.free_bytes().saturating_sub(skip))
    }

    unsafe fn commit(&self, _: &Extent, _: Range<usize>) -> Result<(), BackingError> {
        Ok(())
    }
}

/// `N` bytes in a static, for programs without an operating system.
///
/// ```
/// use heapwright_regions::{Linear, StaticBuffer};
///
/// static MEMORY: StaticBuffer<4096> = StaticBuffer::new();
///
/// let arena: Linear<_> = Linear::new_in(MEMORY.take().expect("taken for the first time"));
/// assert_eq!(*arena.alloc(7), 7);
/// assert!(MEMORY.take().is_none());
/// ```
#[derive(Debug)]
#[repr(align(64))]
pub struct StaticBuffer<const N: usize> {
    memory: UnsafeCell<[MaybeUninit<u8>; N]>,
    taken: AtomicBool,
}

// SAFETY: the memory is reached by `take` only, which succeeds once.
unsafe impl<const N: usize> Sync for StaticBuffer<N> {}

impl<const N: usize> StaticBuffer<N> {
    /// `N` bytes that nobody has taken.
    #[cfg(not(loom))]
    #[allow(clippy::new_without_default, reason = "a value that is not static is of no use")]
    pub const fn new() -> Self {
        Self { memory: UnsafeCell::new([MaybeUninit::uninit(); N]), taken: AtomicBool::new(false) }
    }

    /// The buffer, the first time; `None` ever after.
    pub fn take(&'static self) -> Option<Buffer<'static>> {
        // Relaxed: only who comes first matters; nothing was written before.
        if self.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: the flag lets one caller here, once; `self` lives for ever.
        let memory = unsafe { &mut *self.memory.get() };
        Some(Buffer::new(memory))
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;
    use core::alloc::Layout;
    use core::mem::MaybeUninit;
    use heapwright_core::backing::{Backing, BackingError};

    #[test]
    fn extents_are_cut_and_come_back() {
        let mut memory = [MaybeUninit::uninit(); 256];
        let buffer = Buffer::new(&mut memory);
        let layout = Layout::from_size_align(64, 32).expect("a layout");
        let first = buffer.reserve(layout).expect("256 bytes");
        let second = buffer.reserve(layout).expect("192 bytes");
        assert!(second.start.as_ptr().addr().is_multiple_of(32));
        let large = Layout::from_size_align(256, 1).expect("a layout");
        let free = buffer.free_bytes();
        let refused = buffer.reserve(large);
        assert_eq!(
            refused,
            Err(BackingError::Exhausted { requested_bytes: 256, available_bytes: free })
        );
        // SAFETY: unused, given back once; likewise below.
        unsafe { buffer.release(second) };
        assert!(buffer.free_bytes() >= free + 64);
        // SAFETY: as above.
        unsafe { buffer.release(first) };
        assert_eq!(buffer.free_bytes(), 256);
    }
}

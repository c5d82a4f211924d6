//! Every block on cache lines of its own.

use core::alloc::{GlobalAlloc, Layout};

/// A cache line of the processors that we build for.
const LINE_BYTES: usize = 64;

/// A global allocator over `A` whose blocks never share a cache line: each begins on a line and is
/// whole lines long.
///
/// For programs whose threads write small neighbouring blocks, and for telling whether that is
/// what slows one down. The price is memory: a block takes 64 bytes at least and 31 more than it
/// asked for on average. Over [`Heapwright`](crate::Heapwright) a call costs the rounding more.
///
/// ```
/// use heapwright::{Heapwright, LineAligned};
///
/// #[global_allocator]
/// static GLOBAL: LineAligned<Heapwright> = LineAligned::new(Heapwright);
///
/// let number = Box::new(1u8);
/// assert!(std::ptr::from_ref(&*number).addr().is_multiple_of(64));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LineAligned<A> {
    inner: A,
}

impl<A> LineAligned<A> {
    /// Blocks of `inner`, on lines of their own.
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }
}

/// A block of that many bytes on lines of its own; none beyond what a layout can be.
#[inline]
fn in_lines(bytes: usize, align_bytes: usize) -> Option<Layout> {
    let bytes = bytes.checked_next_multiple_of(LINE_BYTES)?;
    Layout::from_size_align(bytes, align_bytes.max(LINE_BYTES)).ok()
}

// SAFETY: blocks of `A` with layouts that hold what was asked for, more strictly aligned; the same
// layout is computed from the same arguments when a block is given back or resized.
unsafe impl<A: GlobalAlloc> GlobalAlloc for LineAligned<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match in_lines(layout.size(), layout.align()) {
            // SAFETY: no smaller than what the caller asks for, which is not 0.
            Some(layout) => unsafe { self.inner.alloc(layout) },
            None => core::ptr::null_mut(),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match in_lines(layout.size(), layout.align()) {
            // SAFETY: as above.
            Some(layout) => unsafe { self.inner.alloc_zeroed(layout) },
            None => core::ptr::null_mut(),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(layout) = in_lines(layout.size(), layout.align()) {
            // SAFETY: the layout that the block was allocated with.
            unsafe { self.inner.dealloc(ptr, layout) };
        }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let old = in_lines(layout.size(), layout.align());
        let Some((old, new)) = old.zip(in_lines(new_size, layout.align())) else {
            return core::ptr::null_mut();
        };
        if new.size() == old.size() {
            return ptr;
        }
        // SAFETY: the layout that the block was allocated with; the new size is valid for its
        // alignment.
        unsafe { self.inner.realloc(ptr, old, new.size()) }
    }
}

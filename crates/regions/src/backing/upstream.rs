//! Another allocator as a backing.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, BackingError, Extent};

/// Blocks of an allocator as extents: `Upstream(std::alloc::System)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upstream<A>(
    /// Where blocks come from.
    pub A,
);

/// Layout of an extent's block: its alignment is the tag.
fn layout_of(extent: &Extent) -> Layout {
    let layout = Layout::from_size_align(extent.reserved_bytes, extent.tag);
    debug_assert!(layout.is_ok(), "the tag is the alignment that `reserve` was given");
    layout.unwrap_or(Layout::new::<()>())
}

// SAFETY: extents are live blocks of the allocator, which keeps them apart, aligned and in place
// until they are freed (I1), and readable and writable (I2).
unsafe impl<A: GlobalAlloc> Backing for Upstream<A> {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let bytes = layout.size().max(1);
        let exhausted = BackingError::Exhausted { requested_bytes: bytes, available_bytes: 0 };
        let layout = Layout::from_size_align(bytes, layout.align()).map_err(|_| exhausted)?;
        // SAFETY: the size is not zero.
        let start = unsafe { self.0.alloc(layout) };
        Ok(Extent {
            start: NonNull::new(start).ok_or(exhausted)?,
            reserved_bytes: bytes,
            committed_bytes: bytes,
            step_bytes: 1,
            zeroed: false,
            tag: layout.align(),
        })
    }

    unsafe fn release(&self, extent: Extent) {
        // SAFETY: a block of this allocator with the same layout, given back once.
        unsafe { self.0.dealloc(extent.start.as_ptr(), layout_of(&extent)) }
    }

    unsafe fn commit(&self, _: &Extent, _: Range<usize>) -> Result<(), BackingError> {
        Ok(())
    }
}

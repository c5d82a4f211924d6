//! A slice of unknown length that grows at the arena's end.

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::Counts;

use super::arena::Linear;

/// What a first push makes room for.
const CAPACITY_MIN: usize = 8;

/// Grows in place while nothing else is allocated between two pushes. Items are never dropped.
pub(super) struct Builder<'a, T, B: Backing, C: Counts, const ALIGN: usize> {
    arena: &'a Linear<B, C, ALIGN>,
    start: NonNull<T>,
    length: usize,
    capacity: usize,
    /// Why a `fmt::Write` failed.
    error: Option<AllocError>,
}

fn array<T>(length: usize) -> Result<Layout, AllocError> {
    Layout::array::<T>(length).map_err(|_| AllocError::TooLarge {
        requested_bytes: length.saturating_mul(size_of::<T>()),
    })
}

impl<'a, T, B: Backing, C: Counts, const ALIGN: usize> Builder<'a, T, B, C, ALIGN> {
    pub(super) fn new(arena: &'a Linear<B, C, ALIGN>) -> Self {
        const { assert!(!core::mem::needs_drop::<T>(), "an arena does not drop these items") };
        let capacity = if size_of::<T>() == 0 { usize::MAX } else { 0 };
        Self { arena, start: NonNull::dangling(), length: 0, capacity, error: None }
    }

    /// Makes room for `more` items.
    pub(super) fn reserve(&mut self, more: usize) -> Result<(), AllocError> {
        let wanted = self.length.saturating_add(more);
        if wanted <= self.capacity {
            return Ok(());
        }
        let capacity = wanted.max(self.capacity.saturating_mul(2)).max(CAPACITY_MIN);
        let new = array::<T>(capacity)?;
        let grown = if self.capacity == 0 {
            self.arena.try_alloc_layout(new)?
        } else {
            let old = array::<T>(self.capacity)?;
            // SAFETY: the live block of `capacity` items; only the new pointer is used from here.
            unsafe { self.arena.grow(self.start.cast(), old, new) }?
        };
        self.start = grown.cast();
        self.capacity = capacity;
        Ok(())
    }

    pub(super) fn push(&mut self, value: T) -> Result<(), AllocError> {
        self.reserve(1)?;
        // SAFETY: there is room for one more item at `length`.
        let place = unsafe { self.start.add(self.length) };
        // SAFETY: as above; nobody else knows the block.
        unsafe { place.write(value) };
        self.length += 1;
        Ok(())
    }

    /// The items; what is not used goes back if the block is still the last one.
    pub(super) fn finish(self) -> Result<&'a mut [T], AllocError> {
        if self.length < self.capacity && self.capacity > 0 && size_of::<T>() > 0 {
            let (old, new) = (array::<T>(self.capacity)?, array::<T>(self.length)?);
            // SAFETY: the live block of `capacity` items; a shorter layout of the same alignment
            // leaves it where it is.
            let kept = unsafe { self.arena.shrink(self.start.cast(), old, new) }?;
            debug_assert_eq!(kept, self.start.cast());
        }
        let items = NonNull::slice_from_raw_parts(self.start, self.length);
        // SAFETY: `length` items were written, in a block that lives as long as the arena is
        // borrowed, and that nobody else knows.
        Ok(unsafe { &mut *items.as_ptr() })
    }

    pub(super) fn error(&self) -> Option<AllocError> {
        self.error
    }
}

impl<B: Backing, C: Counts, const ALIGN: usize> fmt::Write for Builder<'_, u8, B, C, ALIGN> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Err(error) = self.reserve(text.len()) {
            self.error = Some(error);
            return Err(fmt::Error);
        }
        // SAFETY: `reserve` made room for the text behind `length`.
        let to = unsafe { self.start.add(self.length) };
        // SAFETY: as above; the text is elsewhere, our block being known to nobody.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(text.as_bytes()).cast(), text.len()) };
        self.length += text.len();
        Ok(())
    }
}

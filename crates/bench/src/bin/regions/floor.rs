//! What one would write by hand for one size and one thread.

use std::ptr::NonNull;

/// A bump pointer for one type.
#[derive(Debug)]
pub(crate) struct Cursor {
    next: *mut u64,
    end: *mut u64,
}

impl Cursor {
    pub(crate) fn over(buffer: &mut [u64]) -> Self {
        let range = buffer.as_mut_ptr_range();
        Self { next: range.start, end: range.end }
    }

    /// Puts `value` into the next place.
    #[inline(never)]
    pub(crate) fn alloc(&mut self, value: u64) -> Option<&mut u64> {
        if self.next == self.end {
            return None;
        }
        let place = self.next;
        // SAFETY: below the end of the buffer.
        self.next = unsafe { place.add(1) };
        // SAFETY: as above; each place is given once.
        unsafe { place.write(value) };
        // SAFETY: written above.
        Some(unsafe { &mut *place })
    }
}

/// A free slot of a list, on a cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Link(Option<NonNull<Link>>);

/// An intrusive list of free slots.
#[derive(Debug)]
pub(crate) struct List {
    free: Option<NonNull<Link>>,
    next: usize,
    memory: Vec<Link>,
}

impl List {
    pub(crate) fn of(count: usize) -> Self {
        Self { free: None, next: 0, memory: vec![Link(None); count] }
    }

    #[inline(always)]
    pub(crate) fn take(&mut self) -> NonNull<u8> {
        match self.free {
            Some(link) => {
                // SAFETY: a free slot of `memory`.
                let Link(next) = unsafe { link.read() };
                self.free = next;
                link.cast()
            }
            None => {
                self.next += 1;
                NonNull::from(&mut self.memory[self.next - 1]).cast()
            }
        }
    }

    #[inline(always)]
    pub(crate) fn give(&mut self, slot: NonNull<u8>) {
        let link = slot.cast::<Link>();
        // SAFETY: a live slot of `memory`, given up.
        unsafe { link.write(Link(self.free)) };
        self.free = Some(link);
    }
}

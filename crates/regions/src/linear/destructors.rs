//! Values whose destructors the arena runs.
//!
//! # Invariants
//! design/regions.md#L6.

use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::Counts;

use super::arena::{Linear, out_of_memory};

/// One registered value; it lies in the arena, before the value.
#[derive(Debug)]
pub(super) struct Destructor {
    next: Option<NonNull<Destructor>>,
    /// Drops the value in whose [`Registered`] this is the first field.
    run: unsafe fn(NonNull<Destructor>),
}

#[repr(C)]
struct Registered<T> {
    destructor: Destructor,
    value: T,
}

/// Runs its closure when it is dropped.
struct Deferred<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Deferred<F> {
    fn drop(&mut self) {
        if let Some(clean_up) = self.0.take() {
            clean_up();
        }
    }
}

/// Drops the value behind `at`.
///
/// # Safety
/// - `at` is the first field of a live `Registered<T>`, with provenance for all of it, whose value
///   nobody borrows or drops again.
unsafe fn run<T>(at: NonNull<Destructor>) {
    let registered = at.cast::<Registered<T>>().as_ptr();
    // SAFETY: a field of the live value.
    let value = unsafe { &raw mut (*registered).value };
    // SAFETY: the caller's promise.
    unsafe { value.drop_in_place() }
}

impl<B: Backing, C: Counts, const ALIGN: usize> Linear<B, C, ALIGN> {
    /// Puts a value into the arena, which drops it when its memory is given up: at the end of the
    /// scope, at the reset or with the arena, newest first. Costs two words.
    ///
    /// The value is `'static` because it is dropped after every borrow of the arena has ended,
    /// and `Send` because the arena may then be in another thread.
    ///
    /// ```compile_fail,E0277
    /// // The arena may go to another thread and drop it there.
    /// heapwright_regions::Linear::new().alloc_drop(std::rc::Rc::new(1));
    /// ```
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`]; `value` is dropped then.
    #[allow(clippy::mut_from_ref, reason = "each call returns another block")]
    pub fn try_alloc_drop<T: Send + 'static>(&self, value: T) -> Result<&mut T, AllocError> {
        let place = self.try_alloc_uninit::<Registered<T>>()?;
        let destructor = Destructor { next: self.destructors.get(), run: run::<T> };
        let at = NonNull::from(place.write(Registered { destructor, value }));
        self.destructors.set(Some(at.cast()));
        // SAFETY: a field of the value just written.
        let value = unsafe { &raw mut (*at.as_ptr()).value };
        // SAFETY: nobody else reaches the value before its destructor runs, which needs the
        // arena exclusively (L8); the list is read through `destructor` only.
        Ok(unsafe { &mut *value })
    }

    /// As [`Self::try_alloc_drop`].
    ///
    /// # Panics
    /// If there is no memory.
    #[allow(clippy::mut_from_ref, reason = "each call returns another block")]
    pub fn alloc_drop<T: Send + 'static>(&self, value: T) -> &mut T {
        self.try_alloc_drop(value).unwrap_or_else(|error| out_of_memory(error))
    }

    /// Runs `clean_up` when the arena's memory is given up, in turn with the destructors, newest
    /// first: for what a request opened and must close. Costs two words and what it captures.
    ///
    /// ```
    /// # #[cfg(feature = "os")] {
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// static CLOSED: AtomicU32 = AtomicU32::new(0);
    /// let mut request = heapwright_regions::Linear::new();
    /// let connection = 7;
    /// request.try_defer(move || CLOSED.store(connection, Ordering::Relaxed))?;
    /// request.reset();
    /// assert_eq!(CLOSED.load(Ordering::Relaxed), 7);
    /// # }
    /// # Ok::<(), heapwright_regions::AllocError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`]; `clean_up` is dropped then and does not run.
    pub fn try_defer(&self, clean_up: impl FnOnce() + Send + 'static) -> Result<(), AllocError> {
        // The room first: a refusal must not run the handler.
        self.try_alloc_drop(Deferred(None)).map(|place| place.0 = Some(clean_up))
    }

    /// Runs the destructors registered after `until`, newest first. If one panics, it and those
    /// before have run, and the others are still registered.
    ///
    /// # Safety
    /// - `until` is registered, or `None`; nobody borrows a value registered after it.
    pub(super) unsafe fn run_destructors(&self, until: Option<NonNull<Destructor>>) {
        while self.destructors.get() != until {
            let Some(at) = self.destructors.get() else { return };
            // SAFETY: what is on the list was written by `try_alloc_drop`, and its memory is
            // given up only after this (L6).
            let Destructor { next, run } = unsafe { at.read() };
            self.destructors.set(next);
            // SAFETY: `at` has the provenance of the whole value; it is off the list now, so
            // this is the only time; nobody borrows it, as the caller says.
            unsafe { run(at) };
        }
    }
}

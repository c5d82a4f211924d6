//! Going back to a point: scopes that the borrow checker guards, and marks that it does not.

use core::error::Error;
use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_statistics::{Counts, NoCounts};

use super::arena::Linear;
use super::destructors::Destructor;
use crate::chunk::Chunk;

/// A point of an arena's life, of [`Linear::mark`].
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    chunk: Option<NonNull<Chunk>>,
    cursor_bytes: usize,
    oversize: Option<NonNull<Chunk>>,
    destructors: Option<NonNull<Destructor>>,
    reset_count: usize,
}

/// Why an arena does not go back to a mark. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarkError {
    /// The arena was reset since.
    Reset {
        /// How often.
        count: usize,
    },
    /// The mark is another arena's, or the arena went back behind it.
    Gone,
}

impl fmt::Display for MarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset { count } => write!(f, "the arena was reset {count} times since the mark"),
            Self::Gone => f.write_str("the mark is not a point of this arena"),
        }
    }
}

impl Error for MarkError {}

impl<B: Backing, C: Counts, const ALIGN: usize> Linear<B, C, ALIGN> {
    /// The point where the arena is now. O(1).
    pub fn mark(&self) -> Mark {
        let start = self.current.get().map_or(ALIGN, |at| at.as_ptr().addr());
        Mark {
            chunk: self.current.get(),
            cursor_bytes: self.cursor.get().as_ptr().addr() - start,
            oversize: self.oversize.get(),
            destructors: self.destructors.get(),
            reset_count: self.reset_count.get(),
        }
    }

    /// Ends all blocks made since `mark`, runs their destructors, and keeps the memory.
    /// O(chunks).
    ///
    /// # Errors
    /// [`MarkError`] for a mark that is not a point of this arena's present life.
    ///
    /// # Safety
    /// - Nobody uses a block that was made since the mark, or that has grown since.
    pub unsafe fn rewind(&mut self, mark: Mark) -> Result<(), MarkError> {
        let resets = self.reset_count.get().wrapping_sub(mark.reset_count);
        if resets != 0 {
            return Err(MarkError::Reset { count: resets });
        }
        if !self.is_past(mark) {
            return Err(MarkError::Gone);
        }
        self.go_back(mark);
        Ok(())
    }

    /// Whether `mark` is a point that the arena has passed.
    fn is_past(&self, mark: Mark) -> bool {
        let Some(marked) = mark.chunk else { return true };
        let mut next = self.first.get();
        while let Some(at) = next {
            let is_current = self.current.get() == Some(at);
            if at == marked {
                let cursor = self.cursor.get().as_ptr().addr();
                return !is_current || at.as_ptr().addr() + mark.cursor_bytes <= cursor;
            }
            if is_current {
                return false;
            }
            next = self.chunk(at).next.get();
        }
        false
    }

    /// Goes back to `mark`, which `is_past`; the caller has the arena exclusively.
    fn go_back(&mut self, mark: Mark) {
        // SAFETY: registered at the mark, and still, because the arena has not been behind it
        // since; nobody borrows a newer value, by the exclusive borrow or by the promise of
        // whoever calls `rewind`.
        unsafe { self.run_destructors(mark.destructors) };
        self.spare_oversize(mark.oversize);
        match (mark.chunk, self.first.get()) {
            (Some(at), _) => self.enter(at, mark.cursor_bytes),
            (None, Some(first)) => self.enter(first, Chunk::header_bytes(ALIGN)),
            (None, None) => {}
        }
        self.rewound.set(true);
        self.check();
    }

    /// Starts a scope: what is allocated through it ends with it.
    ///
    /// ```
    /// # #[cfg(feature = "os")] {
    /// use heapwright_regions::Linear;
    ///
    /// let mut arena = Linear::new();
    /// for round in 0..1000 {
    ///     let scope = arena.scope();
    ///     let numbers = scope.alloc_slice_fill_with(1000, |index| index + round);
    ///     assert_eq!(numbers[999], 999 + round);
    /// }
    /// assert!(arena.statistics().committed_bytes < 200_000);
    /// # }
    /// ```
    /// Nothing leaves it:
    /// ```compile_fail,E0597
    /// # use heapwright_regions::Linear;
    /// let mut arena = Linear::new();
    /// let number = {
    ///     let scope = arena.scope();
    ///     scope.alloc(1)
    /// };
    /// *number = 2;
    /// ```
    /// And what was there before cannot grow into it:
    /// ```compile_fail,E0502
    /// # use heapwright_regions::Linear;
    /// let mut arena = Linear::new();
    /// let before = arena.alloc(1);
    /// let scope = arena.scope();
    /// *before = 2;
    /// ```
    pub fn scope(&mut self) -> Scope<'_, B, C, ALIGN> {
        let mark = self.mark();
        let floor = self.floor.replace(self.cursor.get().as_ptr().addr());
        Scope { arena: self, mark, floor }
    }

    /// Calls `f` with the arena; what it allocates ends with the call.
    pub fn scoped<R>(&mut self, f: impl FnOnce(&Self) -> R) -> R {
        f(&self.scope())
    }
}

/// A part of an arena's life; see [`Linear::scope`]. Forgetting it keeps its blocks until the
/// scope around it ends.
#[derive(Debug)]
pub struct Scope<'a, B: Backing, C: Counts = NoCounts, const ALIGN: usize = 8> {
    // Lent shared only: whoever had it exclusively could reset it under the mark.
    arena: &'a mut Linear<B, C, ALIGN>,
    mark: Mark,
    floor: usize,
}

impl<B: Backing, C: Counts, const ALIGN: usize> Scope<'_, B, C, ALIGN> {
    /// A scope inside this one.
    pub fn scope(&mut self) -> Scope<'_, B, C, ALIGN> {
        self.arena.scope()
    }

    /// Ends all blocks of this scope and goes on with it.
    pub fn reset(&mut self) {
        self.arena.go_back(self.mark);
        let floor = self.arena.cursor.get().as_ptr().addr();
        self.arena.floor.set(floor);
    }
}

impl<B: Backing, C: Counts, const ALIGN: usize> Deref for Scope<'_, B, C, ALIGN> {
    type Target = Linear<B, C, ALIGN>;

    fn deref(&self) -> &Self::Target {
        self.arena
    }
}

impl<B: Backing, C: Counts, const ALIGN: usize> Drop for Scope<'_, B, C, ALIGN> {
    fn drop(&mut self) {
        self.arena.go_back(self.mark);
        self.arena.floor.set(self.floor);
    }
}

//! A bump pointer that several threads move.
//!
//! # Invariants
//! - I1: ranges that were claimed since the last [`BumpCursor::reset`] do not overlap, and none
//!   ends above the limit its claimer gave.

use crate::atomic::{AtomicUsize, Ordering};

/// The offset of the next free byte.
#[derive(Debug)]
pub struct BumpCursor {
    next: AtomicUsize,
}

/// Why nothing was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotClaimed {
    /// The range would end there, above the limit.
    AboveLimit(usize),
    /// No number names its end.
    Overflow,
}

impl BumpCursor {
    /// A cursor at offset 0.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { next: AtomicUsize::new(0) }
    }

    /// A cursor at offset 0.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { next: AtomicUsize::new(0) }
    }

    /// Claims `bytes` bytes at a multiple of `align` (a power of two) that end at or below
    /// `limit`; where they start. Lock-free: one compare-and-swap when nobody else claims.
    ///
    /// # Errors
    /// [`NotClaimed`]; the cursor is then where it was.
    #[inline]
    pub fn claim(&self, bytes: usize, align: usize, limit: usize) -> Result<usize, NotClaimed> {
        debug_assert!(align.is_power_of_two());
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let start = next.checked_add(align - 1).ok_or(NotClaimed::Overflow)? & !(align - 1);
            let end = start.checked_add(bytes).ok_or(NotClaimed::Overflow)?;
            if end > limit {
                return Err(NotClaimed::AboveLimit(end));
            }
            // Relaxed: only the number itself is exchanged. Memory behind it was published by
            // whoever raised the limit.
            match self.next.compare_exchange_weak(next, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(start),
                Err(now) => next = now,
            }
        }
    }

    /// The offset after the last claimed byte.
    #[inline]
    pub fn position(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Back to offset 0: every range may be claimed again.
    pub fn reset(&mut self) {
        // The exclusive borrow synchronises with every claimer.
        self.next.store(0, Ordering::Relaxed);
    }
}

impl Default for BumpCursor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{BumpCursor, NotClaimed};

    #[test]
    fn claims_are_aligned_and_end_at_the_limit() {
        let mut cursor = BumpCursor::new();
        assert_eq!(cursor.claim(3, 1, 100), Ok(0));
        assert_eq!(cursor.claim(8, 8, 100), Ok(8));
        assert_eq!(cursor.claim(85, 1, 100), Err(NotClaimed::AboveLimit(101)));
        assert_eq!(cursor.claim(84, 1, 100), Ok(16));
        assert_eq!(cursor.claim(usize::MAX, 1, usize::MAX), Err(NotClaimed::Overflow));
        cursor.reset();
        assert_eq!(cursor.claim(100, 64, 100), Ok(0));
    }
}

#[cfg(all(test, loom))]
mod model {
    extern crate std;

    use loom::sync::Arc;
    use std::vec::Vec;

    use super::BumpCursor;

    /// Two threads claim twice each below a limit that three claims reach: ranges are disjoint,
    /// and three succeed. Under a minute.
    #[test]
    fn ranges_do_not_overlap() {
        loom::model(|| {
            let cursor = Arc::new(BumpCursor::new());
            let claims = |cursor: &BumpCursor| -> Vec<usize> {
                (0..2).filter_map(|_| cursor.claim(8, 8, 24).ok()).collect()
            };
            let other = {
                let cursor = Arc::clone(&cursor);
                loom::thread::spawn(move || claims(&cursor))
            };
            let mut starts = claims(&cursor);
            starts.extend(other.join().unwrap());
            starts.sort_unstable();
            assert_eq!(starts, [0, 8, 16]);
        });
    }
}

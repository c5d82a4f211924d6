//! What one thread uses all the time, and another may want once in a while.
//!
//! The owner goes in and out by plain stores. Somebody else announces that he wants it, has every
//! thread pass a memory barrier (membarrier(2)), and then looks whether the owner is inside: if
//! not, the owner finds the announcement at its next entry and stays out. Nobody waits: the owner
//! does without, the other one comes again.
//! Source: Dice, Huang, Yang, "Asymmetric Dekker Synchronization", 2001.
//!
//! # Invariants
//! - I1: between a true [`Seizure::enter`] and [`Seizure::leave`], no [`Seizure::is_seized`]
//!   returns true; between a true `is_seized` and [`Seizure::give_back`], no `enter` does.

use crate::atomic::{AtomicU32, Ordering};

/// Who uses what one thread owns: the owner, or one other thread. Others have to agree on who it
/// is by a lock of theirs.
#[derive(Debug)]
pub struct Seizure {
    is_inside: AtomicU32,
    is_wanted: AtomicU32,
}

impl Seizure {
    /// The owner's, who is not inside.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { is_inside: AtomicU32::new(0), is_wanted: AtomicU32::new(0) }
    }

    /// The owner's, who is not inside.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { is_inside: AtomicU32::new(0), is_wanted: AtomicU32::new(0) }
    }

    /// For the owner: goes in; false when somebody else wants to, and has to be let. Also false
    /// inside: in a signal handler that interrupted the owner there.
    #[inline]
    pub fn enter(&self) -> bool {
        if self.is_inside.load(Ordering::Relaxed) != 0 {
            return false;
        }
        self.is_inside.store(1, Ordering::Relaxed);
        owners_fence();
        // Acquire: pairs with the Release in `give_back`; what the other one did is seen.
        if self.is_wanted.load(Ordering::Acquire) == 0 {
            return true;
        }
        self.leave();
        false
    }

    /// For the owner: goes out.
    #[inline]
    pub fn leave(&self) {
        // Release: pairs with the Acquire in `is_seized`; what the owner did is seen.
        self.is_inside.store(0, Ordering::Release);
    }

    /// For another thread: wants it. Next comes a barrier on all threads, which the caller sees
    /// to, then [`Seizure::is_seized`], then in any case [`Seizure::give_back`].
    pub fn announce(&self) {
        self.is_wanted.store(1, Ordering::Relaxed);
    }

    /// Whether the caller has it, who announced himself before a barrier on all threads.
    pub fn is_seized(&self) -> bool {
        // Acquire: pairs with the Release in `leave`.
        self.is_inside.load(Ordering::Acquire) == 0
    }

    /// Ends what [`Seizure::announce`] began.
    pub fn give_back(&self) {
        // Release: pairs with the Acquire in `enter`.
        self.is_wanted.store(0, Ordering::Release);
    }
}

impl Default for Seizure {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps the compiler from exchanging the owner's store and load; the processor is kept from it by
/// the other one's barrier, where it matters.
#[cfg(not(loom))]
#[inline(always)]
fn owners_fence() {
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// The model has no barrier that one thread passes for another, so both have their own: the same
/// guarantee at the only moment when it is needed.
#[cfg(loom)]
fn owners_fence() {
    crate::atomic::fence(Ordering::SeqCst);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Seizure;

    #[test]
    fn the_owner_stays_out_while_it_is_wanted() {
        let seizure = Seizure::new();
        assert!(seizure.enter());
        assert!(!seizure.enter(), "a signal handler");
        seizure.announce();
        assert!(!seizure.is_seized(), "the owner is inside");
        seizure.leave();
        assert!(seizure.is_seized() && !seizure.enter());
        seizure.give_back();
        assert!(seizure.enter());
    }
}

#[cfg(all(test, loom))]
mod model {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    use super::Seizure;
    use crate::atomic::{Ordering, fence};

    /// An owner goes in twice, another thread seizes: never both inside (the cell reports it),
    /// and each sees what the other did.
    #[test]
    fn two_are_never_inside() {
        loom::model(|| {
            let shared = Arc::new((Seizure::new(), UnsafeCell::new(0)));
            let other = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    let (seizure, count) = &*shared;
                    seizure.announce();
                    fence(Ordering::SeqCst);
                    let is_seized = seizure.is_seized();
                    if is_seized {
                        // SAFETY: seized.
                        count.with_mut(|count| unsafe { *count += 1 });
                    }
                    seizure.give_back();
                    u32::from(is_seized)
                })
            };
            let (seizure, count) = &*shared;
            let mut seen = 0;
            for _ in 0..2 {
                if seizure.enter() {
                    // SAFETY: inside.
                    count.with_mut(|count| unsafe { *count += 1 });
                    seizure.leave();
                    seen += 1;
                }
            }
            seen += other.join().unwrap();
            // SAFETY: the other thread has ended.
            count.with(|count| assert_eq!(unsafe { *count }, seen));
        });
    }
}

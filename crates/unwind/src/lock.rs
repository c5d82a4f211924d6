//! The lock of the slow path: it knows its owner, waits a bounded time, and never for itself.
//!
//! # Invariants
//! - I5 (design/unwinding#I5): at most one thread is inside; a signal handler that interrupts
//!   the owner is refused at once; nobody waits longer than [`TRIES_MAX`] tries. The owner waits
//!   for nothing inside, so that limit is reached only when the owner gets no CPU.

use core::cell::UnsafeCell;
use core::time::Duration;

use heapwright_os::{futex_wait, thread_pointer, yield_now};
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Tries before giving up; with the pauses between them some 300 ms.
const TRIES_MAX: usize = 2000;
/// The first tries spin, as the owner needs 1 to 2 us; more give the CPU away, the rest sleep.
const SPIN_TRIES: usize = 200;
const YIELD_TRIES: usize = 500;
const SLEEP: Duration = Duration::from_micros(150);

/// A value behind the lock.
pub(crate) struct Owned<T> {
    /// Thread pointer of the owner, 0 when free.
    owner: AtomicUsize,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only by the one owner (I5), so it goes from thread to thread and
// is never shared.
unsafe impl<T: Send> Sync for Owned<T> {}

impl<T> Owned<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { owner: AtomicUsize::new(0), value: UnsafeCell::new(value) }
    }

    /// Runs `inside` as the owner; none when the lock was not to be had.
    pub(crate) fn with<R>(&self, inside: impl FnOnce(&mut T) -> R) -> Option<R> {
        let me = thread_pointer();
        for attempt in 0..TRIES_MAX {
            // Acquire: pairs with the Release below and sees what the last owner wrote.
            match self.owner.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    // SAFETY: the exchange made us the only owner (I5) until the store below.
                    let value = unsafe { &mut *self.value.get() };
                    let result = inside(value);
                    // Release: pairs with the Acquire above.
                    self.owner.store(0, Ordering::Release);
                    return Some(result);
                }
                Err(owner) if owner == me => return None,
                Err(_) if attempt < SPIN_TRIES => core::hint::spin_loop(),
                Err(_) if attempt < YIELD_TRIES => yield_now(),
                Err(_) => sleep(),
            }
        }
        None
    }

    /// Frees the lock whoever holds it.
    ///
    /// # Safety
    /// - The owner does not exist any more (a child after fork), and the value is fit for use
    ///   at whatever point the owner stopped.
    pub(crate) unsafe fn break_open(&self) {
        self.owner.store(0, Ordering::Release);
    }
}

fn sleep() {
    static NOBODY_WAKES: AtomicU32 = AtomicU32::new(0);
    // Ends by its time or a signal; either way there is another try.
    let _ = futex_wait(&NOBODY_WAKES, 0, Some(SLEEP));
}

#[cfg(test)]
mod tests {
    use super::Owned;

    #[test]
    fn the_owner_is_refused_a_second_time_and_others_wait() {
        static COUNT: Owned<usize> = Owned::new(0);
        let refused = COUNT.with(|count| {
            *count += 1;
            COUNT.with(|count| *count += 100).is_none()
        });
        assert_eq!(refused, Some(true));
        let threads: std::vec::Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    (0..1000).filter(|_| COUNT.with(|count| *count += 1).is_some()).count()
                })
            })
            .collect();
        let entered: usize = threads.into_iter().map(|thread| thread.join().expect("runs")).sum();
        assert_eq!(COUNT.with(|count| *count), Some(entered + 1));
    }
}

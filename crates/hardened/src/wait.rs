//! Locks of the hardened heap: held by no thread twice, but by the one that forks.

use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::time::Duration;

use heapwright_os::{futex_wait, futex_wake, thread_pointer};
use heapwright_sync::atomic::AtomicU32;
use heapwright_sync::{Guard, Wait};

use crate::fork;
use crate::report;

/// A lock of the hardened heap.
pub(crate) type Lock<T> = heapwright_sync::Lock<T, Patient>;

/// Sleep of those who may have to free what a fork holds.
const LOOK_FOR_FORK: Duration = Duration::from_millis(100);

/// How a thread sleeps on a lock.
#[derive(Debug)]
pub(crate) struct Patient;

impl Wait for Patient {
    fn wait(word: &AtomicU32, value: u32) {
        // Any reason to return is a reason to look again.
        let _ = futex_wait(word, value, Some(LOOK_FOR_FORK));
    }

    fn wake_one(word: &AtomicU32) {
        futex_wake(word, 1);
    }

    fn before_wait() {
        fork::look_for_stuck_fork();
    }
}

/// The right to what a lock guards, until dropped.
#[derive(Debug)]
pub(crate) struct Held<'a, T> {
    guard: ManuallyDrop<Guard<'a, T, Patient>>,
    /// The lock, if this thread holds it for a fork and has only lent it to itself.
    lender: Option<&'a Lock<T>>,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.guard) };
        if let Some(lock) = self.lender {
            fork::take_for_fork(lock);
        }
    }
}

/// Takes `lock`; ends the process when this thread holds it already, but for a fork.
#[inline]
pub(crate) fn hold<T>(lock: &Lock<T>) -> Held<'_, T> {
    match lock.lock(thread_pointer()) {
        Ok(guard) => Held { guard: ManuallyDrop::new(guard), lender: None },
        Err(_) => hold_own(lock),
    }
}

/// [`hold`] of a lock that this thread holds.
#[cold]
#[inline(never)]
fn hold_own<T>(lock: &Lock<T>) -> Held<'_, T> {
    if fork::give_up_for_now(lock)
        && let Ok(guard) = lock.lock(fork::borrower())
    {
        return Held { guard: ManuallyDrop::new(guard), lender: Some(lock) };
    }
    report::in_signal_handler()
}

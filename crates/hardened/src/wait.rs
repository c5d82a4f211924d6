//! How a lock sleeps here: on a futex.

use heapwright_os::{futex_wait, futex_wake, thread_pointer};
use heapwright_sync::atomic::AtomicU32;
use heapwright_sync::{Guard, Wait};

use crate::report;

/// Sleeping on a futex.
#[derive(Debug)]
pub(crate) struct FutexWait;

impl Wait for FutexWait {
    fn wait(word: &AtomicU32, value: u32) {
        // Woken, changed or interrupted: the caller looks again in each case.
        let _ = futex_wait(word, value, None);
    }

    fn wake_one(word: &AtomicU32) {
        futex_wake(word, 1);
    }
}

/// A lock of the hardened heap.
pub(crate) type Lock<T> = heapwright_sync::Lock<T, FutexWait>;

/// Takes `lock`; ends the process when this thread holds it already.
#[inline]
pub(crate) fn hold<T>(lock: &Lock<T>) -> Guard<'_, T, FutexWait> {
    match lock.lock(thread_pointer()) {
        Ok(guard) => guard,
        Err(_) => report::in_signal_handler(),
    }
}

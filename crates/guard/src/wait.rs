//! How a lock sleeps here: on a futex.

use heapwright_os::{futex_wait, futex_wake};
use heapwright_sync::Wait;
use heapwright_sync::atomic::AtomicU32;

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

/// A lock of the guarded heap.
pub(crate) type Lock<T> = heapwright_sync::Lock<T, FutexWait>;

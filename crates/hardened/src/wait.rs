//! Locks of the hardened heap: held by no thread twice.

use heapwright_os::{Futex, thread_pointer};
use heapwright_sync::Guard;

use crate::report;

/// A lock of the hardened heap.
pub(crate) type Lock<T> = heapwright_sync::Lock<T, Futex>;

/// Takes `lock`; ends the process when this thread holds it already.
#[inline]
pub(crate) fn hold<T>(lock: &Lock<T>) -> Guard<'_, T, Futex> {
    match lock.lock(thread_pointer()) {
        Ok(guard) => guard,
        Err(_) => report::in_signal_handler(),
    }
}

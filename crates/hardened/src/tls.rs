//! The calling thread's cache.

use core::ptr;

use crate::cache::Cache;

heapwright_os::thread_variable!("heapwright_hardened_thread_0_1", Cache);

/// What the pointer says of a thread that has no cache any more.
pub(crate) const ENDED: *mut Cache = ptr::without_provenance_mut(1);

/// The calling thread's cache; none when it has none, or none any more.
#[inline(always)]
pub(crate) fn cache<'a>() -> Option<&'a Cache> {
    let place = get();
    if place.addr() <= ENDED.addr() {
        return None;
    }
    // SAFETY: caches live for ever, and only their thread has them here.
    Some(unsafe { &*place })
}

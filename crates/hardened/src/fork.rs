//! Forks: all locks are carried over, in the order caches, pools, large.
//!
//! The child has one thread. The slots of the others are taken back to the spans: what one of
//! them was doing is cut off at some instruction, which loses at most the slot in hand.

use crate::geometry::CLASS_COUNT;
use heapwright_os::{StdioList, thread_pointer};
use heapwright_sync::atomic::Ordering;

use crate::large::large;
use crate::pool::pool;
use crate::thread::caches;
use crate::wait::hold;

pub(crate) unsafe extern "C" fn before() {
    // libc takes it after this, and who has it may be allocating.
    StdioList::Lock.apply();
    // Kept over the fork; freed after it, by the same thread, in both processes.
    core::mem::forget(hold(caches()));
    for class_index in 0..CLASS_COUNT {
        core::mem::forget(hold(pool(class_index)));
    }
    core::mem::forget(hold(large()));
}

pub(crate) unsafe extern "C" fn after_in_parent() {
    // SAFETY: locked by `before`, in this thread.
    unsafe { large().force_unlock() };
    for class_index in 0..CLASS_COUNT {
        // SAFETY: as above.
        unsafe { pool(class_index).force_unlock() };
    }
    // SAFETY: as above.
    unsafe { caches().force_unlock() };
    StdioList::Unlock.apply();
}

pub(crate) unsafe extern "C" fn after_in_child() {
    // SAFETY: locked by `before`, in the thread that this one continues.
    unsafe { after_in_parent() };
    StdioList::Reset.apply();
    hold(large()).waiting.forget_loans();
    let own = thread_pointer();
    let mut caches = hold(caches());
    let mut next = caches.all;
    // SAFETY: caches live for ever; the list ends with null.
    while let Some(cache) = unsafe { next.as_ref() } {
        next = cache.next.load(Ordering::Relaxed);
        let owner = cache.owner.load(Ordering::Relaxed);
        if owner == 0 || owner == own {
            continue;
        }
        for class_index in 0..CLASS_COUNT {
            let mut pool = hold(pool(class_index));
            while let Some(slot) = cache.pop_any(class_index) {
                // What is live was handed out when its thread was cut off; what has a bit was
                // on its way back: both stay as they are.
                pool.give(class_index, slot);
            }
        }
        caches.keep(cache);
    }
}

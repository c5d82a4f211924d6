//! Circular lists of spans, linked by slice index through their descriptors.

use heapwright_sync::atomic::Ordering;

use crate::descriptor::{NO_SLICE, SliceIndex};
use crate::region::descriptor;

/// Adds `index` at the end of the list whose first element is `head`; returns the new head.
///
/// # Safety
/// - `index` and `head` are heads of runs that the caller owns (or holds the lock for); `index`
///   is in no list.
pub(crate) unsafe fn append(head: SliceIndex, index: SliceIndex) -> SliceIndex {
    // SAFETY: runs exist below the committed end.
    let added = unsafe { descriptor(index) };
    if head == NO_SLICE {
        added.next.store(index, Ordering::Relaxed);
        added.prev.store(index, Ordering::Relaxed);
        return index;
    }
    // SAFETY: as above.
    let first = unsafe { descriptor(head) };
    let last_index = first.prev.load(Ordering::Relaxed);
    // SAFETY: as above; links lead to members only.
    let last = unsafe { descriptor(last_index) };
    last.next.store(index, Ordering::Relaxed);
    added.prev.store(last_index, Ordering::Relaxed);
    added.next.store(head, Ordering::Relaxed);
    first.prev.store(index, Ordering::Relaxed);
    head
}

/// Adds `index` in front; returns the new head, which is `index`.
///
/// # Safety
/// - As for [`append`].
pub(crate) unsafe fn prepend(head: SliceIndex, index: SliceIndex) -> SliceIndex {
    // SAFETY: the caller's promise. In a circle the front is the end, seen from another head.
    unsafe { append(head, index) };
    index
}

/// Takes `index` out of the list of `head`; returns the new head.
///
/// # Safety
/// - `index` is in that list, which the caller owns or holds the lock for.
pub(crate) unsafe fn remove(head: SliceIndex, index: SliceIndex) -> SliceIndex {
    // SAFETY: runs exist below the committed end.
    let removed = unsafe { descriptor(index) };
    let next_index = removed.next.load(Ordering::Relaxed);
    if next_index == index {
        debug_assert_eq!(head, index);
        return NO_SLICE;
    }
    let prev_index = removed.prev.load(Ordering::Relaxed);
    // SAFETY: as above; links lead to members only.
    let next = unsafe { descriptor(next_index) };
    // SAFETY: as above.
    let prev = unsafe { descriptor(prev_index) };
    next.prev.store(prev_index, Ordering::Relaxed);
    prev.next.store(next_index, Ordering::Relaxed);
    if head == index { next_index } else { head }
}

/// The element after `index`; none when that is `head` again.
///
/// # Safety
/// - `index` is in the list of `head`, which the caller owns or holds the lock for.
pub(crate) unsafe fn after(head: SliceIndex, index: SliceIndex) -> Option<SliceIndex> {
    // SAFETY: runs exist below the committed end.
    let next = unsafe { descriptor(index) }.next.load(Ordering::Relaxed);
    (next != head).then_some(next)
}

//! Circular lists of spans, linked by slice index through their descriptors.
//!
//! Each function's caller owns the list and the spans in it, or holds the lock that does.

use heapwright_sync::atomic::Ordering;

use crate::descriptor::{NO_SLICE, SliceIndex};
use crate::region::descriptor;

/// Adds `index`, which is in no list, at the end of the list whose first element is `head`;
/// returns the new head.
pub(crate) fn append(head: SliceIndex, index: SliceIndex) -> SliceIndex {
    let added = descriptor(index);
    if head == NO_SLICE {
        added.next.store(index, Ordering::Relaxed);
        added.prev.store(index, Ordering::Relaxed);
        return index;
    }
    let first = descriptor(head);
    let last_index = first.prev.load(Ordering::Relaxed);
    descriptor(last_index).next.store(index, Ordering::Relaxed);
    added.prev.store(last_index, Ordering::Relaxed);
    added.next.store(head, Ordering::Relaxed);
    first.prev.store(index, Ordering::Relaxed);
    head
}

/// Adds `index`, which is in no list, in front; returns the new head, which is `index`.
pub(crate) fn prepend(head: SliceIndex, index: SliceIndex) -> SliceIndex {
    // In a circle the front is the end, seen from another head.
    append(head, index);
    index
}

/// Takes `index` out of the list of `head`, in which it is; returns the new head.
pub(crate) fn remove(head: SliceIndex, index: SliceIndex) -> SliceIndex {
    let removed = descriptor(index);
    let next_index = removed.next.load(Ordering::Relaxed);
    if next_index == index {
        debug_assert_eq!(head, index);
        return NO_SLICE;
    }
    let prev_index = removed.prev.load(Ordering::Relaxed);
    descriptor(next_index).prev.store(prev_index, Ordering::Relaxed);
    descriptor(prev_index).next.store(next_index, Ordering::Relaxed);
    if head == index { next_index } else { head }
}

/// The element after `index` in the list of `head`; none when that is `head` again.
pub(crate) fn after(head: SliceIndex, index: SliceIndex) -> Option<SliceIndex> {
    let next = descriptor(index).next.load(Ordering::Relaxed);
    (next != head).then_some(next)
}

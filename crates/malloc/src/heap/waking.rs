//! Blocks come home: frees that fill a full span, empty one that waits, or come from other threads.

use heapwright_sync::atomic::Ordering;

use super::Entered;
use crate::block::{self, Block};
use crate::descriptor::Place;
use crate::free::{free_redirected, head_of, push_batch, push_local};
use crate::pool::lock;
use crate::purge;
use crate::region::slice_of;
use crate::span::Span;
use crate::span_list;

impl Entered {
    /// What a free has to do after which a span's `until_wake` is 0.
    pub(crate) fn wake(&mut self, span: Span) {
        let head = span.head();
        if head.owner.load(Ordering::Relaxed) != self.owner
            || head.until_wake.load(Ordering::Relaxed) != 0
        {
            // It was settled when this slow path was entered.
            return;
        }
        let lists = &mut self.inside.lists[span.class_index()];
        let list = match span.place() {
            Place::Full => &mut lists.full,
            Place::Available => &mut lists.available,
            _ => {
                // Only after `NEVER` frees of one span without a refill.
                span.wake_never();
                return;
            }
        };
        *list = span_list::remove(*list, span.index());
        if span.used() == 0 {
            lock().give_span(span);
        } else {
            self.make_available(span);
        }
    }

    /// Puts a span that this heap has just got into the list it belongs to.
    pub(crate) fn shelve(&mut self, span: Span) {
        if span.has_free_slots() {
            self.make_available(span);
        } else {
            self.park_full(span);
        }
    }

    /// Puts a span, in no list and not empty, where its class's refills find it: the fuller ones
    /// first. The next free that looks at it is the one that empties it.
    fn make_available(&mut self, span: Span) {
        span.set_place(Place::Available);
        span.wake_at(0);
        let available = &mut self.lists[span.class_index()].available;
        if span.used() > span.slot_count() / 2 {
            *available = span_list::prepend(*available, span.index());
        } else {
            *available = span_list::append(*available, span.index());
        }
        // It may become sparse, and nobody will tell.
        purge::note_work();
    }

    /// Puts a span without free slots, which is in no list, where its next free finds it. The first
    /// time it is nobody's: its maker takes it over again with a free, another thread when it has
    /// become clear who uses it up ([`may_be_taken_over`](crate::class_pool::may_be_taken_over)). From the second time on it is in its
    /// owner's full list: then its blocks are replaced.
    pub(super) fn shelve_full(&mut self, span: Span) {
        debug_assert_eq!(span.used(), span.slot_count());
        if span.geometry().is_handed_on() && !span.was_full() {
            span.note_full();
            self.hand_on(span);
        } else {
            self.park_full(span);
        }
    }

    /// Puts a span without free slots, which is in no list, into the full list.
    fn park_full(&mut self, span: Span) {
        let count = span.slot_count();
        debug_assert_eq!(span.used(), count);
        span.set_place(Place::Full);
        span.wake_at(count - span.geometry().wake_free_count());
        let full = &mut self.lists[span.class_index()].full;
        *full = span_list::append(*full, span.index());
    }

    /// Takes in what other threads freed.
    #[inline]
    pub(crate) fn collect_remote(&mut self) {
        if !self.heap.remote.is_empty_hint() {
            let list = self.heap.remote.take();
            self.take_in_batches(list);
        }
    }

    /// Takes in `list`, the whole of the queue.
    #[cold]
    #[inline(never)]
    fn take_in_batches(&mut self, mut list: Block) {
        while !list.is_null() {
            let first = list;
            // SAFETY: the list is this thread's alone since it left the queue.
            let (last, count) = unsafe { block::batch(first) };
            debug_assert!(is_batch(first, last, count), "a batch is linked and of one span");
            // SAFETY: as above.
            list = unsafe { block::next(last) };
            let Some(head) = head_of(first.cast()) else { continue };
            if head.owner.load(Ordering::Relaxed) == self.owner {
                // SAFETY: slots of a span that we own, given up; this is a slow path.
                if unsafe { push_batch(head, first, last, count) } {
                    self.wake(Span::of(head));
                }
                continue;
            }
            // Gone to somebody else meanwhile.
            // SAFETY: the last block of the batch is this thread's alone, as the others.
            unsafe { block::set_next(last, core::ptr::null_mut()) };
            self.take_in(first);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn take_in(&mut self, mut list: Block) {
        while !list.is_null() {
            let block = list;
            // SAFETY: the list is this thread's alone since it left the queue.
            list = unsafe { block::next(block) };
            self.take_back(block);
        }
    }

    /// Frees `block`, given up by whoever had it, of our own span or of one that has gone to
    /// somebody else.
    pub(crate) fn take_back(&mut self, block: Block) {
        let Some(head) = head_of(block.cast()) else { return };
        if head.owner.load(Ordering::Relaxed) != self.owner {
            free_redirected(head, block, Some(self));
            return;
        }
        // SAFETY: a slot of a span that we own, given up.
        if unsafe { push_local(head, block) } {
            self.wake(Span::of(head));
        }
    }
}

/// Whether `count` linked blocks, the calling thread's, lead from `first` to `last`, all in one
/// span.
fn is_batch(first: Block, last: Block, count: u32) -> bool {
    let mut block = first;
    for _ in 1..count {
        if slice_of(block.cast()) != slice_of(last.cast()) {
            return false;
        }
        // SAFETY: as many are linked, says whoever pushed them.
        block = unsafe { block::next(block) };
    }
    block == last
}

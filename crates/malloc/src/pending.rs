//! Spans that a purger made passive behind their owner's back, once the owner comes by: in its next
//! slow path it is in the middle of no free, so they are any others from then on.
//!
//! How they became so: `purge` and design/malloc.md#pending.

use heapwright_sync::atomic::Ordering;

use crate::block;
use crate::class_pool::{ClassPool, lock_class};
use crate::descriptor::{NO_SLICE, Place};
use crate::heap::Entered;
use crate::merge;
use crate::pool::lock;
use crate::purge;
use crate::region::slice_of;
use crate::sampled_lists;
use crate::span::Span;
use crate::span_list;
use crate::thread_block::ThreadBlock;

impl Entered {
    /// Settles the spans that were made passive behind our back.
    #[cold]
    #[inline(never)]
    pub(crate) fn settle_pending(&mut self) {
        while self.pending != NO_SLICE {
            let index = self.pending;
            self.pending = span_list::remove(index, index);
            let span = Span::at(index);
            let mut pool = lock_class(span.class_index());
            span.settle_links();
            if span.place().is_merged() {
                self.return_list_to(span);
            }
            settle(&mut pool, span);
        }
    }

    /// Gives back the slots of `span`, some of whose windows are merged, that the thread has in its
    /// list. Each page of them would cost a copy when it is written for the first time, and an
    /// interruption of the processors that have it mapped, where a new slot costs a share of a
    /// call of the kernel. The class's lock is held.
    fn return_list_to(&self, span: Span) {
        let list = ThreadBlock::current().list(span.class_index());
        let mut block = list.get();
        if block.is_null() || slice_of(block.cast()) != Some(span.index()) {
            return;
        }
        while !block.is_null() && slice_of(block.cast()) == Some(span.index()) {
            span.set_bit(block);
            // SAFETY: the thread's own list; the thread is here, in a slow path.
            block = unsafe { block::next(block) };
        }
        list.set(block);
        // As in `return_lists`: what was handed out was not used.
        sampled_lists::forget_countdowns(self.heap);
        span.head().is_dirty.store(1, Ordering::Relaxed);
        purge::note_work();
    }
}

/// Lists a span that has just become passive, or gives it back when it is empty.
pub(crate) fn settle(pool: &mut ClassPool, span: Span) {
    span.head().heap.store(core::ptr::null_mut(), Ordering::Relaxed);
    let is_merged = span.place().is_merged();
    if span.passive_used() == 0 && (!is_merged || merge::thaw(span)) {
        span.set_place(Place::Packed);
        lock().give_span(span);
        return;
    }
    if is_merged {
        span.set_place(Place::Merged);
        return;
    }
    pool.insert(span);
    if span.head().bit_count.load(Ordering::Relaxed) > 0 {
        span.head().is_dirty.store(1, Ordering::Relaxed);
        purge::note_work();
    }
}

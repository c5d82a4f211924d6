//! Spans and pages leave the heap: empty ones, those that nobody waits for, all at a thread's end.

use heapwright_core::size_class::{CLASS_COUNT, class_of};
use heapwright_sync::atomic::Ordering;

use super::Entered;
use crate::block::{self, Block};
use crate::class_pool::lock_class;
use crate::descriptor::{NO_SLICE, PASSIVE};
use crate::free::free_all_redirected;
use crate::nodes::Part;
use crate::pending::settle;
use crate::pool::lock;
use crate::quick::NEVER_ENOUGH;
use crate::region::slice_of;
use crate::sampled_lists;
use crate::span::Span;
use crate::span_list;
use crate::thread_block::ThreadBlock;

/// Blocks of threads' lists looked at, at most, to find empty spans.
const RECLAIM_LOOK_COUNT: i32 = 4096;
/// The same after an attempt in vain: next to nothing beside the page faults of a new span.
const RECLAIM_LOOK_COUNT_RESTING: i32 = 256;
/// Larger slots may be touched in part only, and other classes' on the same pages elsewhere.
pub(super) const RECLAIM_SLOT_BYTES_MAX: usize = 4096;
/// So many attempts at most look at short lists only after one in vain.
const RECLAIM_REST_MAX: u8 = 15;

impl Entered {
    /// Gives back the current spans that hold no live block, of small slots and with most pages
    /// touched; no free looks at those. Slots of theirs that `thread` has leave its list.
    ///
    /// When there is none, the next attempts look at short lists only, ever more of them: then the
    /// program grows.
    pub(super) fn reclaim_empty(&mut self, thread: &ThreadBlock) {
        let is_rest = self.reclaim_rest > 0;
        let mut budget = if is_rest { RECLAIM_LOOK_COUNT_RESTING } else { RECLAIM_LOOK_COUNT };
        let mut is_in_vain = true;
        for class_index in 0..=class_of(RECLAIM_SLOT_BYTES_MAX) {
            let index = self.heap.current(class_index);
            if index == NO_SLICE {
                continue;
            }
            let span = Span::at(index);
            let list = thread.list(class_index);
            if span.is_mostly_touched() && is_all_listed(span, list.get(), &mut budget) {
                list.set(core::ptr::null_mut());
                self.heap.set_current(class_index, NO_SLICE);
                lock().give_span(span);
                is_in_vain = false;
            }
        }
        if is_in_vain && is_rest {
            self.reclaim_rest -= 1;
            return;
        }
        let rest = if is_in_vain { self.reclaim_rest_last * 2 + 1 } else { 0 };
        self.reclaim_rest_last = rest.min(RECLAIM_REST_MAX);
        self.reclaim_rest = self.reclaim_rest_last;
    }

    /// Gives pages back to the kernel that current spans have inherited and not used yet, about
    /// `wished` of them: as many will be touched elsewhere now. What was inherited is what keeps a
    /// few blocks of many classes from costing a slice each.
    #[cold]
    pub(crate) fn give_tails(&mut self, wished: u32) {
        if self.inherited_pages == 0 {
            return;
        }
        let mut given = 0;
        for class_index in 0..CLASS_COUNT {
            let index = self.heap.current(class_index);
            if index != NO_SLICE {
                given += Span::at(index).give_tail();
            }
            if given >= wished {
                self.inherited_pages = self.inherited_pages.saturating_sub(given);
                return;
            }
        }
        self.inherited_pages = 0;
    }

    /// Gives the spans with room that lie on other NUMA nodes than the thread now runs on to
    /// whoever runs there; those that are full stay until a free looks at them.
    #[cold]
    pub(super) fn follow_to(&mut self, part: Part) {
        self.part = part;
        for class_index in 0..CLASS_COUNT {
            let current = self.heap.current(class_index);
            if current != NO_SLICE && Span::at(current).part() != part {
                self.heap.set_current(class_index, NO_SLICE);
                self.give_up(Span::at(current));
            }
            let head = self.lists[class_index].available;
            let mut next = (head != NO_SLICE).then_some(head);
            while let Some(index) = next {
                let head = self.lists[class_index].available;
                next = span_list::after(head, index);
                if Span::at(index).part() != part {
                    self.lists[class_index].available = span_list::remove(head, index);
                    self.give_up(Span::at(index));
                }
            }
        }
    }

    /// Makes the heap ready for the end of its thread: lists, spans, queue and outbox are empty
    /// afterwards, and the queue is closed.
    pub(crate) fn abandon_all(&mut self, thread: &ThreadBlock) {
        self.return_lists(thread);
        self.heap.outbox.flush();
        // For the next thread.
        self.refill_counts = [0; CLASS_COUNT];
        self.hot_bytes = 0;
        self.heap.enough.iter().for_each(|enough| enough.store(NEVER_ENOUGH, Ordering::Relaxed));
        for class_index in 0..CLASS_COUNT {
            while let Some(index) = self.heap.take_span(&mut self.inside, class_index) {
                let span = Span::at(index);
                if span.used() == 0 {
                    // Nobody has a block of it, so nobody will ask for its bits.
                    lock().give_span(span);
                } else {
                    self.give_up(span);
                }
            }
        }
        // Closed only now: whoever finds it closed finds the owners changed, too.
        free_all_redirected(self.heap.remote.close());
    }

    /// Frees what the thread's lists hold.
    pub(crate) fn return_lists(&mut self, thread: &ThreadBlock) {
        for class_index in 0..CLASS_COUNT {
            let list = thread.list(class_index).replace(core::ptr::null_mut());
            self.take_in(list);
            if let Some((rest, _)) = sampled_lists::take_rest(self.heap, class_index) {
                self.take_in(rest);
            }
        }
        sampled_lists::forget_countdowns(self.heap);
    }

    /// Makes a span of ours without free slots, in no list, passive; its maker stays noted in `heap`.
    pub(super) fn hand_on(&mut self, span: Span) {
        debug_assert!(!span.has_free_slots());
        let mut pool = lock_class(span.class_index());
        span.head().owner.store(PASSIVE, Ordering::Relaxed);
        pool.insert(span);
    }

    /// Makes a span of ours, in no list, passive, or gives it back when it is empty. Nobody is in
    /// the middle of a free into it, since its owner is here.
    pub(crate) fn give_up(&mut self, span: Span) {
        let mut pool = lock_class(span.class_index());
        // Set before the bits: a free that finds the span passive waits for the lock.
        span.head().owner.store(PASSIVE, Ordering::Relaxed);
        span.links_to_bits();
        settle(&mut pool, span);
    }
}

/// Whether the used slots of `span`, the current one of its class, are just those in `list`, the
/// calling thread's of that class. No, when they are more than `budget`, which the slots looked at
/// are taken from.
fn is_all_listed(span: Span, list: Block, budget: &mut i32) -> bool {
    let mut unseen = span.used();
    if unseen > *budget {
        return false;
    }
    let mut block = list;
    while !block.is_null() {
        if unseen == 0 || slice_of(block.cast()) != Some(span.index()) {
            return false;
        }
        unseen -= 1;
        *budget -= 1;
        // SAFETY: the thread's own list.
        block = unsafe { block::next(block) };
    }
    unseen == 0
}

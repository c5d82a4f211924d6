//! Filling a thread's empty list: from the class's current span, and by finding another one.

use heapwright_core::size_class::{CLASS_COUNT, class_of};
use heapwright_sync::atomic::Ordering;

use super::retiring::RECLAIM_SLOT_BYTES_MAX;
use super::{Entered, OUTBOX_ENTRIES};
use crate::block::{self, Block};
use crate::class_pool::{has_listed, listed_count, lock_class};
use crate::descriptor::{NO_SLICE, Place};
use crate::geometry::Geometry;
use crate::life;
use crate::nodes::{self, Part};
use crate::pool::lock;
use crate::region::SLICE_BYTES;
use crate::runs::ever_used_bytes;
use crate::sampled_lists;
use crate::span::{PAGE_UNIT_BYTES, POPULATE_SHARE, Span};
use crate::span_list;
use crate::thread_block::ThreadBlock;

/// Pages that a new span may come to touch.
const SLICE_PAGES: u32 = (SLICE_BYTES / PAGE_UNIT_BYTES) as u32;
/// Spans of a class beside the current one that are counted at most: with as many, whole slices of
/// pages are provided at once.
const HELD_SPANS_MAX: usize = POPULATE_SHARE;
/// Refills from which on a class is hot.
const HOT_REFILLS: u8 = 64;
/// Bytes of slots that the hot classes of a heap may take only to have longer lists: a program with
/// many of them would touch many pages for that.
const HOT_BYTES_MAX: usize = 32 * 1024;
/// And all heaps together one in so many of the bytes ever used.
const HOT_SHARE: usize = 128;

impl Entered {
    /// A block of `class_index`, whose list in `thread` is empty; the rest of what was found
    /// becomes the list. Null when there is no memory.
    pub(crate) fn refill(&mut self, thread: &ThreadBlock, class_index: usize) -> Block {
        self.collect_remote();
        if self.heap.entry_count.load(Ordering::Relaxed).is_multiple_of(OUTBOX_ENTRIES) {
            self.heap.outbox.flush();
        }
        if nodes::are_many() && self.part != nodes::near_part() {
            self.follow_to(nodes::near_part());
        }
        let refill_count = self.refill_counts[class_index];
        self.refill_counts[class_index] = refill_count.saturating_add(1);
        let geometry = Geometry::of(class_index);
        let wished = geometry.hand_out(refill_count);
        let enough = self.enough(class_index, refill_count);
        let (list, count) = loop {
            if let Some(rest) = sampled_lists::take_rest(self.heap, class_index) {
                break rest;
            }
            let index = self.heap.current(class_index);
            if index != NO_SLICE {
                let (span, enough) = self.before_fresh_pages(Span::at(index), enough);
                let used_before = span.used();
                let list = self.take_slots(span, wished, enough);
                if !list.is_null() {
                    let count = (span.used() - used_before) as u32;
                    self.heap.note_handed(count, geometry.slot_bytes);
                    break (list, count);
                }
                self.heap.set_current(class_index, NO_SLICE);
                self.shelve_full(span);
            }
            if !self.find_current(thread, class_index) {
                return core::ptr::null_mut();
            }
        };
        let list = sampled_lists::cut(self.heap, class_index, list, count);
        // A single slot may hold no link (`Span::take_slots`).
        let rest = match count {
            1 => core::ptr::null_mut(),
            // SAFETY: the list is this thread's alone since it left the span.
            _ => unsafe { block::next(list) },
        };
        thread.list(class_index).set(rest);
        list
    }

    /// How many slots a list of the class should have, at its refill number `refill_count`; noted
    /// for quick refills. 0 when the class is not hot.
    fn enough(&mut self, class_index: usize, refill_count: u8) -> u8 {
        if refill_count < HOT_REFILLS {
            return 0;
        }
        // Without a budget, whatever is linked has to do.
        let is_rich = self.hot_bytes < hot_bytes_max();
        let enough = if is_rich { Geometry::of(class_index).hot_count() } else { 1 };
        self.heap.enough[class_index].store(enough, Ordering::Relaxed);
        enough
    }

    /// [`Span::take_slots`]; new slots where there were others are charged to the budget.
    fn take_slots(&mut self, span: Span, wished: usize, enough: u8) -> Block {
        let is_optional = !span.head().local_free.load(Ordering::Relaxed).is_null();
        let extended = span.extended();
        let list = span.take_slots(wished, enough, || self.held_spans(span.class_index()));
        if is_optional {
            let bytes = u32::from(span.extended() - extended) * span.geometry().slot_bytes;
            self.hot_bytes = self.hot_bytes.saturating_add(bytes);
        }
        list
    }

    /// How many spans of the class there are for this thread beside the current one, passive ones
    /// with room included, up to [`HELD_SPANS_MAX`].
    fn held_spans(&self, class_index: usize) -> usize {
        let lists = &self.inside.lists[class_index];
        let mut count = (listed_count(class_index) as usize).min(HELD_SPANS_MAX);
        for head in [lists.full, lists.available] {
            let mut next = (head != NO_SLICE).then_some(head);
            while let Some(index) = next.filter(|_| count < HELD_SPANS_MAX) {
                count += 1;
                next = span_list::after(head, index);
            }
        }
        count
    }

    /// The span to refill from instead of `span`, the current one, and how long the list should be,
    /// where new slots would reach a page that was not touched: slots of the class that are free
    /// elsewhere come first. Else a class comes to touch all of each span of which its maximum
    /// needed a few slots, while its other spans become sparse.
    fn before_fresh_pages(&mut self, span: Span, enough: u8) -> (Span, u8) {
        let class_index = span.class_index();
        let head = self.lists[class_index].available;
        if head == NO_SLICE || !span.is_next_slot_fresh() || !Span::at(head).has_old_slots() {
            return (span, enough);
        }
        if span.has_old_slots() || span.used() == 0 {
            return (span, 0);
        }
        self.lists[class_index].available = span_list::remove(head, head);
        self.shelve(span);
        let other = Span::at(head);
        self.make_current(other);
        (other, enough)
    }

    /// Makes another span current: one with room, a passive one, a new one. Whether there was
    /// one.
    fn find_current(&mut self, thread: &ThreadBlock, class_index: usize) -> bool {
        let head = self.lists[class_index].available;
        if head != NO_SLICE {
            self.lists[class_index].available = span_list::remove(head, head);
            self.make_current(Span::at(head));
            return true;
        }
        if self.find_passive(class_index) {
            return true;
        }
        if life::adopt_an_orphan() && self.find_passive(class_index) {
            return true;
        }
        if Geometry::of(class_index).is_coarse()
            && let Some(span) = self.take_empty_coarse()
        {
            span.clear_bits();
            let span = Span::init(span.index(), class_index);
            span.become_active(self.heap, self.owner);
            self.make_current(span);
            return true;
        }
        let mut pool = lock();
        if class_index <= class_of(RECLAIM_SLOT_BYTES_MAX) && !pool.has_resident_run() {
            // Before more pages are touched.
            drop(pool);
            self.reclaim_empty(thread);
            if self.inherited_pages > 0 && !lock().has_resident_run() {
                self.give_tails(SLICE_PAGES);
            }
            pool = lock();
        }
        let span = pool.new_span(class_index, self.heap, self.owner);
        drop(pool);
        let Some(span) = span else {
            return self.find_passive_anywhere(class_index);
        };
        if self.refill_counts[class_index] == 1 && life::thread_count() == 1 {
            // The class may never need more than a page. Not in a process with threads, where the
            // kernel would interrupt those that run.
            span.give_tail();
        }
        self.inherited_pages += span.touched().count_ones();
        self.make_current(span);
        true
    }

    /// Makes the fullest passive span near the thread current; whether there was one.
    fn find_passive(&mut self, class_index: usize) -> bool {
        if !has_listed(class_index) {
            return false;
        }
        let near = (class_index, nodes::near_part());
        let passive = lock_class(class_index).take_fullest(near, self.heap, self.owner);
        passive.is_some_and(|span| {
            self.make_current(span);
            true
        })
    }

    /// Makes a passive span of another NUMA node current; whether there was one.
    #[cold]
    fn find_passive_anywhere(&mut self, class_index: usize) -> bool {
        (0..nodes::part_count() as Part).any(|part| {
            let far = (class_index, part);
            let passive = lock_class(class_index).take_fullest(far, self.heap, self.owner);
            passive.is_some_and(|span| {
                self.make_current(span);
                true
            })
        })
    }

    /// Takes a current span of coarse slots that holds no block; no free looks at those.
    fn take_empty_coarse(&mut self) -> Option<Span> {
        for class_index in (0..CLASS_COUNT).rev() {
            if !Geometry::of(class_index).is_coarse() {
                return None;
            }
            let index = self.heap.current(class_index);
            if index != NO_SLICE && Span::at(index).used() == 0 {
                self.heap.set_current(class_index, NO_SLICE);
                return Some(Span::at(index));
            }
        }
        None
    }

    fn make_current(&mut self, span: Span) {
        span.set_place(Place::Current);
        span.wake_never();
        self.heap.set_current(span.class_index(), span.index());
    }
}

/// How much the hot classes of a heap may take now. Counted by what was ever used, not by the spans
/// a heap was given: those that come and go would make it grow without end.
fn hot_bytes_max() -> u32 {
    let share = ever_used_bytes() / HOT_SHARE / life::thread_count().max(1) as usize;
    u32::try_from(HOT_BYTES_MAX + share).unwrap_or(u32::MAX)
}

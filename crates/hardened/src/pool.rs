//! A class's spans, shared by all threads under the class's lock: where threads get slots from and
//! where they bring them back.
//!
//! # Invariants
//! - P1: the list has exactly the spans with room, but for those of `clean` and the retired ones.
//! - P2: spans from `frontier` on hold no slots; those from `committed` on cannot yet.

use crate::geometry::CLASS_COUNT;
use heapwright_sync::atomic::{AtomicUsize, Ordering};

use crate::class::span_count;
use crate::depot::Depot;
use crate::space::{commit_spans, populate, purge_span};
use crate::span::{NO_SPAN, Span};
use crate::wait::Lock;

/// Empty spans keep their memory up to this, over all classes, or up to a share of what is in use.
const EMPTY_BYTES_MIN: usize = 32 << 20;
const EMPTY_SHARE: usize = 4;

/// Spans that are committed at once, at most: each call makes the kernel look at its mappings.
const COMMIT_SPANS_MAX: u32 = 8;

/// Bytes of slots whose memory is asked for at once, in a class that has more than one span.
const POPULATED_BYTES: u32 = 32 * 1024;
/// Fresh slots change places among so many of their neighbours: over more of them, what a program
/// makes one after the other lies on other pages, and all that it does with it becomes slower.
const WINDOW: u32 = if cfg!(heapwright_hardened_without = "shuffle") { 1 } else { 8 };

/// Bytes of spans whose touched slots all have a bit, over all classes.
static EMPTY_BYTES: AtomicUsize = AtomicUsize::new(0);
/// Bytes of spans that hold slots now, over all classes.
pub(crate) static SPAN_BYTES_IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Spans of one class.
#[derive(Debug)]
pub(crate) struct Pool {
    /// First span of the list of those with room.
    head: u32,
    /// Committed spans without touched slots, linked by `next`.
    clean: u32,
    /// The first committed span.
    pub(crate) first: u32,
    /// Behind the last span that ever held slots.
    pub(crate) frontier: u32,
    /// Behind the last committed span.
    committed: u32,
    /// Free slots that no thread has; the spans know nothing of them.
    pub(crate) depot: Depot,
}

static POOLS: [Lock<Pool>; CLASS_COUNT] = [const { Lock::new(Pool::new()) }; CLASS_COUNT];

/// The pool of `class_index`, to be locked.
pub(crate) fn pool(class_index: usize) -> &'static Lock<Pool> {
    &POOLS[class_index]
}

/// Bytes of a span that were ever touched.
fn span_memory(span: Span) -> usize {
    span.touched() as usize * span.cut.slot_bytes as usize
}

/// Has the kernel find memory for the next `wished` fresh slots of `span`, and for some more.
fn populate_ahead(span: Span, wished: u32) {
    let touched = span.touched();
    if touched + wished <= span.head.populated.load(Ordering::Relaxed) {
        return;
    }
    let left = span.slot_count - touched;
    let count = (POPULATED_BYTES / span.cut.slot_bytes).max(wished).min(left);
    populate(span.slot_start(touched), (count * span.cut.slot_bytes) as usize);
    span.head.populated.store(touched + count, Ordering::Relaxed);
}

impl Pool {
    const fn new() -> Self {
        Self {
            head: NO_SPAN,
            clean: NO_SPAN,
            first: 0,
            frontier: 0,
            committed: 0,
            depot: Depot::new(),
        }
    }

    /// The class's spans begin at `number`: once, before the first of them.
    pub(crate) fn begin_at(&mut self, number: u32, depot: Depot) {
        debug_assert_eq!(self.first, self.frontier);
        self.first = number;
        self.frontier = number;
        self.committed = number;
        self.depot = depot;
    }

    /// Takes about `wished` slots of `class_index`, which is the pool's, and calls `give` with the
    /// start of each; how many: 0 when there is no memory.
    pub(crate) fn take(
        &mut self,
        class_index: usize,
        wished: u32,
        random: u64,
        mut give: impl FnMut(*mut u8),
    ) -> u32 {
        let mut taken = 0;
        while taken < wished {
            if self.head == NO_SPAN && !self.add_span(class_index) {
                break;
            }
            let span = Span::at(class_index, self.head);
            let was_empty = span.touched() > 0 && span.free_count() == span.touched();
            if was_empty {
                EMPTY_BYTES.fetch_sub(span_memory(span), Ordering::Relaxed);
            }
            taken += span.take(wished - taken, random, &mut give);
            if !span.has_room() {
                self.unlink(class_index, span);
            }
        }
        taken
    }

    /// Takes `wished` slots that were never taken, when the span that comes next has as many and no
    /// others, and calls `give` with each and how many of those before it it must not change
    /// places with; whether it did.
    pub(crate) fn take_fresh(
        &mut self,
        class_index: usize,
        wished: u32,
        mut give: impl FnMut(*mut u8, usize),
    ) -> bool {
        if self.head == NO_SPAN && !self.add_span(class_index) {
            return false;
        }
        let span = Span::at(class_index, self.head);
        let touched = span.touched();
        if span.free_count() > 0 || wished > span.slot_count - touched {
            return false;
        }
        if self.frontier - self.first > 1 {
            populate_ahead(span, wished);
        }
        for number in 0..wished {
            give(span.slot_start(touched + number), (number / WINDOW * WINDOW) as usize);
        }
        span.touch(wished);
        if !span.has_room() {
            self.unlink(class_index, span);
        }
        true
    }

    /// Takes back the free slot of `class_index` that starts at `start`; whether it was out, and
    /// is free.
    #[inline]
    pub(crate) fn give(&mut self, class_index: usize, start: *mut u8) -> bool {
        let (span, slot) = Span::around(class_index, start);
        let free_count = span.free_count();
        if !span.give(slot) {
            return false;
        }
        let touched = span.touched();
        if free_count == 0 && touched == span.slot_count {
            self.link(class_index, span);
        }
        if free_count + 1 == touched {
            self.note_empty(class_index, span);
        }
        true
    }

    #[cold]
    fn note_empty(&mut self, class_index: usize, span: Span) {
        let empty = EMPTY_BYTES.fetch_add(span_memory(span), Ordering::Relaxed);
        let in_use = SPAN_BYTES_IN_USE.load(Ordering::Relaxed);
        if empty > EMPTY_BYTES_MIN.max(in_use / EMPTY_SHARE) {
            self.clean(class_index, span);
        }
    }

    /// Gives the memory of all empty spans back; whether there was one.
    pub(crate) fn trim(&mut self, class_index: usize) -> bool {
        let mut is_any = false;
        let mut next = self.head;
        while next != NO_SPAN {
            let span = Span::at(class_index, next);
            next = span.head.next.load(Ordering::Relaxed);
            if span.touched() > 0 && span.free_count() == span.touched() {
                self.clean(class_index, span);
                is_any |= span.touched() == 0;
            }
        }
        is_any
    }

    /// Gives the memory of an empty span back.
    fn clean(&mut self, class_index: usize, span: Span) {
        let bytes = span_memory(span);
        let start = span.class.span_start(span.number as usize);
        if !purge_span(start, span.slot_start(0).addr() - start.addr() + bytes) {
            return;
        }
        EMPTY_BYTES.fetch_sub(bytes, Ordering::Relaxed);
        self.unlink(class_index, span);
        span.forget();
        span.head.next.store(self.clean, Ordering::Relaxed);
        self.clean = span.number;
        SPAN_BYTES_IN_USE.fetch_sub(crate::geometry::SPAN_BYTES, Ordering::Relaxed);
    }

    /// Puts a span without touched slots into the list; whether there was one.
    fn add_span(&mut self, class_index: usize) -> bool {
        let number = if self.clean != NO_SPAN {
            let number = self.clean;
            self.clean = Span::at(class_index, number).head.next.load(Ordering::Relaxed);
            number
        } else {
            if self.frontier == self.committed && !self.commit_more(class_index) {
                return false;
            }
            self.frontier += 1;
            self.frontier - 1
        };
        SPAN_BYTES_IN_USE.fetch_add(crate::geometry::SPAN_BYTES, Ordering::Relaxed);
        self.link(class_index, Span::at(class_index, number));
        true
    }

    /// Commits the spans behind the last one: more at once in a class that has many.
    fn commit_more(&mut self, class_index: usize) -> bool {
        let left = span_count().saturating_sub(self.committed);
        let count = ((self.committed - self.first) / 4).clamp(1, COMMIT_SPANS_MAX).min(left);
        if count == 0 || !commit_spans(class_index, self.committed as usize, count as usize) {
            return false;
        }
        self.committed += count;
        true
    }

    fn link(&mut self, class_index: usize, span: Span) {
        span.head.prev.store(NO_SPAN, Ordering::Relaxed);
        span.head.next.store(self.head, Ordering::Relaxed);
        if self.head != NO_SPAN {
            let first = Span::at(class_index, self.head);
            first.head.prev.store(span.number, Ordering::Relaxed);
        }
        self.head = span.number;
    }

    fn unlink(&mut self, class_index: usize, span: Span) {
        let next = span.head.next.load(Ordering::Relaxed);
        let prev = span.head.prev.load(Ordering::Relaxed);
        if next != NO_SPAN {
            Span::at(class_index, next).head.prev.store(prev, Ordering::Relaxed);
        }
        if prev == NO_SPAN {
            self.head = next;
        } else {
            Span::at(class_index, prev).head.next.store(next, Ordering::Relaxed);
        }
    }
}

//! A thread's spans, and how they refill its free lists.
//!
//! Each class has one current span, whose free slots are handed to the thread as whole lists; a
//! list of spans with room (available) and one of spans without (full). A full span comes back
//! when a sixteenth of it is free, so that a refill is worth its while; an available span that
//! becomes empty goes to the pool at once.
//!
//! # Invariants
//! - I1: the thread's free list of a class holds slots of the class's current span only, and
//!   they count as used.
//! - I2: `wake_at_count` is -1 for the current span, 0 for available ones, and below the slot
//!   count for full ones.

use core::cell::Cell;

use heapwright_core::size_class::{CLASS_COUNT, class_bytes};
use heapwright_sync::RemoteQueue;
use heapwright_sync::atomic::Ordering;

use crate::block::{self, Block};
use crate::descriptor::{Descriptor, INTERIOR, NO_SLICE, Place, SliceIndex};
use crate::free::give_remote;
use crate::pool::{Pool, lock};
use crate::region::{SLICE_BYTES, descriptor, slice_of, slice_start};
use crate::span_list;
use crate::thread_block::ThreadBlock;

/// Spans of slots up to this are one slice, so at least eight slots each.
const ONE_SLICE_BYTES_MAX: usize = SLICE_BYTES / 8;
/// Spans of larger slots.
const LARGER_SPAN_SLICES: SliceIndex = 4;
/// New slots are linked this many bytes at a time at first, then as many as the span has
/// already, up to the second figure: a span that is hardly used touches hardly any memory.
const EXTEND_BYTES_MIN: usize = 4 * 1024;
const EXTEND_BYTES_MAX: usize = 16 * 1024;
/// A full span is woken when slots / this are free.
const WAKE_SHARE: i32 = 16;
const NEVER: i32 = -1;

/// Length of a span of slots of `slot_bytes`.
const fn span_slices(slot_bytes: usize) -> SliceIndex {
    if slot_bytes <= ONE_SLICE_BYTES_MAX { 1 } else { LARGER_SPAN_SLICES }
}

/// Slots of each class's span.
static SLOT_COUNTS: [u16; CLASS_COUNT] = {
    let mut counts = [0; CLASS_COUNT];
    let mut class_index = 0;
    while class_index < CLASS_COUNT {
        let bytes = class_bytes(class_index);
        counts[class_index] = (span_slices(bytes) as usize * SLICE_BYTES / bytes) as u16;
        class_index += 1;
    }
    counts
};

fn slot_count(class_index: usize) -> u32 {
    SLOT_COUNTS.get(class_index).map_or(1, |count| u32::from(*count))
}

/// A thread's heap. Everything but the queue is the owning thread's (or the lock holder's, while
/// no thread has it).
#[repr(C, align(64))]
pub(crate) struct Heap {
    /// Blocks freed by other threads.
    pub(crate) remote: RemoteQueue,
    /// Link in the pool's list of heaps without a thread.
    pub(crate) next_idle: Cell<*const Heap>,
    /// Keeps the queue's cache line, which other threads write, apart.
    _apart: [u64; 6],
    current: [Cell<SliceIndex>; CLASS_COUNT],
    available: [Cell<SliceIndex>; CLASS_COUNT],
    full: [Cell<SliceIndex>; CLASS_COUNT],
}

impl Heap {
    /// A heap without spans.
    pub(crate) const fn new() -> Self {
        Self {
            remote: RemoteQueue::new(),
            next_idle: Cell::new(core::ptr::null()),
            _apart: [0; 6],
            current: [const { Cell::new(NO_SLICE) }; CLASS_COUNT],
            available: [const { Cell::new(NO_SLICE) }; CLASS_COUNT],
            full: [const { Cell::new(NO_SLICE) }; CLASS_COUNT],
        }
    }

    /// The number by which descriptors name this heap as owner.
    pub(crate) fn id(&self) -> usize {
        core::ptr::from_ref(self).expose_provenance()
    }

    /// A block of `class_index`, whose list in `thread` is empty; the rest of what was found
    /// becomes the list. Null when there is no memory.
    pub(crate) fn refill(&self, thread: &ThreadBlock, class_index: usize) -> Block {
        self.collect_remote();
        let list = loop {
            let index = self.current[class_index].get();
            if index != NO_SLICE {
                let list = take_free_slots(index, class_index);
                if !list.is_null() {
                    break list;
                }
                self.park_full(index, class_index);
            }
            if !self.find_current(class_index) {
                return core::ptr::null_mut();
            }
        };
        // SAFETY: the list is this thread's alone since it left the span.
        let rest = unsafe { block::next(list) };
        thread.list(class_index).set(rest);
        list
    }

    /// Makes another span current: one with room, one that another thread abandoned, a new one.
    /// Whether there was one.
    fn find_current(&self, class_index: usize) -> bool {
        let head = self.available[class_index].get();
        if head != NO_SLICE {
            // SAFETY: the head is in the list, which is this thread's.
            self.available[class_index].set(unsafe { span_list::remove(head, head) });
            self.make_current(head, class_index);
            return true;
        }
        let mut pool = lock();
        if let Some(index) = pool.take_abandoned(class_index) {
            // SAFETY: spans lie below the frontier.
            let span = unsafe { descriptor(index) };
            span.owner.store(self.id(), Ordering::Relaxed);
            drop(pool);
            self.make_current(index, class_index);
            return true;
        }
        let index = self.new_span(&mut pool, class_index);
        drop(pool);
        if index == NO_SLICE {
            return false;
        }
        self.make_current(index, class_index);
        true
    }

    fn make_current(&self, index: SliceIndex, class_index: usize) {
        // SAFETY: spans lie below the frontier.
        let span = unsafe { descriptor(index) };
        span.place.store(Place::Current as u8, Ordering::Relaxed);
        span.wake_at_count.store(NEVER, Ordering::Relaxed);
        self.current[class_index].set(index);
    }

    fn new_span(&self, pool: &mut Pool, class_index: usize) -> SliceIndex {
        let slices = span_slices(class_bytes(class_index));
        let Some(run) = pool.runs.take(slices) else { return NO_SLICE };
        pool.small_slices += slices as usize;
        for distance in 1..slices {
            // SAFETY: inside the run just taken.
            let interior = unsafe { descriptor(run.index + distance) };
            interior.run_slices.store(distance, Ordering::Relaxed);
            interior.owner.store(INTERIOR, Ordering::Relaxed);
        }
        // SAFETY: the run just taken.
        let span = unsafe { descriptor(run.index) };
        span.local_free.store(core::ptr::null_mut(), Ordering::Relaxed);
        span.used_count.store(0, Ordering::Relaxed);
        span.extended_count.store(0, Ordering::Relaxed);
        span.run_slices.store(slices, Ordering::Relaxed);
        span.class_index.store(class_index as u8, Ordering::Relaxed);
        span.owner.store(self.id(), Ordering::Relaxed);
        run.index
    }

    /// Puts a span without free slots into the full list.
    fn park_full(&self, index: SliceIndex, class_index: usize) {
        let count = slot_count(class_index) as i32;
        // SAFETY: spans lie below the frontier.
        let span = unsafe { descriptor(index) };
        debug_assert_eq!(span.used_count.load(Ordering::Relaxed), count);
        span.place.store(Place::Full as u8, Ordering::Relaxed);
        span.wake_at_count.store(count - (count / WAKE_SHARE).max(1), Ordering::Relaxed);
        let full = &self.full[class_index];
        // SAFETY: the current span is in no list.
        full.set(unsafe { span_list::append(full.get(), index) });
        self.current[class_index].set(NO_SLICE);
    }

    /// What a free has to do that brought `used_count` down to `wake_at_count`.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake(&self, index: SliceIndex) {
        // SAFETY: spans lie below the frontier.
        let span = unsafe { descriptor(index) };
        let class_index = usize::from(span.class_index.load(Ordering::Relaxed));
        let is_empty = span.used_count.load(Ordering::Relaxed) == 0;
        let list = match Place::from_number(span.place.load(Ordering::Relaxed)) {
            Place::Full => &self.full[class_index],
            Place::Available => &self.available[class_index],
            // The current span stays, empty or not.
            _ => return,
        };
        // SAFETY: it is in the list that its place names.
        list.set(unsafe { span_list::remove(list.get(), index) });
        if is_empty {
            lock().give_span(index);
        } else {
            self.make_available(index, class_index);
        }
    }

    fn make_available(&self, index: SliceIndex, class_index: usize) {
        // SAFETY: spans lie below the frontier.
        let span = unsafe { descriptor(index) };
        span.place.store(Place::Available as u8, Ordering::Relaxed);
        span.wake_at_count.store(0, Ordering::Relaxed);
        let available = &self.available[class_index];
        // SAFETY: in no list (the caller took it out). At the end: it gathers more free slots
        // before its turn.
        available.set(unsafe { span_list::append(available.get(), index) });
    }

    /// Makes an abandoned span this heap's own. The pool's lock is held and the span is in no
    /// list.
    pub(crate) fn adopt(&self, index: SliceIndex) {
        // SAFETY: spans lie below the frontier.
        let span = unsafe { descriptor(index) };
        let class_index = usize::from(span.class_index.load(Ordering::Relaxed));
        span.owner.store(self.id(), Ordering::Relaxed);
        if has_free_slots(span, class_index) {
            self.make_available(index, class_index);
        } else {
            // Parked like a span that was filled here.
            let current = self.current[class_index].get();
            self.park_full(index, class_index);
            self.current[class_index].set(current);
        }
    }

    /// Takes in what other threads freed.
    #[inline]
    pub(crate) fn collect_remote(&self) {
        if !self.remote.is_empty_hint() {
            self.take_in(self.remote.take());
        }
    }

    #[cold]
    #[inline(never)]
    fn take_in(&self, mut list: Block) {
        while !list.is_null() {
            let block = list;
            // SAFETY: the list is this thread's alone since it left the queue.
            list = unsafe { block::next(block) };
            let Some(index) = head_of(block) else { continue };
            // SAFETY: a block's head lies below the frontier.
            let span = unsafe { descriptor(index) };
            if span.owner.load(Ordering::Relaxed) == self.id() {
                // SAFETY: our own span, and the block was given up by who freed it.
                unsafe { self.free_local(span, index, block) };
            } else {
                // The span was abandoned while the block was on its way.
                give_remote(block, index);
            }
        }
    }

    /// Frees `block` of our own span.
    ///
    /// # Safety
    /// - `span` is the descriptor of `index`, owned by this heap, and `block` is one of its
    ///   slots, given up.
    #[inline(always)]
    pub(crate) unsafe fn free_local(&self, span: &Descriptor, index: SliceIndex, block: Block) {
        // SAFETY: the slot is given up by the caller.
        unsafe { block::set_next(block, span.local_free.load(Ordering::Relaxed)) };
        span.local_free.store(block, Ordering::Relaxed);
        let used_count = span.used_count.load(Ordering::Relaxed) - 1;
        span.used_count.store(used_count, Ordering::Relaxed);
        if used_count <= span.wake_at_count.load(Ordering::Relaxed) {
            self.wake(index);
        }
    }

    /// Puts the thread's lists back into their spans. The current spans that are empty then go
    /// to the pool.
    pub(crate) fn return_lists(&self, thread: &ThreadBlock) {
        for class_index in 0..CLASS_COUNT {
            let mut list = thread.list(class_index).replace(core::ptr::null_mut());
            let index = self.current[class_index].get();
            if index == NO_SLICE {
                debug_assert!(list.is_null());
                continue;
            }
            // SAFETY: spans lie below the frontier.
            let span = unsafe { descriptor(index) };
            while !list.is_null() {
                let block = list;
                // SAFETY: the thread's own list.
                list = unsafe { block::next(block) };
                // SAFETY: a slot of the current span (I1), in no list any more.
                unsafe { self.free_local(span, index, block) };
            }
            if span.used_count.load(Ordering::Relaxed) == 0 {
                self.current[class_index].set(NO_SLICE);
                lock().give_span(index);
            }
        }
    }

    /// Gives up everything at the end of the thread: lists, spans, what is still in the queue.
    pub(crate) fn abandon_all(&'static self, thread: &ThreadBlock) {
        self.return_lists(thread);
        let mut pool = lock();
        for class_index in 0..CLASS_COUNT {
            let index = self.current[class_index].replace(NO_SLICE);
            if index != NO_SLICE {
                abandon_or_give(&mut pool, index, class_index);
            }
            for list in [&self.available[class_index], &self.full[class_index]] {
                while list.get() != NO_SLICE {
                    let index = list.get();
                    // SAFETY: the head of the thread's own list.
                    list.set(unsafe { span_list::remove(index, index) });
                    abandon_or_give(&mut pool, index, class_index);
                }
            }
        }
        // Closed only now: whoever finds it closed finds the owners changed, too.
        let mut list = self.remote.close();
        pool.keep_heap(self);
        drop(pool);
        while !list.is_null() {
            let block = list;
            // SAFETY: the list is this thread's alone since the queue was closed.
            list = unsafe { block::next(block) };
            if let Some(index) = head_of(block) {
                give_remote(block, index);
            }
        }
    }
}

fn abandon_or_give(pool: &mut Pool, index: SliceIndex, class_index: usize) {
    // SAFETY: spans lie below the frontier.
    let span = unsafe { descriptor(index) };
    if span.used_count.load(Ordering::Relaxed) == 0 {
        pool.give_span(index);
    } else {
        pool.abandon(index, has_free_slots(span, class_index));
    }
}

/// Whether the span can serve a refill.
pub(crate) fn has_free_slots(span: &Descriptor, class_index: usize) -> bool {
    !span.local_free.load(Ordering::Relaxed).is_null()
        || span.extended_count.load(Ordering::Relaxed) < slot_count(class_index)
}

/// Head of the small span that `block` lies in; none outside the region.
pub(crate) fn head_of(block: Block) -> Option<SliceIndex> {
    let index = slice_of(block.cast())?;
    // SAFETY: the slice of a block lies below the frontier.
    let slice = unsafe { descriptor(index) };
    if slice.owner.load(Ordering::Relaxed) != INTERIOR {
        return Some(index);
    }
    index.checked_sub(slice.run_slices.load(Ordering::Relaxed))
}

/// Takes all free slots of the span, or links new ones when it has none; null when it is full.
/// They count as used from here on.
fn take_free_slots(index: SliceIndex, class_index: usize) -> Block {
    // SAFETY: spans lie below the frontier.
    let span = unsafe { descriptor(index) };
    let list = span.local_free.load(Ordering::Relaxed);
    let extended = span.extended_count.load(Ordering::Relaxed);
    if !list.is_null() {
        span.local_free.store(core::ptr::null_mut(), Ordering::Relaxed);
        span.used_count.store(extended as i32, Ordering::Relaxed);
        return list;
    }
    let slot_bytes = class_bytes(class_index);
    let wished = (extended as usize * slot_bytes).clamp(EXTEND_BYTES_MIN, EXTEND_BYTES_MAX);
    let more = (wished / slot_bytes).max(1) as u32;
    let end = (extended + more).min(slot_count(class_index));
    if extended == end {
        return core::ptr::null_mut();
    }
    let slot = |number: u32| -> Block {
        slice_start(index).wrapping_add(number as usize * slot_bytes).cast()
    };
    for number in extended..end - 1 {
        // SAFETY: a slot of the span that was never handed out.
        unsafe { block::set_next(slot(number), slot(number + 1)) };
    }
    // SAFETY: as above.
    unsafe { block::set_next(slot(end - 1), core::ptr::null_mut()) };
    span.extended_count.store(end, Ordering::Relaxed);
    span.used_count.store(end as i32, Ordering::Relaxed);
    slot(extended)
}

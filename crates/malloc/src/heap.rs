//! A thread's heap: its active spans, and how they refill its free lists.
//!
//! Each class has one current span, whose free slots are handed to the thread some KiB at a time;
//! a list of spans with room (available), the fuller ones first, and one of spans without (full).
//! A full span comes back when some of it is free (at most an eighth), so that a refill is worth its
//! while; an available span that becomes empty goes to the pool at once.
//!
//! The hot paths take no lock. The slow paths of the owner take the heap's, which lets a purger
//! work on the spans of a thread that does not come by: see `purge`.
//!
//! # Invariants
//! design/malloc.md#I3 to #I6.

use core::ops::{Deref, DerefMut};

use heapwright_core::size_class::{CLASS_COUNT, class_of};
use heapwright_sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use heapwright_sync::{Guard, Lock, RemoteQueue, Seizure};

use crate::block::{self, Block};
use crate::class_pool::{has_listed, lock_class};
use crate::descriptor::{NO_SLICE, PASSIVE, Place, SliceIndex};
use crate::free::{free_redirected, head_of, push_batch};
use crate::geometry::Geometry;
use crate::life;
use crate::nodes::{self, Part};
use crate::outbox::Outbox;
use crate::pending::settle;
use crate::pool::{OwnersFutex, in_signal_handler, lock};
use crate::purge;
use crate::quick::NEVER_ENOUGH;
use crate::region::{SLICE_BYTES, slice_of};
use crate::sampled_lists::{self, SampledLists};
use crate::span::{PAGE_UNIT_BYTES, Span};
use crate::span_list;
use crate::thread_block::ThreadBlock;

/// Blocks of threads' lists looked at, at most, to find empty spans.
const RECLAIM_LOOK_COUNT: i32 = 4096;
/// Larger slots may be touched in part only, and other classes' on the same pages elsewhere.
const RECLAIM_SLOT_BYTES_MAX: usize = 4096;
/// Attempts to find empty spans left out at most after one in vain.
const RECLAIM_REST_MAX: u8 = 15;
/// Pages that a new span may come to touch.
const SLICE_PAGES: u32 = (SLICE_BYTES / PAGE_UNIT_BYTES) as u32;
/// Refills from which on a class is hot.
const HOT_REFILLS: u8 = 64;
/// Bytes of slots that hot classes may take only to have longer lists, and how much more for each
/// span that the heap gets: a program with many hot classes would touch many pages for that.
const HOT_BUDGET_BYTES: u32 = 32 * 1024;
const HOT_BUDGET_BYTES_PER_SPAN: u32 = 256;
/// Blocks for other threads wait for at most so many slow paths.
pub(crate) const OUTBOX_ENTRIES: u32 = 16;

/// A thread's heap; pooled, never freed.
#[repr(C, align(64))]
pub(crate) struct Heap {
    /// Blocks freed by other threads.
    pub(crate) remote: RemoteQueue,
    /// Keeps the queue's cache line, which other threads write, apart.
    _apart: [u64; 7],
    /// Thread pointer of the thread that has the heap; 0 when there is none.
    pub(crate) owner: AtomicUsize,
    /// Slow paths that the owner entered; a purger sees by it who does not come by.
    pub(crate) entry_count: AtomicU32,
    /// 1 when pending spans may have pages to purge that a purger has not looked at.
    pub(crate) has_dirty_pending: AtomicU32,
    /// Next in the list of all heaps there ever were.
    pub(crate) next: AtomicPtr<Heap>,
    /// Next in the pool's list of heaps without a thread; under its lock.
    pub(crate) next_idle: AtomicPtr<Heap>,
    /// Blocks on their way to other threads; the owner's alone.
    pub(crate) outbox: Outbox,
    /// Where lists end while samples are taken; null when none ever were. The owner's alone.
    pub(crate) sampled_lists: AtomicPtr<SampledLists>,
    /// Bytes of small blocks handed to the thread's lists since the start; the owner writes.
    pub(crate) handed_bytes: AtomicU64,
    /// The span that refills each class; written under the lock, read by [`Heap::refill_quickly`].
    pub(crate) currents: [AtomicU32; CLASS_COUNT],
    /// Linked slots that make a quick refill of each class; the owner's alone.
    pub(crate) enough: [AtomicU8; CLASS_COUNT],
    /// Keeps quick refills and whoever else wants the heap apart.
    pub(crate) quick: Seizure,
    /// Everything else.
    pub(crate) inside: Lock<Inside, OwnersFutex>,
}

/// Spans of one class, but for the current one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lists {
    pub(crate) available: SliceIndex,
    pub(crate) full: SliceIndex,
}

/// What the heap's lock guards.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) lists: [Lists; CLASS_COUNT],
    /// How often each class was refilled, while that is rare.
    refill_counts: [u8; CLASS_COUNT],
    /// What is left of the budget of [`HOT_BUDGET_BYTES`].
    hot_budget_bytes: u32,
    /// Attempts to find empty spans to leave out from now on.
    reclaim_rest: u8,
    /// And how many there were after the last attempt.
    reclaim_rest_last: u8,
    /// At most so many pages were there already when spans that are current now were made.
    inherited_pages: u32,
    /// The NUMA node's part that the owner was seen on last.
    part: Part,
    /// Spans made passive behind the owner's back.
    pub(crate) pending: SliceIndex,
    /// `entry_count` when a purger came by last.
    pub(crate) seen_entry_count: u32,
    /// How often in a row it had not changed.
    pub(crate) idle_round_count: u32,
}

impl Heap {
    /// A heap without spans.
    pub(crate) const fn new() -> Self {
        let none = Lists { available: NO_SLICE, full: NO_SLICE };
        Self {
            remote: RemoteQueue::new(),
            _apart: [0; 7],
            owner: AtomicUsize::new(0),
            entry_count: AtomicU32::new(0),
            has_dirty_pending: AtomicU32::new(0),
            next: AtomicPtr::new(core::ptr::null_mut()),
            next_idle: AtomicPtr::new(core::ptr::null_mut()),
            outbox: Outbox::new(),
            sampled_lists: AtomicPtr::new(core::ptr::null_mut()),
            handed_bytes: AtomicU64::new(0),
            currents: [const { AtomicU32::new(NO_SLICE) }; CLASS_COUNT],
            enough: [const { AtomicU8::new(NEVER_ENOUGH) }; CLASS_COUNT],
            quick: Seizure::new(),
            inside: Lock::new(Inside {
                lists: [none; CLASS_COUNT],
                refill_counts: [0; CLASS_COUNT],
                hot_budget_bytes: HOT_BUDGET_BYTES,
                reclaim_rest: 0,
                reclaim_rest_last: 0,
                inherited_pages: 0,
                part: 0,
                pending: NO_SLICE,
                seen_entry_count: 0,
                idle_round_count: 0,
            }),
        }
    }

    /// Locks the heap for somebody who is not its owner.
    pub(crate) fn lock_inside(&'static self) -> Guard<'static, Inside, OwnersFutex> {
        match self.inside.lock(ThreadBlock::token()) {
            Ok(guard) => guard,
            Err(_) => in_signal_handler(),
        }
    }

    /// Enters a slow path as the owner: nothing of a hot path is under way in this thread then,
    /// so spans that were pending are settled.
    pub(crate) fn enter(&'static self) -> Entered {
        if !self.quick.is_seized() {
            // In the middle of a quick refill of this very thread.
            in_signal_handler();
        }
        let mut entered =
            Entered { heap: self, owner: ThreadBlock::token(), inside: self.lock_inside() };
        let count = self.entry_count.load(Ordering::Relaxed).wrapping_add(1);
        self.entry_count.store(count, Ordering::Relaxed);
        if entered.inside.pending != NO_SLICE {
            entered.settle_pending();
        }
        #[cfg(feature = "purge-always")]
        purge::everything_now(&mut entered);
        entered
    }
}

/// The owner of a heap inside a slow path.
pub(crate) struct Entered {
    pub(crate) heap: &'static Heap,
    /// Thread pointer of the owner, which is the calling thread.
    pub(crate) owner: usize,
    pub(crate) inside: Guard<'static, Inside, OwnersFutex>,
}

impl Deref for Entered {
    type Target = Inside;

    fn deref(&self) -> &Inside {
        &self.inside
    }
}

impl DerefMut for Entered {
    fn deref_mut(&mut self) -> &mut Inside {
        &mut self.inside
    }
}

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
                let span = Span::at(index);
                let used_before = span.used();
                let list = self.take_slots(span, wished, enough);
                if !list.is_null() {
                    let count = (span.used() - used_before) as u32;
                    self.heap.note_handed(count, geometry.slot_bytes);
                    break (list, count);
                }
                self.heap.set_current(class_index, NO_SLICE);
                self.park_full(span);
            }
            if !self.find_current(thread, class_index) {
                return core::ptr::null_mut();
            }
        };
        let list = sampled_lists::cut(self.heap, class_index, list, count);
        // SAFETY: the list is this thread's alone since it left the span.
        let rest = unsafe { block::next(list) };
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
        let is_rich = self.hot_budget_bytes > 0;
        let enough = if is_rich { Geometry::of(class_index).hot_count() } else { 1 };
        self.heap.enough[class_index].store(enough, Ordering::Relaxed);
        enough
    }

    /// [`Span::take_slots`]; new slots where there were others are charged to the budget.
    fn take_slots(&mut self, span: Span, wished: usize, enough: u8) -> Block {
        let is_optional = !span.head().local_free.load(Ordering::Relaxed).is_null();
        let extended = span.extended();
        let lists = &self.inside.lists[span.class_index()];
        let is_growing = lists.full != NO_SLICE || lists.available != NO_SLICE;
        let list = span.take_slots(wished, enough, is_growing);
        if is_optional {
            let bytes = u32::from(span.extended() - extended) * span.geometry().slot_bytes;
            self.hot_budget_bytes = self.hot_budget_bytes.saturating_sub(bytes);
        }
        list
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
        self.hot_budget_bytes = self.hot_budget_bytes.saturating_add(HOT_BUDGET_BYTES_PER_SPAN);
        self.make_current(span);
        true
    }

    /// Gives back the current spans that hold no live block, of small slots and with most pages
    /// touched; no free looks at those. Slots of theirs that `thread` has leave its list.
    ///
    /// When there is none, the next attempts are left out, ever more of them: then the program
    /// grows.
    fn reclaim_empty(&mut self, thread: &ThreadBlock) {
        if self.reclaim_rest > 0 {
            self.reclaim_rest -= 1;
            return;
        }
        let mut budget = RECLAIM_LOOK_COUNT;
        let mut is_in_vain = true;
        for class_index in 0..=class_of(RECLAIM_SLOT_BYTES_MAX) {
            let index = self.heap.current(class_index);
            if index == NO_SLICE {
                continue;
            }
            let span = Span::at(index);
            let list = thread.list(class_index);
            if span.is_mostly_touched() && span.used() <= budget && is_all_listed(span, list.get())
            {
                budget -= span.used();
                list.set(core::ptr::null_mut());
                self.heap.set_current(class_index, NO_SLICE);
                lock().give_span(span);
                is_in_vain = false;
            }
        }
        let rest = if is_in_vain { self.reclaim_rest_last * 2 + 1 } else { 0 };
        self.reclaim_rest_last = rest.min(RECLAIM_REST_MAX);
        self.reclaim_rest = self.reclaim_rest_last;
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

    /// Gives the spans with room that lie on other NUMA nodes than the thread now runs on to
    /// whoever runs there; those that are full stay until a free looks at them.
    #[cold]
    fn follow_to(&mut self, part: Part) {
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

    fn make_current(&mut self, span: Span) {
        span.set_place(Place::Current);
        span.wake_never();
        self.heap.set_current(span.class_index(), span.index());
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

    /// Puts a span that this heap has just got into the list it belongs to.
    pub(crate) fn shelve(&mut self, span: Span) {
        if span.has_free_slots() {
            self.make_available(span);
        } else {
            self.park_full(span);
        }
    }

    /// Takes in what other threads freed.
    #[inline]
    pub(crate) fn collect_remote(&mut self) {
        if !self.heap.remote.is_empty_hint() {
            let list = self.heap.remote.take();
            self.take_in_batches(list);
        }
    }

    #[cold]
    #[inline(never)]
    fn take_in(&mut self, mut list: Block) {
        while !list.is_null() {
            let block = list;
            // SAFETY: the list is this thread's alone since it left the queue.
            list = unsafe { block::next(block) };
            self.take_back(block);
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

    /// Frees `block`, given up by whoever had it, of our own span or of one that has gone to
    /// somebody else.
    pub(crate) fn take_back(&mut self, block: Block) {
        let Some(head) = head_of(block.cast()) else { return };
        if head.owner.load(Ordering::Relaxed) != self.owner {
            free_redirected(head, block, Some(self));
            return;
        }
        // SAFETY: a slot of a span that we own, given up.
        if unsafe { crate::free::push_local(head, block) } {
            self.wake(Span::of(head));
        }
    }

    /// Makes the heap ready for the end of its thread: lists, spans, queue and outbox are empty
    /// afterwards, and the queue is closed.
    pub(crate) fn abandon_all(&mut self, thread: &ThreadBlock) {
        self.return_lists(thread);
        self.heap.outbox.flush();
        // For the next thread.
        self.refill_counts = [0; CLASS_COUNT];
        self.hot_budget_bytes = HOT_BUDGET_BYTES;
        self.heap.enough.iter().for_each(|enough| enough.store(NEVER_ENOUGH, Ordering::Relaxed));
        for class_index in 0..CLASS_COUNT {
            while let Some(span) = self.take_any(class_index) {
                if span.used() == 0 {
                    // Nobody has a block of it, so nobody will ask for its bits.
                    lock().give_span(span);
                } else {
                    self.give_up(span);
                }
            }
        }
        // Closed only now: whoever finds it closed finds the owners changed, too.
        let mut list = self.heap.remote.close();
        while !list.is_null() {
            let block = list;
            // SAFETY: the list is this thread's alone since the queue was closed.
            list = unsafe { block::next(block) };
            if let Some(head) = head_of(block.cast()) {
                free_redirected(head, block, None);
            }
        }
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

    /// Takes a span of the class out of the list it is in.
    fn take_any(&mut self, class_index: usize) -> Option<Span> {
        if let Some(current) = self.heap.take_current(class_index) {
            return Some(Span::at(current));
        }
        let lists = &mut self.inside.lists[class_index];
        for list in [&mut lists.available, &mut lists.full] {
            let index = *list;
            if index != NO_SLICE {
                *list = span_list::remove(index, index);
                return Some(Span::at(index));
            }
        }
        None
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
/// calling thread's of that class.
fn is_all_listed(span: Span, list: Block) -> bool {
    let mut unseen = span.used();
    let mut block = list;
    while !block.is_null() {
        if unseen == 0 || slice_of(block.cast()) != Some(span.index()) {
            return false;
        }
        unseen -= 1;
        // SAFETY: the thread's own list.
        block = unsafe { block::next(block) };
    }
    unseen == 0
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

impl Heap {
    /// Forgets all spans, which are then lost: for lists that a vanished thread left half changed.
    pub(crate) fn forget(&'static self) {
        let none = Lists { available: NO_SLICE, full: NO_SLICE };
        let mut inside = self.lock_inside();
        inside.lists = [none; CLASS_COUNT];
        inside.pending = NO_SLICE;
        for class_index in 0..CLASS_COUNT {
            self.set_current(class_index, NO_SLICE);
        }
    }
}

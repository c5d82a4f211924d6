//! Giving pages back that hold no live block: of free runs, and inside spans that are partly used.
//!
//! A page inside a span can go when all slots on it are free and known to the bitmap, since links
//! would go with the page. So the span is made passive first: by its owner, or behind the owner's
//! back when the owner does not come by. The latter is the interesting case, for the owner may be
//! in the middle of a free, between any two instructions, and takes no lock:
//!
//! 1. The purger takes the heap's lock: the owner is in no slow path.
//! 2. It stores PASSIVE into the spans' `owner`: frees that start later go the slow way.
//! 3. It has every thread pass a memory barrier: all earlier frees are visible, except at most one
//!    that is under way in the owner right now.
//! 4. It moves what is linked into the bitmap and purges. The block of that one free counts as
//!    used still, so its page stays.
//! 5. The free under way then stores its block into the empty `local_free`. There it stays until
//!    the owner enters a slow path, which proves that the free is over: until then the span is
//!    *pending*, may not be given away or back, and keeps its addresses.
//!
//! So the hot paths pay nothing. Without membarrier(2) only owners make their spans passive.

use core::ptr::NonNull;

use heapwright_core::size_class::CLASS_COUNT;
use heapwright_os::{Advice, advise, barrier_on_all_threads, monotonic_ns, page_bytes};
use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::block::{self, Block};
use crate::class_pool::lock_class;
use crate::descriptor::{NO_SLICE, PASSIVE, Place, SliceIndex};
use crate::free::{free_redirected, head_of};
use crate::heap::{Entered, Heap, Inside};
use crate::huge;
use crate::nodes::{Part, part_count};
use crate::pool::lock;
use crate::quick::Announced;
use crate::region::{SLICE_BYTES, slice_start};
use crate::runs;
use crate::span::{PAGE_UNIT_BYTES, Span};
use crate::span_list;
use crate::walk::InHand;

/// A thread that entered no slow path for so many rounds is idle.
const IDLE_ROUND_COUNT: u32 = 2;
/// Spans of a class purged while its lock is held.
const PURGE_COUNT: u32 = 8;

/// 1 when something may have become purgeable since a purger looked.
static WORK: AtomicU32 = AtomicU32::new(0);

static PURGED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes given back to the kernel since the start.
pub(crate) fn purged_bytes() -> u64 {
    PURGED_BYTES.load(Ordering::Relaxed)
}

/// Notes that so much went back.
pub(crate) fn note_purged(bytes: usize) {
    PURGED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Notes that there may be something to purge, now or soon.
#[inline]
pub(crate) fn note_work() {
    if WORK.load(Ordering::Relaxed) == 0 {
        WORK.store(1, Ordering::Relaxed);
    }
}

/// Whether something may be purgeable.
#[inline]
pub(crate) fn has_work() -> bool {
    WORK.load(Ordering::Relaxed) != 0
}

/// Forgets what [`note_work`] noted; whether there was something.
pub(crate) fn take_work() -> bool {
    WORK.swap(0, Ordering::Relaxed) != 0
}

/// How much is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eagerness {
    /// What nobody wanted for a while.
    Overdue,
    /// What nobody uses now, but for free runs, which a budget keeps low: memory is short.
    Pressed,
    /// Everything that can be.
    All,
}

/// Purges passive spans and free runs; whether more may become overdue soon.
pub(crate) fn purge_shared(eagerness: Eagerness) -> bool {
    let mut is_more = false;
    for class_index in 0..CLASS_COUNT {
        is_more |= purge_class(class_index, eagerness);
    }
    is_more |= purge_runs(eagerness);
    is_more | huge::round()
}

/// Purges free runs, the lock not held while the kernel works.
fn purge_runs(eagerness: Eagerness) -> bool {
    let _in_hand = InHand::new();
    if eagerness == Eagerness::All {
        lock().runs.purge_all();
        return false;
    }
    lock().runs.start_epoch(monotonic_ns());
    loop {
        let mut pool = lock();
        let Some((index, slices)) = pool.runs.take_overdue() else {
            return pool.runs.dirty_slices() > 0;
        };
        drop(pool);
        let is_purged = runs::purge(index, slices);
        lock().runs.give_purged(index, slices, is_purged);
        if !is_purged {
            return false;
        }
    }
}

/// Purges the passive spans of a class, the emptiest first; whether some were too fresh.
fn purge_class(class_index: usize, eagerness: Eagerness) -> bool {
    let mut is_more = false;
    let parts = 0..part_count() as Part;
    for (part, bucket) in parts.flat_map(|part| (0..4).rev().map(move |bucket| (part, bucket))) {
        loop {
            let mut pool = lock_class(class_index);
            let head = pool.bucket(class_index, part, bucket);
            let mut purged = 0;
            let mut next = (head != NO_SLICE).then_some(head);
            while let Some(index) = next {
                next = span_list::after(head, index);
                let span = Span::at(index);
                if span.head().is_dirty.load(Ordering::Relaxed) == 0 {
                    continue;
                }
                if eagerness != Eagerness::Overdue || is_unchanged(span) {
                    purge_pages(span);
                    purged += 1;
                    if purged == PURGE_COUNT {
                        // The next look goes on from here.
                        pool.turn(bucket, next);
                        break;
                    }
                } else {
                    is_more = true;
                }
            }
            drop(pool);
            if purged < PURGE_COUNT {
                break;
            }
        }
    }
    is_more
}

/// Whether a passive span has as many used slots as when this was asked last.
fn is_unchanged(span: Span) -> bool {
    let now = span.passive_used() as u32 + 1;
    span.head().epoch.swap(now, Ordering::Relaxed) == now
}

/// Purges the pages of a passive span that have no used slot. The class's lock is held.
pub(crate) fn purge_pages(span: Span) {
    if huge::keeps_whole(span) {
        return;
    }
    let head = span.head();
    head.is_dirty.store(0, Ordering::Relaxed);
    let group = (page_bytes() / PAGE_UNIT_BYTES).max(1);
    let units = SLICE_BYTES / PAGE_UNIT_BYTES;
    let mut touched = span.touched();
    let mut unit = 0;
    while unit < units {
        let start = unit;
        while unit < units && is_group_purgeable(span, touched, unit, group) {
            unit += group;
        }
        if unit == start {
            unit += group;
            continue;
        }
        let address = slice_start(span.index()).wrapping_add(start * PAGE_UNIT_BYTES);
        let Some(first) = NonNull::new(address) else { return };
        // SAFETY: whole pages of a span that is ours under the lock; no used slot is on them, and
        // what links there were have gone into the bitmap.
        let done = unsafe { advise(first, (unit - start) * PAGE_UNIT_BYTES, Advice::DontNeed) };
        if done.is_err() {
            return;
        }
        huge::note_purged(span.index(), 1);
        note_purged((unit - start) * PAGE_UNIT_BYTES);
        touched &= !((u64::MAX >> (64 - (unit - start))) << start);
        span.set_touched(touched);
    }
}

/// Whether the kernel's page that starts at page unit `unit` can go and is there.
fn is_group_purgeable(span: Span, touched: u64, unit: usize, group: usize) -> bool {
    let is_there = (unit..unit + group).any(|unit| touched >> unit & 1 == 1);
    is_there && (unit..unit + group).all(|unit| span.is_page_free(unit))
}

/// The owner's own round: makes its sparse spans passive that it did not want for a while.
pub(crate) fn retire_cold_spans(entered: &mut Entered, eagerness: Eagerness) {
    for class_index in 0..CLASS_COUNT {
        let mut next =
            Some(entered.lists[class_index].available).filter(|index| *index != NO_SLICE);
        while let Some(index) = next {
            let head = entered.lists[class_index].available;
            next = span_list::after(head, index);
            let span = Span::at(index);
            if is_cold(span, eagerness) {
                entered.lists[class_index].available = span_list::remove(head, index);
                entered.give_up(span);
            }
        }
    }
}

/// Whether an available span of an active heap is to be made passive: it is sparse, and was when
/// this was asked last, with as many used slots.
fn is_cold(span: Span, eagerness: Eagerness) -> bool {
    let head = span.head();
    if eagerness == Eagerness::All {
        return true;
    }
    if span.used() * 2 > span.slot_count() {
        return false;
    }
    let now = span.used() as u32 + 1;
    head.epoch.swap(now, Ordering::Relaxed) == now || eagerness == Eagerness::Pressed
}

/// A purger's round over the heap of another thread; whether it is to come again soon.
pub(crate) fn visit(heap: &'static Heap, eagerness: Eagerness) -> bool {
    let _in_hand = InHand::new();
    // Whoever holds the lock is busy, and comes by himself.
    let Some(mut inside) = heap.inside.try_lock(crate::thread_block::ThreadBlock::token()) else {
        return true;
    };
    if heap.owner.load(Ordering::Relaxed) < crate::descriptor::THREAD_MIN {
        return false;
    }
    let entry_count = heap.entry_count.load(Ordering::Relaxed);
    if entry_count == inside.seen_entry_count {
        inside.idle_round_count = inside.idle_round_count.saturating_add(1);
    } else {
        inside.seen_entry_count = entry_count;
        inside.idle_round_count = 0;
    }
    let is_idle = inside.idle_round_count >= IDLE_ROUND_COUNT
        || (eagerness == Eagerness::Pressed && inside.idle_round_count > 0)
        || eagerness == Eagerness::All;
    let list = if is_idle { heap.remote.take() } else { core::ptr::null_mut() };
    let announced = Announced::to(heap);
    let mut taken = take_behind_owner(heap, &mut inside, is_idle, eagerness);
    take_destinations(&mut inside, list, heap, &mut taken);
    let wants_outbox = is_idle && !heap.outbox.is_empty_hint();
    if wants_outbox {
        heap.outbox.want();
    }
    if taken != NO_SLICE || wants_outbox {
        // Step 3 above.
        let has_barrier = barrier_on_all_threads();
        if wants_outbox && has_barrier {
            heap.outbox.flush_for_owner();
        } else if wants_outbox {
            heap.outbox.forgo();
        }
        if !has_barrier || !announced.is_owner_out() {
            // Nothing of the kind can be done now; what was taken stays pending, with its links.
            drop(announced);
            drop(inside);
            free_all(list);
            return has_barrier;
        }
        reached!(OwnerFoundOut);
        let mut next = (taken != NO_SLICE).then_some(taken);
        while let Some(index) = next {
            next = span_list::after(inside.pending, index);
            let span = Span::at(index);
            let pool = lock_class(span.class_index());
            span.links_to_bits();
            span.set_place(Place::Pending);
            span.head().is_dirty.store(1, Ordering::Relaxed);
            drop(pool);
        }
        heap.has_dirty_pending.store(1, Ordering::Relaxed);
    }
    drop(announced);
    if !list.is_null() {
        // The owner need not wait for this.
        drop(inside);
        free_all(list);
        let token = crate::thread_block::ThreadBlock::token();
        let Some(again) = heap.inside.try_lock(token) else { return true };
        inside = again;
    }
    purge_pending(heap, &inside);
    !is_idle
}

/// Purges the pages of a heap's pending spans into which something was freed.
fn purge_pending(heap: &Heap, inside: &Inside) {
    if heap.has_dirty_pending.swap(0, Ordering::Relaxed) == 0 {
        return;
    }
    let mut next = (inside.pending != NO_SLICE).then_some(inside.pending);
    while let Some(index) = next {
        next = span_list::after(inside.pending, index);
        let span = Span::at(index);
        if span.head().is_dirty.load(Ordering::Relaxed) != 0 {
            let pool = lock_class(span.class_index());
            // Those with merged windows are the merger's.
            if span.place() == Place::Pending {
                purge_pages(span);
            }
            drop(pool);
        }
    }
}

fn free_all(mut list: Block) {
    while !list.is_null() {
        let block = list;
        // SAFETY: the list left the queue, and is ours alone.
        list = unsafe { block::next(block) };
        if let Some(head) = head_of(block.cast()) {
            free_redirected(head, block, None);
        }
    }
}

/// Steps 1 and 2 above: the spans of an idle heap that have free slots, or the cold ones of a busy
/// heap, become pending; returns the first.
fn take_behind_owner(
    heap: &Heap,
    inside: &mut Inside,
    is_idle: bool,
    eagerness: Eagerness,
) -> SliceIndex {
    let mut first = NO_SLICE;
    for class_index in 0..CLASS_COUNT {
        if is_idle && let Some(current) = heap.take_current(class_index) {
            make_pending(inside, current, &mut first);
        }
        let head = inside.lists[class_index].available;
        let mut next = (head != NO_SLICE).then_some(head);
        while let Some(index) = next {
            let head = inside.lists[class_index].available;
            next = span_list::after(head, index);
            if is_idle || is_cold(Span::at(index), eagerness) {
                inside.lists[class_index].available = span_list::remove(head, index);
                make_pending(inside, index, &mut first);
            }
        }
    }
    first
}

/// The same for the spans that the blocks of `list`, taken from the heap's queue, go home to.
fn take_destinations(inside: &mut Inside, mut list: Block, heap: &Heap, first: &mut SliceIndex) {
    let owner = heap.owner.load(Ordering::Relaxed);
    while !list.is_null() {
        if let Some(head) = head_of(list.cast())
            && head.owner.load(Ordering::Relaxed) == owner
        {
            let span = Span::of(head);
            let lists = &mut inside.lists[span.class_index()];
            match span.place() {
                Place::Current => heap.set_current(span.class_index(), NO_SLICE),
                Place::Available => {
                    lists.available = span_list::remove(lists.available, span.index());
                }
                _ => lists.full = span_list::remove(lists.full, span.index()),
            }
            make_pending(inside, span.index(), first);
        }
        // SAFETY: the list left the queue, and is ours alone.
        list = unsafe { block::next(list) };
    }
}

fn make_pending(inside: &mut Inside, index: SliceIndex, first: &mut SliceIndex) {
    let span = Span::at(index);
    inside.pending = span_list::append(inside.pending, index);
    if *first == NO_SLICE {
        *first = index;
    }
    span.set_place(Place::PendingLinked);
    // The place is seen by whoever sees the owner, under the class's lock; the barrier that
    // follows orders this against the owner's own frees.
    span.head().owner.store(PASSIVE, Ordering::Release);
}

/// The test build's: makes everything passive and purges it at every slow path.
#[cfg(feature = "purge-always")]
pub(crate) fn everything_now(entered: &mut Entered) {
    retire_cold_spans(entered, Eagerness::All);
    purge_shared(Eagerness::All);
}

//! The passive spans of each class: no thread owns them, any thread may take one, free into one or
//! have pages of one purged, under the lock of the class.
//!
//! Spans with free slots are kept by how full they are, and the fullest is taken first: what is
//! nearly empty then has the time to become empty.
//!
//! # Invariants
//! design/malloc.md#I4.

use heapwright_core::size_class::CLASS_COUNT;
use heapwright_sync::atomic::{AtomicU32, Ordering};
use heapwright_sync::{Guard, Lock};

use crate::block::Block;
use crate::descriptor::{NO_SLICE, PASSIVE, Place, SliceIndex};
use crate::heap::Heap;
use crate::life::before_shared_lock;
use crate::merge;
use crate::nodes::{self, Part};
use crate::pool::{Futex, take};
use crate::purge::note_work;
use crate::span::Span;
use crate::span_list;

pub(crate) const BUCKET_COUNT: usize = 4;
const BUCKETS: [Place; BUCKET_COUNT] =
    [Place::Bucket0, Place::Bucket1, Place::Bucket2, Place::Bucket3];

/// A passive span is taken over by a thread that frees into it when more than one in so many
/// slots is used.
const ADOPT_SHARE: i32 = 4;
/// By another thread than its maker when more than one in so many is free.
const USED_UP_SHARE: i32 = 32;

/// The first spans of the lists by fullness.
pub(crate) type Buckets = [SliceIndex; BUCKET_COUNT];

/// The passive spans of one class that have free slots.
#[derive(Debug)]
pub(crate) struct ClassPool {
    /// Of the first NUMA node; those of other nodes are in `nodes`.
    buckets: Buckets,
}

static POOLS: [Lock<ClassPool, Futex>; CLASS_COUNT] =
    [const { Lock::new(ClassPool { buckets: [NO_SLICE; BUCKET_COUNT] }) }; CLASS_COUNT];

/// Spans of each class in its lists, written under its lock.
static LISTED_COUNTS: [AtomicU32; CLASS_COUNT] = [const { AtomicU32::new(0) }; CLASS_COUNT];

/// Whether the class has passive spans with free slots. Read without its lock: what somebody adds
/// right now is found at the next look.
#[inline]
pub(crate) fn has_listed(class_index: usize) -> bool {
    listed_count(class_index) != 0
}

/// How many passive spans with free slots the class has, as [`has_listed`] sees it.
#[inline]
pub(crate) fn listed_count(class_index: usize) -> u32 {
    LISTED_COUNTS[class_index].load(Ordering::Relaxed)
}

/// The lock of `class_index` itself, for forks.
pub(crate) fn class_lock(class_index: usize) -> &'static Lock<ClassPool, Futex> {
    &POOLS[class_index]
}

/// The passive spans of `class_index`, locked.
pub(crate) fn lock_class(class_index: usize) -> Guard<'static, ClassPool, Futex> {
    before_shared_lock();
    take(class_lock(class_index))
}

/// What became of a block freed into a passive span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freed {
    /// It is free.
    Kept,
    /// It is free and was the last one: the span, now in no list, is the caller's to give back.
    Emptied,
    /// The span is not passive any more, and nothing was done.
    Taken,
}

fn bucket_of(span: Span) -> Option<usize> {
    let used = span.passive_used();
    let count = span.slot_count();
    if used >= count {
        return None;
    }
    // Quarters, the fullest first.
    Some(BUCKET_COUNT - 1 - (used * BUCKET_COUNT as i32 / count) as usize)
}

impl ClassPool {
    /// The lists of a NUMA node.
    #[inline]
    fn buckets_of(&mut self, class_index: usize, part: Part) -> &mut Buckets {
        if part == 0 {
            return &mut self.buckets;
        }
        // SAFETY: who has `self` holds the class's lock; borrowed from it, so there is one.
        match unsafe { nodes::far_buckets(class_index, part) } {
            Some(buckets) => buckets,
            None => &mut self.buckets,
        }
    }

    /// The list that holds `span`, which is in `bucket` of its class.
    #[inline]
    fn list_of(&mut self, span: Span, bucket: usize) -> &mut SliceIndex {
        &mut self.buckets_of(span.class_index(), span.part())[bucket]
    }

    /// Adds a passive span that is in no list.
    pub(crate) fn insert(&mut self, span: Span) {
        match bucket_of(span) {
            Some(bucket) => {
                let list = self.list_of(span, bucket);
                *list = span_list::append(*list, span.index());
                span.set_place(BUCKETS[bucket]);
                let listed = &LISTED_COUNTS[span.class_index()];
                listed.store(listed.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            None => span.set_place(Place::Packed),
        }
    }

    /// Takes a span out of the list it may be in.
    pub(crate) fn remove(&mut self, span: Span) {
        if let Some(bucket) = BUCKETS.iter().position(|place| *place == span.place()) {
            let list = self.list_of(span, bucket);
            *list = span_list::remove(*list, span.index());
            let listed = &LISTED_COUNTS[span.class_index()];
            listed.store(listed.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
        span.set_place(Place::Packed);
    }

    /// Gives the fullest span of `part` with a free slot to the thread of `heap`.
    pub(crate) fn take_fullest(
        &mut self,
        (class_index, part): (usize, Part),
        heap: &'static Heap,
        owner: usize,
    ) -> Option<Span> {
        let buckets = self.buckets_of(class_index, part);
        let index = *buckets.iter().find(|head| **head != NO_SLICE)?;
        let span = Span::at(index);
        self.activate(span, heap, owner);
        Some(span)
    }

    /// Gives a span to the thread of `heap`, whose thread pointer is `owner`; in no list then, its
    /// counters right, waking never.
    pub(crate) fn activate(&mut self, span: Span, heap: &'static Heap, owner: usize) {
        debug_assert_eq!(span.head().owner.load(Ordering::Relaxed), PASSIVE);
        debug_assert!(span.head().local_free.load(Ordering::Relaxed).is_null());
        self.remove(span);
        span.become_active(heap, owner);
    }

    /// Frees `block`, given up by the program, of `span`, which was passive.
    pub(crate) fn free(&mut self, span: Span, block: Block) -> Freed {
        let head = span.head();
        if head.owner.load(Ordering::Relaxed) != PASSIVE {
            return Freed::Taken;
        }
        span.set_bit(block);
        head.is_dirty.store(1, Ordering::Relaxed);
        // Whose memory it was may not come by to give it back.
        note_work();
        let place = span.place();
        if place.is_pending() {
            // SAFETY: heaps live for ever; a pending span has one.
            if let Some(heap) = unsafe { head.heap.load(Ordering::Relaxed).as_ref() } {
                heap.has_dirty_pending.store(1, Ordering::Relaxed);
            }
            return Freed::Kept;
        }
        if span.passive_used() == 0 {
            if place == Place::Merged && !merge::thaw(span) {
                return Freed::Kept;
            }
            self.remove(span);
            return Freed::Emptied;
        }
        if place == Place::Merged {
            return Freed::Kept;
        }
        let bucket = bucket_of(span);
        if bucket.map(|bucket| BUCKETS[bucket]) != Some(span.place()) {
            self.remove(span);
            self.insert(span);
        }
        Freed::Kept
    }

    /// The spans of the class, a bucket's at a time.
    pub(crate) fn bucket(&mut self, class_index: usize, part: Part, bucket: usize) -> SliceIndex {
        self.buckets_of(class_index, part).get(bucket).copied().unwrap_or(NO_SLICE)
    }

    /// Makes `first`, one of the bucket's spans, its first; the order of the circle stays.
    pub(crate) fn turn(&mut self, bucket: usize, first: Option<SliceIndex>) {
        if let Some(first) = first {
            *self.list_of(Span::at(first), bucket) = first;
        }
    }

    /// Forgets all spans, which are then lost: for a list that a vanished thread left half
    /// changed.
    pub(crate) fn forget(&mut self, class_index: usize) {
        LISTED_COUNTS[class_index].store(0, Ordering::Relaxed);
        for part in 0..nodes::part_count() {
            *self.buckets_of(class_index, part as Part) = [NO_SLICE; BUCKET_COUNT];
        }
    }
}

/// Whether a passive span is taken over by the thread of `heap` that frees into it: when it is well
/// used, so that more frees are likely to come; and, where its maker is known and another one, when
/// a part of it is free, all of which others have freed: else a thread that frees a block here and
/// there would get what the maker goes on to use up. A guess, without the class's lock.
pub(crate) fn may_be_taken_over(span: Span, heap: &Heap) -> bool {
    let (used, count) = (span.passive_used(), span.slot_count());
    let maker = span.head().heap.load(Ordering::Relaxed).cast_const();
    let is_right = maker.is_null() || core::ptr::eq(maker, heap);
    used * ADOPT_SHARE > count && (is_right || (count - used) * USED_UP_SHARE > count)
}

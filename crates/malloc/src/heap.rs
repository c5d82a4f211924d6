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

mod refill;
mod retiring;
mod waking;

use core::ops::{Deref, DerefMut};

use heapwright_core::size_class::CLASS_COUNT;
use heapwright_sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use heapwright_sync::{Guard, Lock, RemoteQueue, Seizure};

use crate::descriptor::{NO_SLICE, SliceIndex};
use crate::nodes::Part;
use crate::outbox::Outbox;
use crate::pool::{OwnersFutex, in_signal_handler, take};
#[cfg(feature = "purge-always")]
use crate::purge;
use crate::quick::NEVER_ENOUGH;
use crate::sampled_lists::SampledLists;
use crate::span_list;
use crate::thread_block::ThreadBlock;

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
    /// Bytes of slots that hot classes took only to have longer lists.
    hot_bytes: u32,
    /// Attempts to find empty spans from now on that look at short lists only.
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
                hot_bytes: 0,
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
        take(&self.inside)
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
impl Heap {
    /// Takes a span of the class out of the list it is in; the current one first. With the lock held.
    pub(crate) fn take_span(&self, inside: &mut Inside, class_index: usize) -> Option<SliceIndex> {
        if let Some(current) = self.take_current(class_index) {
            return Some(current);
        }
        let lists = &mut inside.lists[class_index];
        [&mut lists.available, &mut lists.full].into_iter().find_map(|list| {
            let index = *list;
            (index != NO_SLICE).then(|| {
                *list = span_list::remove(index, index);
                index
            })
        })
    }

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

//! Refilling a thread's list without the heap's lock: when the class's current span has slots
//! linked, which is nearly always in a program that frees what it allocates, the whole list changes
//! hands in a few dozen instructions and no atomic one. An atomic instruction waits for all stores
//! before it, and so for the cache misses of the blocks that were filled and freed last.
//!
//! Others who want the heap, a purger or whoever takes all locks, hold its lock, announce
//! themselves, have all threads pass a barrier, and wait for the owner to come out
//! ([`Seizure`](heapwright_sync::Seizure)).
//! A purger does not wait long: what it has taken then stays pending with its links, as when there
//! is no barrier, and the owner settles it (design/malloc.md#pending). That is sound with a quick
//! refill under way: it only takes links out of a span and adds to a counter that means nothing
//! any more, and what it took counts as used.
//!
//! Every sixteenth refill goes the ordinary way, which does what has to be done now and then.

use core::time::Duration;

use heapwright_os::{barrier_on_all_threads, futex_wait, yield_now};
use heapwright_sync::Seizure;
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::block::{self, Block};
use crate::descriptor::{NO_SLICE, SliceIndex, THREAD_MIN};
use crate::heap::{Heap, OUTBOX_ENTRIES};
use crate::nodes;
use crate::pool::all_heaps;
use crate::purger::can_visit;
use crate::sampling::generation;
use crate::span::Span;
use crate::thread_block::ThreadBlock;

/// [`Heap::enough`](Heap) of a class that is not hot.
pub(crate) const NEVER_ENOUGH: u8 = u8::MAX;
/// Looks of a purger for the owner to come out: a quick refill takes less, unless its thread was
/// interrupted there.
const LOOK_COUNT: u32 = 100;
/// How often whoever takes all locks gives way to an owner that is inside. In the child of a fork
/// that nobody announced the owner may not be there, and never comes out.
const YIELD_COUNT: u32 = 10_000;
/// Where the kernel has no barrier: time in which every store of every processor is seen.
const NO_BARRIER_WAIT: Duration = Duration::from_millis(1);

impl Heap {
    /// For the owner: a block of `class_index`, whose list in `thread` is empty, and the rest of
    /// what its current span has linked becomes the list. Null when that is not so simple.
    #[inline]
    pub(crate) fn refill_quickly(&self, thread: &ThreadBlock, class_index: usize) -> Block {
        let count = self.entry_count.load(Ordering::Relaxed).wrapping_add(1);
        let is_simple = !cfg!(feature = "purge-always")
            && !count.is_multiple_of(OUTBOX_ENTRIES)
            && generation() == 0
            && !nodes::are_many()
            && self.remote.is_empty_hint();
        if !is_simple {
            return core::ptr::null_mut();
        }
        reached!(BeforeQuick);
        if !self.quick.enter() {
            return core::ptr::null_mut();
        }
        reached!(QuickEntered);
        let list = self.take_linked(class_index);
        if !list.is_null() {
            self.entry_count.store(count, Ordering::Relaxed);
            // SAFETY: the list is this thread's alone since it left the span.
            thread.list(class_index).set(unsafe { block::next(list) });
            reached!(QuickDone);
        }
        self.quick.leave();
        list
    }

    /// All that the class's current span has linked, if that is enough; else null.
    #[inline]
    fn take_linked(&self, class_index: usize) -> Block {
        let index = self.current(class_index);
        if index == NO_SLICE {
            return core::ptr::null_mut();
        }
        let span = Span::at(index);
        let enough = self.enough[class_index].load(Ordering::Relaxed);
        let Some((list, count)) = span.take_all_linked(enough) else {
            return core::ptr::null_mut();
        };
        self.note_handed(count, span.geometry().slot_bytes);
        list
    }

    /// Counts what goes to the thread's list; the owner's.
    #[inline]
    pub(crate) fn note_handed(&self, count: u32, slot_bytes: u32) {
        let bytes = u64::from(count) * u64::from(slot_bytes);
        let handed = self.handed_bytes.load(Ordering::Relaxed) + bytes;
        self.handed_bytes.store(handed, Ordering::Relaxed);
    }

    /// The span that refills `class_index`.
    #[inline]
    pub(crate) fn current(&self, class_index: usize) -> SliceIndex {
        self.currents[class_index].load(Ordering::Relaxed)
    }

    /// Notes which span refills `class_index`. With the lock held.
    #[inline]
    pub(crate) fn set_current(&self, class_index: usize, index: SliceIndex) {
        self.currents[class_index].store(index, Ordering::Relaxed);
    }

    /// Takes the class's current span away from it, if it has one. With the lock held.
    pub(crate) fn take_current(&self, class_index: usize) -> Option<SliceIndex> {
        let index = self.current(class_index);
        self.set_current(class_index, NO_SLICE);
        (index != NO_SLICE).then_some(index)
    }
}

/// A visitor's announcement to a heap's owner, who enters no quick refill while it lives. Whoever
/// makes one holds the heap's lock.
#[derive(Debug)]
pub(crate) struct Announced<'a> {
    quick: &'a Seizure,
}

impl<'a> Announced<'a> {
    pub(crate) fn to(heap: &'a Heap) -> Self {
        heap.quick.announce();
        Self { quick: &heap.quick }
    }

    /// After a barrier on all threads: whether the owner is out, or comes out at once.
    pub(crate) fn is_owner_out(&self) -> bool {
        (0..LOOK_COUNT).any(|_| {
            core::hint::spin_loop();
            self.quick.is_seized()
        })
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.quick.give_back();
    }
}

/// Keeps the owners of all heaps but the calling thread's out of quick refills, for a thread that
/// holds all locks; until [`let_owners_in`].
pub(crate) fn keep_owners_out() {
    let own = ThreadBlock::current().heap.get();
    let others = || {
        all_heaps().filter(move |heap| {
            heap.owner.load(Ordering::Relaxed) >= THREAD_MIN && !core::ptr::eq(*heap, own)
        })
    };
    others().for_each(|heap| heap.quick.announce());
    if others().next().is_none() {
        return;
    }
    if !can_visit() || !barrier_on_all_threads() {
        let _ = futex_wait(&AtomicU32::new(0), 0, Some(NO_BARRIER_WAIT));
    }
    for heap in others() {
        for _ in 0..YIELD_COUNT {
            if heap.quick.is_seized() {
                break;
            }
            reached!(OwnerFoundInside);
            yield_now();
        }
    }
}

/// Ends what [`keep_owners_out`] began; also in the child of a fork.
pub(crate) fn let_owners_in() {
    all_heaps().for_each(|heap| heap.quick.give_back());
}

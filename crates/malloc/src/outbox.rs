//! Blocks of other threads that this one has freed, collected until there are enough of them to be
//! worth a compare-and-swap on a cache line that both threads write.
//!
//! A thread that only frees has no slow path in which it would send the rest, and keeps up to 128
//! blocks, and as many pages, from going back. So a purger may seize the outbox of a thread that
//! does not come by ([`Outbox::want`]); the thread sends its blocks one by one meanwhile.

use core::cell::Cell;

use heapwright_sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use heapwright_sync::{Link, Seizure};

use crate::block::{self, Block};
use crate::descriptor::{NO_SLICE, SliceIndex};
use crate::free::{free_redirected, head_of};
use crate::heap::Heap;
use crate::purge::note_work;
use crate::span::Span;

/// Heaps that blocks are collected for at the same time.
const CHAIN_COUNT: usize = 4;
/// A chain is sent when it has so many blocks or bytes.
const CHAIN_BLOCKS_MAX: u32 = 32;
const CHAIN_BYTES_MAX: u32 = 16 * 1024;

/// Blocks for one heap, linked.
struct Chain {
    heap: Cell<*const Heap>,
    /// Read by walks, as are the two below: `count` blocks lead from here to `last`.
    first: AtomicPtr<Link>,
    last: AtomicPtr<Link>,
    count: AtomicU32,
    bytes: Cell<u32>,
    /// The span of the batch at the front, its last block and how many it has.
    batch_span: Cell<SliceIndex>,
    batch_last: Cell<Block>,
    batch_count: Cell<u32>,
}

/// A thread's chains; that thread's alone, but for the seizure.
pub(crate) struct Outbox {
    /// Between the thread in `add` and a purger that holds the heap's lock.
    seizure: Seizure,
    chains: [Chain; CHAIN_COUNT],
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It waits for others.
    Kept,
    /// It went home, with others.
    Sent,
    /// It is the caller's still: somebody else is at the outbox.
    Refused,
}

impl Chain {
    const fn new() -> Self {
        Self {
            heap: Cell::new(core::ptr::null()),
            first: AtomicPtr::new(core::ptr::null_mut()),
            last: AtomicPtr::new(core::ptr::null_mut()),
            count: AtomicU32::new(0),
            bytes: Cell::new(0),
            batch_span: Cell::new(NO_SLICE),
            batch_last: Cell::new(core::ptr::null_mut()),
            batch_count: Cell::new(0),
        }
    }

    fn send(&self) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let first = self.first.load(Ordering::Relaxed);
        let last = self.last.load(Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
        self.bytes.set(0);
        // The owner may not come by to take them in.
        note_work();
        // SAFETY: heaps live for ever; the chain is not empty, so it has one.
        let Some(heap) = (unsafe { self.heap.get().as_ref() }) else { return };
        // SAFETY: the blocks were given up by the program and are in no other list.
        if unsafe { heap.remote.push(first, last) }.is_ok() {
            return;
        }
        // The thread has ended, and its spans have gone to somebody else.
        let mut block = first;
        loop {
            // The refused push has overwritten the last link only.
            // SAFETY: linked by `add`; still ours.
            let next = unsafe { block::next(block) };
            let is_last = block == last;
            if let Some(head) = head_of(block.cast()) {
                free_redirected(head, block, None);
            }
            if is_last {
                return;
            }
            block = next;
        }
    }
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self { seizure: Seizure::new(), chains: [const { Chain::new() }; CHAIN_COUNT] }
    }

    /// Collects `block` of `span`, given up by the program, for `heap`, whose span that is.
    pub(crate) fn add(&self, heap: &Heap, block: Block, span: Span) -> Added {
        if !self.seizure.enter() {
            return Added::Refused;
        }
        let heap_place = core::ptr::from_ref(heap);
        // Heaps are about a KiB apart.
        let chain = &self.chains[(heap_place.addr() >> 10) % CHAIN_COUNT];
        if chain.heap.get() != heap_place {
            chain.send();
            chain.heap.set(heap_place);
        }
        let count = chain.count.load(Ordering::Relaxed);
        if count == 0 {
            chain.last.store(block, Ordering::Relaxed);
        } else {
            // SAFETY: the block is ours.
            unsafe { block::set_next(block, chain.first.load(Ordering::Relaxed)) };
        }
        if count == 0 || chain.batch_span.get() != span.index() {
            chain.batch_span.set(span.index());
            chain.batch_last.set(block);
            chain.batch_count.set(0);
        }
        chain.batch_count.set(chain.batch_count.get() + 1);
        // SAFETY: the block is ours, and in the span that the last one of the batch is in.
        unsafe { block::set_batch(block, chain.batch_last.get(), chain.batch_count.get()) };
        // Release: pairs with the Acquire in `read`; publishes link and last block.
        chain.first.store(block, Ordering::Release);
        let bytes = chain.bytes.get() + span.geometry().slot_bytes;
        chain.count.store(count + 1, Ordering::Relaxed);
        chain.bytes.set(bytes);
        let is_full = count + 1 >= CHAIN_BLOCKS_MAX || bytes >= CHAIN_BYTES_MAX;
        if is_full {
            chain.send();
        }
        self.seizure.leave();
        if is_full { Added::Sent } else { Added::Kept }
    }

    /// Whether there seems to be something in it; for anybody.
    pub(crate) fn is_empty_hint(&self) -> bool {
        self.chains.iter().all(|chain| chain.count.load(Ordering::Relaxed) == 0)
    }

    /// For a purger with the heap's lock: wants to send everything. Next comes a barrier on all
    /// threads, then [`Outbox::flush_for_owner`] or, without a barrier, [`Outbox::forgo`].
    pub(crate) fn want(&self) {
        self.seizure.announce();
    }

    /// For a purger that said it wants to, with the heap's lock still, after a barrier on all
    /// threads: sends everything, unless the owner is in the middle of a free.
    pub(crate) fn flush_for_owner(&self) {
        if self.seizure.is_seized() {
            self.flush();
        }
        self.seizure.give_back();
    }

    /// Ends what [`Outbox::want`] began.
    pub(crate) fn forgo(&self) {
        self.seizure.give_back();
    }

    /// In the child of a fork that nobody announced, when a purger was at work on the heap: what
    /// it had in hand is lost.
    pub(crate) fn forget(&self) {
        for chain in &self.chains {
            chain.count.store(0, Ordering::Relaxed);
            chain.bytes.set(0);
        }
        self.seizure.give_back();
    }

    /// Calls `each` with the blocks of all chains until it says no: for a walk, which keeps every
    /// owner from taking blocks out of its queue, while the thread may add and send. A chain that
    /// is sent meanwhile leads on into the queue.
    pub(crate) fn read(&self, mut each: impl FnMut(Block) -> bool) {
        for chain in &self.chains {
            if chain.count.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Acquire: pairs with the Release in `add`; the last block is no older than the first.
            let mut block = chain.first.load(Ordering::Acquire);
            let last = chain.last.load(Ordering::Relaxed);
            while each(block) && block != last {
                // SAFETY: `each` said that it is a slot; it is in the chain or in a queue, where
                // links are written before blocks are published.
                block = unsafe { block::next(block) };
            }
        }
    }

    /// Sends everything; for the owner with its heap's lock, which keeps purgers away.
    pub(crate) fn flush(&self) {
        for chain in &self.chains {
            chain.send();
        }
    }
}

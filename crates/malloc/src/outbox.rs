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
/// A chain is sent when it has so many bytes, of which each block counts for a few hundred at least:
/// so 32 blocks, or fewer when they are large.
const CHAIN_BYTES_MAX: i32 = 16 * 1024;
const BLOCK_BYTES_MIN: i32 = CHAIN_BYTES_MAX / 32;

/// Blocks for one heap, linked.
struct Chain {
    heap: Cell<*const Heap>,
    /// Read by walks, as are the two below: `count` blocks lead from here to `last`.
    first: AtomicPtr<Link>,
    last: AtomicPtr<Link>,
    count: AtomicU32,
    /// Bytes that there is room for.
    room_bytes: Cell<i32>,
    /// The span of the batch at the front, none in an empty chain; its last block and how many it
    /// has. Its first block is told only when it ends.
    batch_span: Cell<SliceIndex>,
    batch_last: Cell<Block>,
    batch_count: Cell<u32>,
    /// What a block of it counts for.
    batch_block_bytes: Cell<i32>,
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
            room_bytes: Cell::new(CHAIN_BYTES_MAX),
            batch_span: Cell::new(NO_SLICE),
            batch_last: Cell::new(core::ptr::null_mut()),
            batch_count: Cell::new(0),
            batch_block_bytes: Cell::new(0),
        }
    }

    fn clear(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.room_bytes.set(CHAIN_BYTES_MAX);
        self.batch_span.set(NO_SLICE);
    }

    /// Puts `block`, of the span and the heap of the batch, in front of it; whether there is room
    /// for more then.
    #[inline(always)]
    fn push(&self, block: Block) -> bool {
        // SAFETY: the block was given up by the program.
        unsafe { block::set_next(block, self.first.load(Ordering::Relaxed)) };
        // Release: pairs with the Acquire in `read`; publishes link and last block.
        self.first.store(block, Ordering::Release);
        let count = self.count.load(Ordering::Relaxed) + 1;
        self.count.store(count, Ordering::Relaxed);
        let batch_count = self.batch_count.get() + 1;
        self.batch_count.set(batch_count);
        let room_bytes = self.room_bytes.get() - self.batch_block_bytes.get();
        self.room_bytes.set(room_bytes);
        room_bytes > 0
    }

    /// Tells the owner, in the first block of the batch at the front, where it ends.
    fn end_batch(&self) {
        if self.batch_span.replace(NO_SLICE) != NO_SLICE {
            let first = self.first.load(Ordering::Relaxed);
            let count = self.batch_count.get();
            // SAFETY: the block is ours still, and in the span that the last one is in.
            unsafe { block::set_batch(first, self.batch_last.get(), count) };
        }
    }

    /// Begins a batch of `span` with `block`, its last one.
    fn begin_batch(&self, block: Block, span: Span) {
        self.end_batch();
        self.batch_span.set(span.index());
        self.batch_last.set(block);
        self.batch_count.set(0);
        self.batch_block_bytes.set((span.geometry().slot_bytes as i32).max(BLOCK_BYTES_MIN));
    }

    fn send(&self) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.end_batch();
        let first = self.first.load(Ordering::Relaxed);
        let last = self.last.load(Ordering::Relaxed);
        self.clear();
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

    fn chain_of(&self, heap: *const Heap) -> &Chain {
        // Heaps are about a KiB apart.
        &self.chains[(heap.addr() >> 10) % CHAIN_COUNT]
    }

    /// The common half of [`Outbox::add`], in some thirty instructions: `block`, of the span
    /// `index` of `heap`, goes the way of the one before, and there is room for more. Else it is
    /// the caller's still.
    #[inline(always)]
    pub(crate) fn add_to_batch(&self, heap: *const Heap, block: Block, index: SliceIndex) -> bool {
        if !self.seizure.enter() {
            return false;
        }
        let chain = self.chain_of(heap);
        let is_like_last = chain.batch_span.get() == index
            && core::ptr::eq(chain.heap.get(), heap)
            && chain.room_bytes.get() > chain.batch_block_bytes.get();
        if is_like_last {
            chain.push(block);
        }
        self.seizure.leave();
        is_like_last
    }

    /// Collects `block` of `span`, given up by the program, for `heap`, whose span that is.
    pub(crate) fn add(&self, heap: &Heap, block: Block, span: Span) -> Added {
        if !self.seizure.enter() {
            return Added::Refused;
        }
        let chain = self.chain_of(heap);
        if !core::ptr::eq(chain.heap.get(), heap) {
            chain.send();
            chain.heap.set(heap);
        }
        if chain.count.load(Ordering::Relaxed) == 0 {
            chain.last.store(block, Ordering::Relaxed);
        }
        if chain.batch_span.get() != span.index() {
            chain.begin_batch(block, span);
        }
        let has_room = chain.push(block);
        if !has_room {
            chain.send();
        }
        self.seizure.leave();
        if has_room { Added::Kept } else { Added::Sent }
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
        self.chains.iter().for_each(Chain::clear);
        self.seizure.give_back();
    }

    /// In the child of a fork, for a thread that is not there: when it was in the middle of a free,
    /// what it had in hand is lost.
    pub(crate) fn forget_if_cut(&self) {
        if !self.seizure.is_seized() {
            self.forget();
            self.seizure.leave();
        }
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

//! Owners of a slab's spans as a state machine, checked by loom: one frees and leaves, a newcomer
//! gets its number, another thread frees into the span all the while.
//! docs/design/regions.md#SL6 has the rule; `heapwright-regions` has the protocol as
//! `slab::shared`. What is kept here is who looks at whom in which order; a span has two slots, and
//! whoever touches them is seen by the model if another thread might at the same time.
#![cfg(loom)]

use heapwright_sync::atomic::{AtomicUsize, Ordering};
use heapwright_sync::{Link, RemoteQueue};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};

const OWNERS: usize = 2;
const NOBODY: usize = OWNERS;
const SLOTS: usize = 2;

/// What the lock guards.
#[derive(Default)]
struct Common {
    /// Bit `n`: there is a handle of that number.
    exists: usize,
    /// The span has free slots and no owner.
    is_orphan: bool,
}

struct Slab {
    queues: [RemoteQueue; OWNERS],
    common: Mutex<Common>,
    owner: AtomicUsize,
    /// SL6: which slots came back. The owner's, or with none the lock holder's.
    free: UnsafeCell<[bool; SLOTS]>,
    blocks: [*mut Link; SLOTS],
}

// SAFETY: blocks belong to whoever has them, as the model checks; cells are loom's.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

impl Slab {
    /// A span of owner 0 with both slots in use; both owners are there.
    fn new() -> Self {
        Self {
            queues: std::array::from_fn(|_| RemoteQueue::new()),
            common: Mutex::new(Common { exists: 0b11, is_orphan: false }),
            owner: AtomicUsize::new(0),
            free: UnsafeCell::new([false; SLOTS]),
            blocks: std::array::from_fn(|_| {
                Box::into_raw(Box::new(Link { next: std::ptr::null_mut() }))
            }),
        }
    }

    /// The span's slots, for who may touch them.
    fn put(&self, block: *mut Link) -> usize {
        let slot = self.blocks.iter().position(|one| *one == block).expect("a block of ours");
        self.free.with_mut(|free| {
            // SAFETY: loom ends the model if another thread has it now.
            let free = unsafe { &mut *free };
            assert!(!free[slot], "SL3: slot {slot} came back twice");
            free[slot] = true;
            free.iter().filter(|is_free| **is_free).count()
        })
    }

    fn free_count(&self) -> usize {
        // SAFETY: as in `put`.
        self.free.with(|free| unsafe { &*free }.iter().filter(|is_free| **is_free).count())
    }

    /// A block comes back to handle `me`: `Caches::settle`.
    fn settle(&self, me: usize, block: *mut Link) {
        let owner = self.owner.load(Ordering::Relaxed);
        if owner == me {
            self.put(block);
        } else {
            self.send(owner, block);
        }
    }

    /// `Seat::send`.
    fn send(&self, owner: usize, block: *mut Link) {
        if let Some(queue) = self.queues.get(owner) {
            // SAFETY: a block that this thread has, in no list.
            if unsafe { queue.push(block, block) }.is_ok() {
                return;
            }
        }
        let mut common = self.common.lock().expect("nobody panicked");
        let owner = self.owner.load(Ordering::Relaxed);
        if owner != NOBODY && common.exists >> owner & 1 == 1 {
            // SAFETY: as above.
            let sent = unsafe { self.queues[owner].push(block, block) };
            sent.expect("a queue is open while its owner exists");
            return;
        }
        self.owner.store(NOBODY, Ordering::Relaxed);
        // An empty span is given away, one that was full has slots now.
        common.is_orphan = self.put(block) < SLOTS;
    }

    /// The queue's blocks, brought to their span.
    fn take_in(&self, me: usize, mut first: *mut Link) {
        while !first.is_null() {
            let block = first;
            // SAFETY: taken from the queue, so ours.
            first = unsafe { block.read() }.next;
            self.settle(me, block);
        }
    }

    /// `SlabLocal::drop`.
    fn leave(&self, me: usize) {
        let mut common = self.common.lock().expect("nobody panicked");
        let left = self.queues[me].close();
        common.exists &= !(1 << me);
        if self.owner.load(Ordering::Relaxed) == me {
            let free_count = self.free_count();
            // A full span is on no list and keeps the number.
            if free_count > 0 {
                self.owner.store(NOBODY, Ordering::Relaxed);
                common.is_orphan = free_count < SLOTS;
            }
        }
        drop(common);
        let mut next = left;
        while !next.is_null() {
            let block = next;
            // SAFETY: blocks that were in our queue are ours alone now.
            next = unsafe { block.read() }.next;
            self.send(NOBODY, block);
        }
    }

    /// `SharedSlab::local`, then what a refill does: take in what arrived, adopt an orphan.
    fn come(&self, me: usize) {
        let mut common = self.common.lock().expect("nobody panicked");
        common.exists |= 1 << me;
        self.queues[me].open();
        drop(common);
        self.take_in(me, self.queues[me].take());
        let mut common = self.common.lock().expect("nobody panicked");
        if std::mem::take(&mut common.is_orphan) {
            self.owner.store(me, Ordering::Relaxed);
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        for block in self.blocks {
            // SAFETY: made in `new`; every thread has ended.
            drop(unsafe { Box::from_raw(block) });
        }
    }
}

/// Owner 0 frees the slots of `frees` and leaves, a newcomer in its place takes what it finds and
/// leaves; owner 1 frees the others meanwhile. Everything is back once, and no two touched the
/// span at once.
fn owner_leaves(frees: usize) {
    loom::model(move || {
        let slab = Arc::new(Slab::new());
        let other = {
            let slab = Arc::clone(&slab);
            loom::thread::spawn(move || {
                for slot in frees..SLOTS {
                    slab.settle(1, slab.blocks[slot]);
                }
            })
        };
        for slot in 0..frees {
            slab.settle(0, slab.blocks[slot]);
        }
        slab.leave(0);
        slab.come(0);
        slab.leave(0);
        other.join().expect("no panic");
        slab.come(0);
        slab.leave(0);
        assert_eq!(slab.free_count(), SLOTS, "SL3: a slot is lost");
        assert!(!slab.common.lock().expect("nobody panicked").is_orphan);
    });
}

#[test]
fn a_span_with_free_slots_finds_a_new_owner() {
    owner_leaves(1);
}

#[test]
fn a_full_span_passes_to_who_gets_its_number() {
    owner_leaves(0);
}

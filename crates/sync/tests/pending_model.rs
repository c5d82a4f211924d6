//! The life of a span as a state machine, checked by loom: active, made passive behind its owner's
//! back while the owner is in the middle of a free, pending, settled by the owner.
//! design/malloc.md#pending has the protocol; `heapwright-malloc` has it as `purge::visit`,
//! `free::push_local`, `Span::links_to_bits` and `Entered::settle_pending`. What is kept here is
//! who stores what in which order; slots are bits of a number.
//!
//! The purger's membarrier(2) is a fence in the owner wherever he stands. A model cannot place a
//! fence in another thread, so the owner has one between any two steps of a free: at the moment of
//! the purger's barrier that is the same.
#![cfg(loom)]

use heapwright_sync::Seizure;
use heapwright_sync::atomic::{AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Mutex};

/// `owner`: the thread, or nobody.
const THREAD: usize = 1;
const PASSIVE: usize = 2;
/// No block.
const NONE: usize = usize::MAX;
/// Slots of the span, all used at first.
const SLOTS: usize = 3;

/// What the class's lock guards.
#[derive(Default)]
struct Class {
    bits: usize,
    is_pending: bool,
}

struct Span {
    owner: AtomicUsize,
    local_free: AtomicUsize,
    links: [AtomicUsize; SLOTS],
    class: Mutex<Class>,
    /// The heap's lock.
    heap: Mutex<()>,
    /// Blocks that others sent home.
    remote: AtomicUsize,
}

impl Span {
    fn new() -> Self {
        Self {
            owner: AtomicUsize::new(THREAD),
            local_free: AtomicUsize::new(NONE),
            links: std::array::from_fn(|_| AtomicUsize::new(NONE)),
            class: Mutex::default(),
            heap: Mutex::new(()),
            remote: AtomicUsize::new(NONE),
        }
    }

    fn set_bit(class: &mut Class, slot: usize) {
        assert_eq!(class.bits >> slot & 1, 0, "I1: slot {slot} freed twice");
        class.bits |= 1 << slot;
    }

    /// The owner's hot path.
    fn free_by_owner(&self, slot: usize) {
        if self.owner.load(Ordering::Acquire) != THREAD {
            return Self::set_bit(&mut self.class.lock().unwrap(), slot);
        }
        fence(Ordering::SeqCst);
        self.links[slot].store(self.local_free.load(Ordering::Relaxed), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // A plain store in truth. Loom lets a plain store come between the two halves of another
        // thread's exchange, which no processor does; two exchanges keep their order.
        self.local_free.swap(slot, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Another thread's free, the queue being that of the one owner there ever is.
    fn free_by_other(&self, slot: usize) {
        if self.owner.load(Ordering::Acquire) != THREAD {
            return Self::set_bit(&mut self.class.lock().unwrap(), slot);
        }
        let mut head = self.remote.load(Ordering::Relaxed);
        loop {
            self.links[slot].store(head, Ordering::Relaxed);
            match self.remote.compare_exchange(head, slot, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn list(&self, mut slot: usize, mut each: impl FnMut(usize)) {
        while slot != NONE {
            let next = self.links[slot].load(Ordering::Relaxed);
            each(slot);
            slot = next;
        }
    }

    /// A purger's visit to a heap that it holds for idle.
    fn visit(&self) {
        let heap = self.heap.lock().unwrap();
        let remote = self.remote.swap(NONE, Ordering::Acquire);
        self.owner.store(PASSIVE, Ordering::Release);
        fence(Ordering::SeqCst);
        let mut class = self.class.lock().unwrap();
        let linked = self.local_free.swap(NONE, Ordering::Acquire);
        self.list(linked, |slot| Self::set_bit(&mut class, slot));
        class.is_pending = true;
        drop(class);
        drop(heap);
        self.list(remote, |slot| Self::set_bit(&mut self.class.lock().unwrap(), slot));
    }

    /// The owner's slow path: what is pending is settled, what others sent is taken in. Returns
    /// the slots that are linked still.
    fn enter(&self) -> usize {
        let _heap = self.heap.lock().unwrap();
        let mut class = self.class.lock().unwrap();
        let mut linked = 0;
        if class.is_pending {
            let late = self.local_free.swap(NONE, Ordering::Relaxed);
            if late != NONE {
                Self::set_bit(&mut class, late);
            }
            class.is_pending = false;
        } else {
            self.list(self.local_free.load(Ordering::Relaxed), |slot| linked |= 1 << slot);
        }
        let remote = self.remote.swap(NONE, Ordering::Acquire);
        self.list(remote, |slot| Self::set_bit(&mut class, slot));
        linked
    }
}

/// The owner frees twice while a purger comes by, then enters a slow path: every slot is free
/// exactly once, linked or in the bitmap. At most three preemptions.
#[test]
fn no_slot_is_lost_when_a_span_becomes_passive_behind_its_owner() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let span = Arc::new(Span::new());
        let purger = {
            let span = Arc::clone(&span);
            loom::thread::spawn(move || span.visit())
        };
        span.free_by_owner(0);
        span.free_by_owner(1);
        let linked = span.enter();
        purger.join().unwrap();
        // If the purger came after that slow path, the next one settles it.
        let linked = if span.class.lock().unwrap().is_pending { span.enter() } else { linked };
        let bits = span.class.lock().unwrap().bits;
        assert_eq!(linked & bits, 0, "I1: in two places");
        assert_eq!(linked | bits, 0b11);
    });
}

/// The same with a third thread that frees into the span meanwhile, by the queue or the bitmap.
#[test]
fn no_slot_of_another_thread_is_lost_either() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let span = Arc::new(Span::new());
        let purger = {
            let span = Arc::clone(&span);
            loom::thread::spawn(move || span.visit())
        };
        let other = {
            let span = Arc::clone(&span);
            loom::thread::spawn(move || span.free_by_other(2))
        };
        span.free_by_owner(0);
        purger.join().unwrap();
        other.join().unwrap();
        let linked = span.enter();
        let bits = span.class.lock().unwrap().bits;
        assert_eq!((linked, bits), (0, 0b101));
    });
}

/// An outbox of a thread that adds while a purger empties it: each block is sent once, by the
/// purger, by the owner at its end, or at once when the owner was kept out.
#[test]
fn no_block_in_an_outbox_is_lost_or_sent_twice() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((Seizure::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let purger = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || {
                let (seizure, chain, sent) = &*shared;
                seizure.announce();
                fence(Ordering::SeqCst);
                if seizure.is_seized() {
                    // Plain accesses of the chain: nobody else is at it.
                    sent.fetch_add(chain.load(Ordering::Relaxed), Ordering::Relaxed);
                    chain.store(0, Ordering::Relaxed);
                }
                seizure.give_back();
            })
        };
        let (seizure, chain, sent) = &*shared;
        for block in [1, 16] {
            if seizure.enter() {
                chain.store(chain.load(Ordering::Relaxed) + block, Ordering::Relaxed);
                seizure.leave();
            } else {
                sent.fetch_add(block, Ordering::Relaxed);
            }
        }
        purger.join().unwrap();
        assert_eq!(sent.load(Ordering::Relaxed) + chain.load(Ordering::Relaxed), 17);
    });
}

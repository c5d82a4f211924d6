//! For tests: a thread stands at a named instant of the slow paths until it is told to go on; and
//! the tests of what a purger, or who takes all locks, may do while an owner stands inside a quick
//! refill (design/malloc.md#quick).
//!
//! `tests/stopped_owner.rs` stops an owner at every instruction of malloc and free; but since each
//! purge takes its spans away, the refills that it sees are never quick ones.

extern crate std;

use std::cell::RefCell;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::thread_local;
use std::time::Duration;
use std::vec::Vec;

use heapwright_core::size_class::class_of;
use heapwright_sync::atomic::Ordering;

use crate::alloc::alloc;
use crate::descriptor::{NO_SLICE, Place};
use crate::free::free;
use crate::geometry::Geometry;
use crate::heap::Heap;
use crate::pool::all_heaps;
use crate::purge::{Eagerness, visit};
use crate::purger::can_visit;
use crate::span::Span;
use crate::thread_block::ThreadBlock;
use crate::walk::LiveBlocks;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a thread can be stopped, or have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instant {
    /// An owner is about to enter a quick refill.
    BeforeQuick,
    /// It is inside, and has read nothing yet.
    QuickEntered,
    /// It has read what the span has linked, and not taken it.
    LinksRead,
    /// It has taken the list, and not counted it.
    LinksTaken,
    /// The list is its own, and it is about to leave.
    QuickDone,
    /// The ordinary refill begins.
    Ordinary,
    /// A purger found the owner out, and has touched no link yet.
    OwnerFoundOut,
    /// Who takes all locks found an owner inside.
    OwnerFoundInside,
}

#[derive(Default)]
struct State {
    /// Where the thread is to stop.
    wanted: Option<Instant>,
    /// Where it stands.
    standing: Option<Instant>,
    /// Where it came by since it was asked last.
    passed: Vec<Instant>,
    is_over: bool,
}

/// Stops one thread and lets it go on.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

thread_local! {
    static GATE: RefCell<Option<Arc<Gate>>> = const { RefCell::new(None) };
}

/// The calling thread has come to `instant`; it stands here when a test wants it to.
pub(crate) fn reached(instant: Instant) {
    // A thread that ends has none any more.
    let gate = GATE.try_with(|gate| gate.borrow().clone()).ok().flatten();
    if let Some(gate) = gate {
        gate.stand(instant);
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked here")
    }

    /// For the thread.
    fn stand(&self, instant: Instant) {
        let mut state = self.state();
        state.passed.push(instant);
        if state.wanted == Some(instant) {
            state.standing = Some(instant);
        }
        self.changed.notify_all();
        while state.standing.is_some() {
            state = self.changed.wait(state).expect("no test panicked here");
        }
    }

    /// For the thread: the instants of this gate are the calling thread's from here on.
    fn watch(self: &Arc<Self>) {
        GATE.set(Some(Arc::clone(self)));
    }

    /// Waits until `is_done`.
    #[track_caller]
    fn wait(&self, is_done: impl Fn(&State) -> bool) {
        let state = self.state();
        let (state, timeout) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !is_done(state))
            .expect("no test panicked here");
        assert!(!timeout.timed_out(), "{:?} since it was asked last", state.passed);
    }

    /// Has the thread stop at `instant`, and waits until it stands there.
    #[track_caller]
    fn stop_at(&self, instant: Instant) {
        self.state().wanted = Some(instant);
        self.wait(|state| state.standing.is_some());
    }

    /// Lets the thread go on; what it passes from here on is kept.
    fn release(&self) {
        let mut state = self.state();
        state.wanted = None;
        state.standing = None;
        state.passed.clear();
        self.changed.notify_all();
    }

    fn end(&self) {
        self.state().is_over = true;
        self.changed.notify_all();
    }

    fn is_over(&self) -> bool {
        self.state().is_over
    }
}

const BLOCK_BYTES: usize = 1024;

/// All slots of a span, so that what is linked is enough for a quick refill.
fn batch_count() -> usize {
    usize::from(Geometry::of(class_of(BLOCK_BYTES)).slot_count)
}

/// Takes a batch and gives it back; each block keeps what was written.
fn batch() {
    let blocks: Vec<*mut u8> = (0..batch_count())
        .map(|number| {
            let block = alloc(BLOCK_BYTES);
            // SAFETY: a fresh block of that length.
            unsafe { block.write_bytes(number as u8 + 1, BLOCK_BYTES) };
            block
        })
        .collect();
    for (number, block) in blocks.into_iter().enumerate() {
        // SAFETY: a live block of that length.
        let bytes = unsafe { core::slice::from_raw_parts(block, BLOCK_BYTES) };
        assert!(bytes.iter().all(|byte| *byte == number as u8 + 1), "handed out twice");
        // SAFETY: live, and not used again.
        unsafe { free(block) };
    }
}

/// One test at a time: each has to find the locks that it wants free.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that takes and gives back batches until its gate says that it is over.
struct Owner {
    gate: Arc<Gate>,
    token: usize,
    thread: JoinHandle<()>,
}

/// The heap of the thread with that token.
fn heap_of(token: usize) -> &'static Heap {
    let is_its = |heap: &&Heap| heap.owner.load(Ordering::Relaxed) == token;
    all_heaps().find(is_its).expect("it has one")
}

impl Owner {
    fn start() -> Self {
        let gate = Arc::new(Gate::default());
        let (tell, told) = channel();
        let own = Arc::clone(&gate);
        let thread = spawn(move || {
            batch();
            tell.send(ThreadBlock::token()).expect("somebody asks");
            own.watch();
            while !own.is_over() {
                batch();
            }
        });
        Self { gate, token: told.recv().expect("its token"), thread }
    }

    /// Has the owner stop at `instant`, and says which span refills it.
    #[track_caller]
    fn stop_at(&self, instant: Instant) -> Span {
        loop {
            self.gate.stop_at(instant);
            let index = heap_of(self.token).current(class_of(BLOCK_BYTES));
            if index != NO_SLICE {
                return Span::at(index);
            }
            // The process's own purger was here.
            self.gate.release();
        }
    }

    /// The owner uses its heap for a while and ends.
    #[track_caller]
    fn go_on_and_end(self) {
        self.gate.release();
        for _ in 0..20 {
            self.gate.stop_at(Instant::Ordinary);
            self.gate.release();
        }
        self.gate.end();
        self.thread.join().expect("its blocks were its own");
    }
}

/// Says why a test cannot be made here, when that is so.
fn is_possible() -> bool {
    let is_possible = can_visit();
    if !is_possible {
        std::eprintln!("the kernel has no barrier on all threads here: not tested");
    }
    is_possible
}

#[test]
fn a_purger_leaves_the_links_of_an_owner_inside_alone() {
    if !is_possible() {
        return;
    }
    let _alone = alone();
    let owner = Owner::start();
    let inside =
        [Instant::QuickEntered, Instant::LinksRead, Instant::LinksTaken, Instant::QuickDone];
    for instant in inside.into_iter().cycle().take(12) {
        let span = owner.stop_at(instant);
        let bit_count = || span.head().bit_count.load(Ordering::Relaxed);
        let before = bit_count();
        // Somebody else of this process may hold the heap's lock for a moment.
        while !span.place().is_pending() {
            visit(heap_of(owner.token), Eagerness::All);
        }
        assert_eq!(span.place(), Place::PendingLinked, "{instant:?}");
        assert_eq!(bit_count(), before, "{instant:?}");
        owner.gate.release();
        // It settles what is pending, and has long lists again.
        owner.gate.stop_at(Instant::Ordinary);
        owner.gate.release();
    }
    owner.go_on_and_end();
}

#[test]
fn an_owner_stays_out_while_a_purger_moves_its_links() {
    if !is_possible() {
        return;
    }
    let _alone = alone();
    let owner = Owner::start();
    let mut rounds = 0;
    while rounds < 4 {
        owner.stop_at(Instant::BeforeQuick);
        let gate = Arc::new(Gate::default());
        let (own, token) = (Arc::clone(&gate), owner.token);
        gate.state().wanted = Some(Instant::OwnerFoundOut);
        let purger = spawn(move || {
            own.watch();
            visit(heap_of(token), Eagerness::All);
            own.end();
        });
        gate.wait(|state| state.standing.is_some() || state.is_over);
        owner.gate.release();
        if gate.is_over() {
            // Somebody else of this process held the heap's lock.
            purger.join().expect("the purger");
            continue;
        }
        let either = [Instant::QuickEntered, Instant::Ordinary];
        owner.gate.wait(|state| state.passed.iter().any(|one| either.contains(one)));
        let has_entered = owner.gate.state().passed.contains(&Instant::QuickEntered);
        gate.release();
        purger.join().expect("the purger");
        assert!(!has_entered);
        rounds += 1;
    }
    owner.go_on_and_end();
}

#[test]
fn who_takes_all_locks_waits_for_an_owner_inside() {
    if !is_possible() {
        return;
    }
    let _alone = alone();
    let owner = Owner::start();
    owner.stop_at(Instant::LinksRead);
    let gate = Arc::new(Gate::default());
    gate.state().wanted = Some(Instant::OwnerFoundInside);
    let own = Arc::clone(&gate);
    let walker = spawn(move || {
        own.watch();
        let is_taken = LiveBlocks::take().is_ok();
        own.end();
        is_taken
    });
    gate.wait(|state| state.standing.is_some() || state.is_over);
    assert!(!gate.is_over(), "an owner inside was ignored");
    // It comes out, and does not go in again before all locks are free.
    owner.gate.release();
    owner.gate.wait(|state| state.passed.contains(&Instant::Ordinary));
    assert!(!owner.gate.state().passed.contains(&Instant::QuickEntered));
    gate.release();
    assert!(walker.join().expect("the walker"));
    owner.go_on_and_end();
}

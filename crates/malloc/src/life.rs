//! Threads and processes come and go.
//!
//! A thread gets its heap at its first allocation that needs one and gives it up by a pthread
//! key's destructor, in the last of the rounds that libc grants, so that other destructors find
//! their heap. What allocates later still borrows a heap for one call. Forks: `fork`.

use core::ffi::c_void;

use heapwright_os::{ThreadExit, at_fork};
use heapwright_sync::atomic::{AtomicU32, Ordering};

pub(crate) use crate::fork::{
    adopt_an_orphan, adopt_orphans_of, before_shared_lock, give_way, look_for_forks,
    look_for_raw_fork,
};
use crate::fork::{after_fork_in_child, after_fork_in_parent, before_fork, note_process};
use crate::heap::Heap;
use crate::options::read_environment;
use crate::pool::lock;
pub(crate) use crate::purger::heartbeat;
use crate::thread_block::{Life, ThreadBlock};

/// glibc and musl call destructors in at most four rounds.
const END_ROUNDS: u32 = 3;

const NO_KEY: u32 = u32::MAX;
/// The key of [`thread_ends`]. It is made once, before there can be two threads with heaps; were
/// it made twice, both keys would work.
static EXIT_KEY: AtomicU32 = AtomicU32::new(NO_KEY);
/// Whether the process's hooks were set; 1 from the first attempt on.
static HOOKS: AtomicU32 = AtomicU32::new(0);
/// Threads that have a heap.
static THREAD_COUNT: AtomicU32 = AtomicU32::new(0);

/// How many threads have a heap now: those that have allocated or freed, and not ended.
pub fn thread_count() -> u32 {
    THREAD_COUNT.load(Ordering::Relaxed)
}

/// Notes how many threads a child of a fork has.
pub(crate) fn set_thread_count(count: u32) {
    THREAD_COUNT.store(count, Ordering::Relaxed);
}

/// The thread's heap, made when it has none. None when there is no memory.
#[inline]
pub(crate) fn heap_of(thread: &ThreadBlock) -> Option<&'static Heap> {
    // SAFETY: heaps live for ever.
    match unsafe { thread.heap.get().as_ref() } {
        Some(heap) => Some(heap),
        None => attach(thread),
    }
}

#[cold]
fn attach(thread: &ThreadBlock) -> Option<&'static Heap> {
    read_environment();
    let heap = lock().take_heap()?;
    heap.owner.store(ThreadBlock::token(), Ordering::Relaxed);
    THREAD_COUNT.fetch_add(1, Ordering::Relaxed);
    // From here on the thread can allocate, which libc may do in the calls below.
    thread.heap.set(heap);
    if thread.life() == Life::Young {
        if HOOKS.swap(1, Ordering::Relaxed) == 0 {
            set_hooks();
        }
        let key = EXIT_KEY.load(Ordering::Relaxed);
        if key != NO_KEY {
            // SAFETY: stored from `to_raw`.
            let key = unsafe { ThreadExit::from_raw(key) };
            // A refusal leaves the heap to the dead thread: memory is lost, nothing breaks.
            key.arm(core::ptr::dangling());
        }
    }
    Some(heap)
}

#[cold]
fn set_hooks() {
    note_process();
    if let Some(key) = ThreadExit::new(thread_ends) {
        EXIT_KEY.store(key.to_raw(), Ordering::Relaxed);
    }
    // A refusal costs children of threaded programs their fork safety only.
    let _ = at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/// Takes the thread's heap away from it; its spans are for others to take.
pub(crate) fn give_heap_up(thread: &ThreadBlock) {
    let heap = thread.heap.replace(core::ptr::null());
    // SAFETY: heaps live for ever.
    if let Some(heap) = unsafe { heap.as_ref() } {
        let mut entered = heap.enter();
        entered.abandon_all(thread);
        // Before the lock is free: a fork must not take an empty, closed heap for an orphan.
        heap.owner.store(0, Ordering::Relaxed);
        drop(entered);
        THREAD_COUNT.fetch_sub(1, Ordering::Relaxed);
        lock().keep_heap(heap);
    }
}

unsafe extern "C" fn thread_ends(_: *mut c_void) {
    let thread = ThreadBlock::current();
    let round = thread.end_rounds.get();
    let key = EXIT_KEY.load(Ordering::Relaxed);
    if round < END_ROUNDS && key != NO_KEY {
        thread.end_rounds.set(round + 1);
        // SAFETY: stored from `to_raw`.
        let key = unsafe { ThreadExit::from_raw(key) };
        if key.arm(core::ptr::dangling()) {
            return;
        }
    }
    thread.end();
    give_heap_up(thread);
}

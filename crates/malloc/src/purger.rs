//! Who purges, and when.
//!
//! A process with one thread does it itself, in slow paths, when a quarter of a second has gone by.
//! A process that has threads anyway gets one more, started when there is something to purge, and
//! ending when there is nothing: so nobody who only looks at threads, and no process that waits
//! for its last thread to end, has to wait for ours longer than a moment.

use core::ffi::c_void;
use core::time::Duration;

use heapwright_os::{cycle_counter, futex_wait, register_barriers, spawn_helper};
use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::beat::beat;
use crate::descriptor::THREAD_MIN;
use crate::fork::is_unannounced_child;
use crate::free::is_freeing_for_the_loader;
use crate::huge;
use crate::life::{self, thread_count};
use crate::limits::is_purger_allowed;
use crate::merge::{Merger, REQUESTS, forced_interval, round_alone};
use crate::options::read_environment;
use crate::pool::all_heaps;
use crate::pressure;
use crate::purge::{
    Eagerness, has_work, note_work, purge_shared, retire_cold_spans, take_work, visit,
};
use crate::runs::ever_used_bytes;
use crate::thread_block::ThreadBlock;
use crate::walk;

/// Time between two rounds.
const ROUND: Duration = Duration::from_millis(200);
/// Rounds without anything to do after which the purger ends.
const QUIET_ROUNDS_MAX: u32 = 4;
/// Bytes of the purger's stack, the thread-local storage of the program's objects included.
const STACK_BYTES: usize = 256 * 1024;
/// Cycles between two looks of a single thread at the clock: a tenth to a third of a second.
const CYCLES: u64 = 1 << 29;
/// Cycles between two stretches of a single thread that merges: a millisecond or two, of which
/// merging has less than a third.
const STRETCH_CYCLES: u64 = 1 << 22;

/// Nothing is purged before so much was ever used: less than what a purger costs and the accuracy
/// that anybody could ask for.
const BYTES_MIN: usize = 1 << 20;

/// How short memory is around the process is not asked before it has used so much: all that it
/// could give back is not worth the files that are read for that, nor the code that reads them.
const LOOK_BYTES_MIN: usize = 8 << 20;

const NONE: u32 = 0;
const RUNNING: u32 = 1;
/// There can be none in this process.
const REFUSED: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(NONE);
/// When a single thread looks again, and when it purges.
static NEXT_CYCLES: AtomicU64 = AtomicU64::new(0);
static ROUND_CYCLES: AtomicU64 = AtomicU64::new(0);

/// Called at the end of slow paths, without a lock: sees to it that what is overdue is purged.
#[inline]
pub(crate) fn heartbeat() {
    if has_work() {
        see_to_it();
    }
    beat();
}

#[cold]
#[inline(never)]
fn see_to_it() {
    read_environment();
    // The purger of its parent is not in a child.
    life::look_for_raw_fork();
    let state = STATE.load(Ordering::Relaxed);
    if state == RUNNING {
        return;
    }
    if ever_used_bytes() < BYTES_MIN {
        return;
    }
    if thread_count() > 1 && state == NONE && is_purger_allowed() && start() {
        return;
    }
    let now = cycle_counter();
    if now < NEXT_CYCLES.load(Ordering::Relaxed) {
        return;
    }
    if now >= ROUND_CYCLES.load(Ordering::Relaxed) {
        let cycles = if forced_interval().is_some() { STRETCH_CYCLES } else { CYCLES };
        ROUND_CYCLES.store(now.wrapping_add(cycles), Ordering::Relaxed);
        take_work();
        if round_of_owner(eagerness_now()) {
            note_work();
        }
    }
    if round_alone() {
        // In small pieces, since this thread has other things to do.
        note_work();
        NEXT_CYCLES.store(cycle_counter().wrapping_add(STRETCH_CYCLES), Ordering::Relaxed);
    } else {
        NEXT_CYCLES.store(ROUND_CYCLES.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// How hard to purge in this round.
fn eagerness_now() -> Eagerness {
    if ever_used_bytes() >= LOOK_BYTES_MIN || pressure::is_tight() {
        pressure::look(0);
    }
    if forced_interval().is_some() {
        Eagerness::All
    } else if pressure::is_tight() {
        Eagerness::Pressed
    } else {
        Eagerness::Overdue
    }
}

/// Sees to it that there is a purger; whether there is one.
pub(crate) fn ensure() -> bool {
    (STATE.load(Ordering::Relaxed) == NONE && is_purger_allowed() && start())
        || STATE.load(Ordering::Relaxed) == RUNNING
}

/// A round of the calling thread over its own heap and what is shared; whether another one is
/// wanted.
pub(crate) fn round_of_owner(eagerness: Eagerness) -> bool {
    let mut is_more = false;
    // SAFETY: heaps live for ever; null when the thread has none.
    if let Some(heap) = unsafe { ThreadBlock::current().heap.get().as_ref() } {
        let mut entered = heap.enter();
        entered.collect_remote();
        heap.outbox.flush();
        retire_cold_spans(&mut entered, eagerness);
        is_more |= entered.lists.iter().any(|lists| lists.available != crate::descriptor::NO_SLICE);
    }
    is_more | purge_shared(eagerness)
}

/// A round over all heaps but the calling thread's own; whether another one is wanted.
pub(crate) fn round_over_others(eagerness: Eagerness) -> bool {
    let own = ThreadBlock::current().heap.get();
    let mut is_more = false;
    for heap in all_heaps() {
        let is_somebodys = heap.owner.load(Ordering::Relaxed) >= THREAD_MIN;
        if is_somebodys && !core::ptr::eq(heap, own) {
            is_more |= visit(heap, eagerness);
        }
    }
    is_more
}

/// Starts a purger where a thread can be started; whether there is one now.
#[cold]
fn start() -> bool {
    if is_freeing_for_the_loader() || is_unannounced_child() {
        return false;
    }
    if STATE.compare_exchange(NONE, RUNNING, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return STATE.load(Ordering::Relaxed) == RUNNING;
    }
    // Without barriers spans of other threads cannot be made passive; runs can be purged still.
    BARRIERS.store(u32::from(register_barriers()), Ordering::Relaxed);
    let is_started = spawn_helper(purger_main, STACK_BYTES);
    if !is_started {
        STATE.store(REFUSED, Ordering::Relaxed);
    }
    is_started
}

/// 1 when the kernel has memory barriers on all threads for us.
static BARRIERS: AtomicU32 = AtomicU32::new(0);

/// Whether spans of other threads can be made passive.
pub(crate) fn can_visit() -> bool {
    BARRIERS.load(Ordering::Relaxed) == 1
        || (register_barriers() && {
            BARRIERS.store(1, Ordering::Relaxed);
            true
        })
}

unsafe extern "C" fn purger_main(_: *mut c_void) -> *mut c_void {
    let mut quiet_rounds = 0;
    let mut merger = Merger::default();
    let mut seen_requests = REQUESTS.load(Ordering::Relaxed);
    loop {
        // Returns early when somebody asks for a merge.
        let interval = forced_interval().unwrap_or(ROUND);
        let _ = futex_wait(&REQUESTS, seen_requests, Some(interval));
        seen_requests = REQUESTS.load(Ordering::Relaxed);
        let had_work = take_work();
        let eagerness = eagerness_now();
        let mut is_more = false;
        if can_visit() {
            is_more |= round_over_others(eagerness);
        }
        is_more |= purge_shared(eagerness);
        is_more |= merger.round(had_work || is_more);
        beat();
        quiet_rounds = if had_work || is_more { 0 } else { quiet_rounds + 1 };
        // When no other thread is left, the process may only be waiting for us.
        if quiet_rounds < QUIET_ROUNDS_MAX && thread_count() > 0 {
            continue;
        }
        STATE.store(NONE, Ordering::Relaxed);
        // What was noted after this round's `take_work` would have found a running purger.
        let is_left = has_work() && thread_count() > 0;
        let again = STATE.compare_exchange(NONE, RUNNING, Ordering::Relaxed, Ordering::Relaxed);
        if !is_left || again.is_err() {
            if again.is_ok() {
                STATE.store(NONE, Ordering::Relaxed);
            }
            return core::ptr::null_mut();
        }
    }
}

/// In the child of a fork: the purger is not here.
pub(crate) fn forget() {
    walk::forget();
    huge::forget();
    pressure::forget();
    STATE.store(NONE, Ordering::Relaxed);
}

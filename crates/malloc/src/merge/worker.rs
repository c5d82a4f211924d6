//! Who merges, and when.
//!
//! In a process with threads the purger does it, with descriptors of its own, so that the program
//! can neither see nor close them. In a process with one thread that thread does it: nothing else
//! can run meanwhile.

use core::time::Duration;

use heapwright_os::{
    Errno, FaultScope, block_signals, env_var, futex_wait, futex_wake, has_environment, is_secure,
    leave_descriptors, monotonic_ns, page_bytes, process_id, restore_signals, thread_ids,
};
use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::merge::barrier::Barrier;
use crate::merge::pass::{Done, pass};
use crate::merge::statistics::{MergeState, set_state, state};
use crate::purger;
use crate::span::PAGE_UNIT_BYTES;

/// Rounds without anything to purge after which a pass is due.
const QUIET_ROUNDS: u32 = 3;
/// A heap that is never quiet is looked at this often, and less often when there is nothing to
/// gain.
const INTERVAL_NS_MIN: u64 = 2_000_000_000;
const INTERVAL_NS_MAX: u64 = 64_000_000_000;
/// A pass that merged fewer windows was not worth it.
const GAIN_COUNT_MIN: usize = 64;
/// A request is waited for no longer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// Requests for a pass; the purger sleeps on it.
pub(crate) static REQUESTS: AtomicU32 = AtomicU32::new(0);
/// Requests that were served.
static SERVED: AtomicU32 = AtomicU32::new(0);
/// Not before this time does a pass begin by itself.
static NEXT_NS: AtomicU64 = AtomicU64::new(0);
static INTERVAL_NS: AtomicU64 = AtomicU64::new(INTERVAL_NS_MIN);
/// The process that merging was allowed in: the child of a vfork runs in its parent's memory, and
/// that of a fork which nobody announced has not settled yet.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Allows windows to be merged in this process, or not (as at first); what is merged stays.
/// `HEAPWRIGHT_MERGE=0` in the environment overrules it.
pub fn allow_merging(is_allowed: bool) {
    let is_forbidden = has_environment()
        && !is_secure()
        && env_var("HEAPWRIGHT_MERGE").is_some_and(|text| text.to_bytes() == b"0");
    if is_allowed && !is_forbidden {
        PROCESS.store(process_id(), Ordering::Relaxed);
        if state() == MergeState::Off {
            set_state(MergeState::Untried);
        }
    } else {
        set_state(MergeState::Off);
    }
}

/// In the child of a fork.
pub(crate) fn after_fork() {
    PROCESS.store(process_id(), Ordering::Relaxed);
    SERVED.store(REQUESTS.load(Ordering::Relaxed), Ordering::Relaxed);
    // Alone now, or with a purger of its own later.
    if state() != MergeState::Off {
        set_state(MergeState::Untried);
    }
}

/// Merges what can be merged now, in spans that no thread owns; whether a pass was made. Waits for
/// it, ten seconds at most. Memory is given back by [`trim`](crate::trim), which calls this.
pub fn merge_now() -> bool {
    if state() == MergeState::Off || PROCESS.load(Ordering::Relaxed) != process_id() {
        return false;
    }
    if is_alone() {
        return merge_alone().is_some();
    }
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    futex_wake(&REQUESTS, 1);
    if !purger::ensure() {
        set_state(MergeState::NoHelper);
        return false;
    }
    let start_ns = monotonic_ns();
    loop {
        // Acquire: pairs with the Release in `Merger::round`.
        let served = SERVED.load(Ordering::Acquire);
        if (request.wrapping_sub(served) as i32) <= 0 {
            return state() == MergeState::Works;
        }
        let waited = Duration::from_nanos(monotonic_ns().saturating_sub(start_ns));
        let Some(left) = REQUEST_PATIENCE.checked_sub(waited) else { return false };
        let _ = futex_wait(&SERVED, served, Some(left.min(Duration::from_millis(200))));
        // It may have ended just before the request.
        let _ = purger::ensure();
    }
}

/// Whether the calling thread is the only one in this memory. The child of a vfork, beside whose
/// memory its parent's threads run, has another process id and does not come here.
fn is_alone() -> bool {
    thread_ids(&mut []) == 1
}

/// A pass by the only thread of the process; none when it cannot be made.
fn merge_alone() -> Option<Done> {
    if page_bytes() != PAGE_UNIT_BYTES {
        set_state(MergeState::PageSize);
        return None;
    }
    // A handler that touches a window that is away would wait for this thread.
    let before = block_signals();
    let barrier =
        Barrier::new(FaultScope::Everybody).or_else(|_| Barrier::new(FaultScope::UserCode));
    let done = match &barrier {
        Ok(barrier) => {
            set_state(MergeState::Works);
            Some(pass(barrier))
        }
        Err(_) => {
            set_state(MergeState::NoUserFaults);
            None
        }
    };
    drop(barrier);
    restore_signals(before);
    done
}

/// A look by the only thread of a process, in a slow path, without a lock.
pub(crate) fn round_alone() {
    if state() == MergeState::Off || monotonic_ns() < NEXT_NS.load(Ordering::Relaxed) {
        return;
    }
    plan_next(0);
    if PROCESS.load(Ordering::Relaxed) == process_id()
        && is_alone()
        && let Some(done) = merge_alone()
    {
        plan_next(done.merged);
    }
}

/// Sets when the next pass may begin by itself.
fn plan_next(merged: usize) {
    let interval_ns = if merged >= GAIN_COUNT_MIN {
        INTERVAL_NS_MIN
    } else {
        (INTERVAL_NS.load(Ordering::Relaxed) * 2).min(INTERVAL_NS_MAX)
    };
    INTERVAL_NS.store(interval_ns, Ordering::Relaxed);
    NEXT_NS.store(monotonic_ns() + interval_ns, Ordering::Relaxed);
}

/// The purger's part in merging.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    barrier: Option<Barrier>,
    has_own_descriptors: bool,
    quiet_rounds: u32,
    /// Whether something was purged since the last pass.
    is_due: bool,
}

impl Merger {
    /// After each of the purger's rounds, which had something to do or not; whether to come again.
    pub(crate) fn round(&mut self, had_work: bool) -> bool {
        if state() == MergeState::Off {
            return false;
        }
        let request = REQUESTS.load(Ordering::Relaxed);
        if request != SERVED.load(Ordering::Relaxed) {
            self.pass();
            // Release: pairs with the Acquire in `merge_now`.
            SERVED.store(request, Ordering::Release);
            futex_wake(&SERVED, u32::MAX >> 1);
            return true;
        }
        self.quiet_rounds = if had_work { 0 } else { self.quiet_rounds.saturating_add(1) };
        self.is_due |= had_work;
        if !self.is_due {
            return false;
        }
        // A heap that is never quiet has passes of its own, further apart.
        let is_time = monotonic_ns() >= NEXT_NS.load(Ordering::Relaxed);
        if self.quiet_rounds >= QUIET_ROUNDS || is_time {
            let merged = self.pass();
            plan_next(merged);
            // As long as there is something, there may be more: spans become passive one by one.
            self.is_due = merged >= GAIN_COUNT_MIN;
            self.quiet_rounds = 0;
        }
        self.is_due
    }

    /// Makes a pass if that is possible; returns how many windows were merged.
    fn pass(&mut self) -> usize {
        if page_bytes() != PAGE_UNIT_BYTES {
            set_state(MergeState::PageSize);
            return 0;
        }
        if !self.has_own_descriptors {
            self.has_own_descriptors = leave_descriptors();
            if !self.has_own_descriptors {
                set_state(MergeState::NoHelper);
                return 0;
            }
        }
        if self.barrier.is_none() {
            match Barrier::new(FaultScope::Everybody) {
                Ok(barrier) => self.barrier = Some(barrier),
                Err(Errno::EPERM) => set_state(MergeState::NoRightWithThreads),
                Err(_) => set_state(MergeState::NoUserFaults),
            }
        }
        match &self.barrier {
            Some(barrier) => {
                set_state(MergeState::Works);
                pass(barrier).merged
            }
            None => 0,
        }
    }
}

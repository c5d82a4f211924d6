//! Who merges, and when.
//!
//! In a process with threads the purger does it, with descriptors of its own, so that the program
//! can neither see nor close them. In a process with one thread that thread does it: see `alone`.

use core::time::Duration;

use heapwright_os::{
    Errno, FaultScope, env_var, futex_wait, futex_wake, has_environment, is_secure,
    leave_descriptors, monotonic_ns, page_bytes, process_id,
};
use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::merge::MergeState;
use crate::merge::alone;
use crate::merge::barrier::Barrier;
use crate::merge::budget::Budget;
use crate::merge::pass::Pass;
use crate::merge::statistics::{set_state, state};
use crate::purge::note_work;
use crate::purger;
use crate::span::PAGE_UNIT_BYTES;

/// Rounds without anything to purge after which a pass is due.
const QUIET_ROUNDS: u32 = 3;
/// Rounds, two seconds, after which a heap that was quiet is one that is not: what comes after a
/// rest is a burst as a rule, which a pass would hold up.
const BUSY_ROUNDS: u32 = 10;
/// A heap that is never quiet is looked at this often, and less often when there is nothing to
/// gain.
const INTERVAL_NS_MIN: u64 = 2_000_000_000;
const INTERVAL_NS_MAX: u64 = 64_000_000_000;
/// Under pressure a pass begins at once, but no sooner after the last one.
const PRESSED_INTERVAL_NS: u64 = 1_000_000_000;
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
/// When the last pass ended.
static ENDED_NS: AtomicU64 = AtomicU64::new(0);
/// For tests of whole programs: a pass begins so many milliseconds after the last one, whatever the
/// program does; 0 is off.
static FORCED_MS: AtomicU32 = AtomicU32::new(0);
/// 1 when memory is short and nothing was merged for that yet.
static PRESSURE: AtomicU32 = AtomicU32::new(0);
/// The process that merging was allowed in: the child of a vfork runs in its parent's memory, and
/// that of a fork which nobody announced has not settled yet.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Allows windows to be merged in this process, or not (as at first); what is merged stays.
/// `HEAPWRIGHT_MERGE=0` in the environment overrules it; `HEAPWRIGHT_MERGE_FORCED_MS=10` has
/// everything merged that can be each 10 ms, for tests.
pub fn allow_merging(is_allowed: bool) {
    let is_forbidden = has_environment()
        && !is_secure()
        && env_var("HEAPWRIGHT_MERGE").is_some_and(|text| text.to_bytes() == b"0");
    if is_allowed && !is_forbidden {
        PROCESS.store(process_id(), Ordering::Relaxed);
        if state() == MergeState::Off {
            set_state(MergeState::Untried);
        }
        if has_environment() && !is_secure() {
            let text = env_var("HEAPWRIGHT_MERGE_FORCED_MS").and_then(|text| text.to_str().ok());
            let forced_ms = text.and_then(|text| text.parse().ok()).unwrap_or(0);
            FORCED_MS.store(forced_ms, Ordering::Relaxed);
        }
    } else {
        set_state(MergeState::Off);
    }
}

/// In the child of a fork.
pub(crate) fn after_fork() {
    PROCESS.store(process_id(), Ordering::Relaxed);
    SERVED.store(REQUESTS.load(Ordering::Relaxed), Ordering::Relaxed);
    alone::after_fork();
    // Alone now, or with a purger of its own later.
    if state() != MergeState::Off {
        set_state(MergeState::Untried);
    }
}

/// Merges what can be merged now, in spans that no thread owns; whether a pass was made. Waits for
/// it, ten seconds at most. Memory is given back by [`trim`](crate::trim), which calls this.
pub fn merge_now() -> bool {
    if !is_allowed_here() {
        return false;
    }
    if alone::is_alone() {
        return alone::merge_everything();
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

/// Whether merging is allowed in the process that runs this.
pub(crate) fn is_allowed_here() -> bool {
    state() != MergeState::Off && PROCESS.load(Ordering::Relaxed) == process_id()
}

/// Says that memory is short: the next round of whoever merges makes a pass, at most one a second.
/// A store or two; may be called under any lock.
#[cold]
pub(crate) fn note_pressure() {
    if state() != MergeState::Off {
        PRESSURE.store(1, Ordering::Relaxed);
        note_work();
    }
}

/// The time between two passes when a test forces them.
pub(crate) fn forced_interval() -> Option<Duration> {
    let forced_ms = FORCED_MS.load(Ordering::Relaxed);
    (forced_ms != 0 && state() != MergeState::Off)
        .then(|| Duration::from_millis(u64::from(forced_ms)))
}

/// Whether a pass may begin by itself: it is time, or memory is short.
pub(crate) fn is_due() -> bool {
    is_due_by_clock() || is_urgent()
}

fn is_due_by_clock() -> bool {
    monotonic_ns() >= NEXT_NS.load(Ordering::Relaxed)
}

/// Whether a pass is due however busy the heap is: memory is short, or a test forces it.
fn is_urgent() -> bool {
    let rested_ns = monotonic_ns().saturating_sub(ENDED_NS.load(Ordering::Relaxed));
    if let Some(interval) = forced_interval() {
        return rested_ns >= interval.as_nanos() as u64;
    }
    PRESSURE.load(Ordering::Relaxed) != 0
        && rested_ns >= PRESSED_INTERVAL_NS
        && PRESSURE.swap(0, Ordering::Relaxed) != 0
}

/// Sets when the next pass may begin by itself, after one that merged so many windows.
pub(crate) fn plan_next(merged: usize) {
    let interval_ns = if merged >= GAIN_COUNT_MIN {
        INTERVAL_NS_MIN
    } else {
        (INTERVAL_NS.load(Ordering::Relaxed) * 2).min(INTERVAL_NS_MAX)
    };
    let now_ns = monotonic_ns();
    INTERVAL_NS.store(interval_ns, Ordering::Relaxed);
    ENDED_NS.store(now_ns, Ordering::Relaxed);
    NEXT_NS.store(now_ns + interval_ns, Ordering::Relaxed);
}

/// Lets the next pass begin by itself at once.
#[cfg(test)]
pub(crate) fn plan_now() {
    NEXT_NS.store(0, Ordering::Relaxed);
}

/// The purger's part in merging.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    barrier: Option<Barrier>,
    has_own_descriptors: bool,
    quiet_rounds: u32,
    /// Rounds since the heap was quiet.
    busy_rounds: u32,
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
            self.pass(true);
            // Release: pairs with the Acquire in `merge_now`.
            SERVED.store(request, Ordering::Release);
            futex_wake(&SERVED, u32::MAX >> 1);
            return true;
        }
        self.quiet_rounds = if had_work { 0 } else { self.quiet_rounds.saturating_add(1) };
        self.busy_rounds = self.busy_rounds.saturating_add(1);
        self.is_due |= had_work;
        if forced_interval().is_some() {
            self.is_due = true;
        }
        if !self.is_due {
            return false;
        }
        // A heap that is never quiet has passes of its own, further apart.
        let is_quiet = self.quiet_rounds >= QUIET_ROUNDS;
        if is_quiet || is_urgent() || (self.busy_rounds >= BUSY_ROUNDS && is_due_by_clock()) {
            if is_quiet {
                self.busy_rounds = 0;
            }
            let merged = self.pass(forced_interval().is_some());
            plan_next(merged);
            // As long as there is something, there may be more: spans become passive one by one.
            self.is_due = merged >= GAIN_COUNT_MIN || forced_interval().is_some();
            self.quiet_rounds = 0;
        }
        self.is_due
    }

    /// Makes a pass if that is possible; returns how many windows were merged. `is_asked`: not by
    /// itself.
    fn pass(&mut self, is_asked: bool) -> usize {
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
        // A plan of the time when there was one thread.
        alone::forget();
        let (Some(barrier), Some(mut pass)) = (&self.barrier, Pass::new(is_asked)) else {
            return 0;
        };
        set_state(MergeState::Works);
        pass.advance(barrier, &mut Budget::unlimited()).unwrap_or_default().merged
    }
}

//! The recorded clock: a memory run that goes on no faster than the program did.
//!
//! Allocators give memory back by the clock, some after 10 ms, some after 10 s. A replay takes a
//! tenth of the program's time, so without a pace everything freed would still be there, or the
//! other way round: whole where the program found holes of what was given back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sys;

/// Being ahead by less is not worth a sleep, which may last so long.
const AHEAD_NS_MIN: u64 = 1_000_000;

/// How fast epochs may follow each other.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Recorded time at the end of each epoch; empty without a pace.
    times: &'static [u64],
    /// Longer pauses are cut to this.
    pause_ns_max: u64,
    started_ns: AtomicU64,
    /// When the epoch that ended last was due, from the start.
    due_ns: AtomicU64,
}

impl Pace {
    /// The pace of `times` (ns), the longest pauses cut so that all of it takes at most `limit`.
    pub(super) fn new(times: &'static [u64], limit: Duration) -> Self {
        let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self { times, pause_ns_max: pause_ns_max(times, limit_ns), ..Self::default() }
    }

    /// The clock starts.
    pub(super) fn begin(&self) {
        self.started_ns.store(heapwright_os::monotonic_ns(), Ordering::Relaxed);
    }

    /// Epoch `done` is over: sleeps until the program was so far. Called for each epoch once, in
    /// order, by whoever ended it.
    pub(super) fn keep(&self, done: u32) {
        let Some(pause_ns) = pause_ns(self.times, done as usize) else { return };
        let pause_ns = pause_ns.min(self.pause_ns_max);
        // Relaxed: epochs end one after the other, and who ends one sees what the last one did.
        let due_ns = self.due_ns.load(Ordering::Relaxed) + pause_ns;
        self.due_ns.store(due_ns, Ordering::Relaxed);
        let now_ns = heapwright_os::monotonic_ns();
        let passed_ns = now_ns.saturating_sub(self.started_ns.load(Ordering::Relaxed));
        if due_ns > passed_ns + AHEAD_NS_MIN {
            sys::sleep_ns(due_ns - passed_ns);
        }
    }
}

/// Recorded time from the epoch before to the end of epoch `index`.
fn pause_ns(times: &[u64], index: usize) -> Option<u64> {
    let before = index.checked_sub(1).and_then(|index| times.get(index)).copied().unwrap_or(0);
    Some(times.get(index)?.saturating_sub(before))
}

/// The longest pause with which all of `times` takes at most `limit_ns`.
fn pause_ns_max(times: &[u64], limit_ns: u64) -> u64 {
    let total_ns = |longest: u64| {
        let pauses = (0..times.len()).filter_map(|index| pause_ns(times, index));
        pauses.map(|pause| pause.min(longest)).fold(0, u64::saturating_add)
    };
    if total_ns(u64::MAX) <= limit_ns {
        return u64::MAX;
    }
    let (mut fits, mut too_long) = (0, limit_ns);
    while too_long - fits > 1 {
        let middle = fits + (too_long - fits) / 2;
        if total_ns(middle) <= limit_ns {
            fits = middle;
        } else {
            too_long = middle;
        }
    }
    fits
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pace, pause_ns_max};

    #[test]
    fn long_pauses_are_cut_until_all_fits() {
        let times = [5, 10, 110, 120, 1120];
        assert_eq!(pause_ns_max(&times, 2000), u64::MAX);
        assert_eq!(pause_ns_max(&times, 220), 100);
        assert_eq!(pause_ns_max(&times, 60), 20);
        assert_eq!(pause_ns_max(&times, 0), 0);
        assert_eq!(pause_ns_max(&[], 0), u64::MAX);
        // Clocks of two threads may differ.
        assert_eq!(pause_ns_max(&[10, 4, 8], 14), u64::MAX);
    }

    #[test]
    fn a_paced_run_takes_the_recorded_time_and_no_less() {
        const MS: u64 = 1_000_000;
        static TIMES: [u64; 4] = [MS, 2 * MS, 30 * MS, 31 * MS];
        for (limit_ms, least_ms) in [(1000, 29), (12, 9)] {
            let pace = Pace::new(&TIMES, Duration::from_millis(limit_ms));
            let started_ns = heapwright_os::monotonic_ns();
            pace.begin();
            (0..4).for_each(|epoch| pace.keep(epoch));
            let passed_ns = heapwright_os::monotonic_ns() - started_ns;
            assert!(passed_ns >= least_ms * MS, "{passed_ns} ns for {limit_ms} ms");
        }
        let none = Pace::default();
        none.begin();
        none.keep(3);
    }
}

//! How far a replay is.
#![forbid(unsafe_code)]

use std::time::Duration;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The recording is read and compiled.
    Compile,
    /// Memory is measured.
    Memory,
    /// Time is measured.
    Time,
}

/// A report of progress, for a bar with rate and time left.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What is going on.
    pub phase: Phase,
    /// The same in words: `mimalloc, time 2 of 5`.
    pub what: String,
    /// Events done in this phase.
    pub done: u64,
    /// Events of this phase in all (compiling: as the recording's heads say).
    pub total: u64,
    /// Events a second in this phase; 0 at its start.
    pub rate: f64,
    /// Time left in this phase; none while unknown.
    pub left: Option<Duration>,
}

impl Progress {
    pub(crate) fn new(
        phase: Phase,
        what: String,
        done: u64,
        total: u64,
        elapsed: Duration,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
        let known = done > 0 && rate > 0.0;
        let left = known.then(|| {
            Duration::try_from_secs_f64(total.saturating_sub(done) as f64 / rate)
                .unwrap_or(Duration::MAX)
        });
        Self { phase, what, done, total, rate, left }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Phase, Progress};

    #[test]
    fn rate_and_time_left_follow_from_what_is_done() {
        let at =
            |done| Progress::new(Phase::Time, String::new(), done, 1000, Duration::from_secs(2));
        assert_eq!((at(200).rate, at(200).left), (100.0, Some(Duration::from_secs(8))));
        assert_eq!(at(1000).left, Some(Duration::ZERO));
        assert_eq!(at(0).left, None);
    }
}

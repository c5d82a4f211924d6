//! What each operation of a program took, and what the program holds.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest time that is told from longer ones: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Decimal digits of a time that are kept.
const DIGITS: u8 = 2;

/// Times of operations, counted by their length: percentiles to 1 %, 36 KiB however many there
/// are, so that a long load holds what a short one does.
#[derive(Clone, Debug)]
pub struct Latencies {
    ns: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let ns = Histogram::new_with_max(LONGEST_NS, DIGITS);
        Self { ns: ns.expect("the bounds are constants that a histogram takes") }
    }
}

impl Latencies {
    /// Adds one; more than an hour counts as an hour.
    pub fn add(&mut self, took: Duration) {
        self.ns.saturating_record(took.as_nanos() as u64);
    }

    /// Runs `operation` and adds what it took.
    pub fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = operation();
        self.add(start.elapsed());
        value
    }

    /// Adds all of another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.ns.add(&other.ns).expect("both have the same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.ns.len()
    }

    /// `p50 1.2 us, p99 3.4 us, p99.9 5.6 us`.
    pub fn summary(&self) -> String {
        let part = |name: &str, share: f64| {
            let us = self.percentile_ns(share) as f64 / 1000.0;
            format!("{name} {us:.1} us")
        };
        [part("p50", 0.5), part("p99", 0.99), part("p99.9", 0.999)].join(", ")
    }

    /// The least time that `share` of all took no longer than, to 1 %; 0 without times.
    fn percentile_ns(&self, share: f64) -> u64 {
        self.ns.value_at_quantile(share)
    }
}

/// What this process holds of RAM in KiB, shared pages by share (Pss); none where the kernel does
/// not say.
pub fn resident_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_NS, Latencies, resident_kib};
    use std::time::Duration;

    #[test]
    fn percentiles_are_those_of_the_times() {
        let mut times = Latencies::default();
        let mut others = Latencies::default();
        (1..=500).for_each(|us| times.add(Duration::from_micros(us)));
        (501..=1000).rev().for_each(|us| others.add(Duration::from_micros(us)));
        times.merge(&others);
        assert_eq!(times.count(), 1000);
        for (share, exact) in [(0.5, 500_000), (0.99, 990_000), (0.999, 999_000)] {
            let told = times.percentile_ns(share);
            assert!(told.abs_diff(exact) * 100 <= exact, "{told} for {exact}");
        }
        assert_eq!(Latencies::default().summary(), "p50 0.0 us, p99 0.0 us, p99.9 0.0 us");
        assert!(resident_kib().is_none_or(|kib| kib > 100));
    }

    #[test]
    fn a_time_beyond_all_bounds_counts_as_the_longest() {
        let mut times = Latencies::default();
        times.add(Duration::MAX);
        assert_eq!(times.count(), 1);
        assert!(times.percentile_ns(0.5).abs_diff(LONGEST_NS) <= LONGEST_NS / 50);
    }
}

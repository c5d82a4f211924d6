//! What each operation of a program took, and what the program holds.

use std::time::{Duration, Instant};

/// Times of operations, kept one by one: exact percentiles, 8 bytes an operation.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    /// Room for `count` of them, so that keeping them allocates nothing until then.
    pub fn with_capacity(count: usize) -> Self {
        Self { nanoseconds: Vec::with_capacity(count) }
    }

    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        self.nanoseconds.push(took.as_nanos() as u64);
    }

    /// Runs `operation` and adds what it took.
    pub fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = operation();
        self.add(start.elapsed());
        value
    }

    /// Adds all of another thread's.
    pub fn merge(&mut self, other: Self) {
        self.nanoseconds.extend(other.nanoseconds);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.nanoseconds.len()
    }

    /// `50% 1.2 µs, 99% 3.4 µs, 99.9% 5.6 µs`: sorts them.
    pub fn summary(&mut self) -> String {
        self.nanoseconds.sort_unstable();
        let part = |name: &str, share: f64| {
            let us = self.percentile_ns(share) as f64 / 1000.0;
            format!("{name} {us:.1} us")
        };
        [part("p50", 0.5), part("p99", 0.99), part("p99.9", 0.999)].join(", ")
    }

    /// The least time that `share` of all took no longer than; they are sorted.
    fn percentile_ns(&self, share: f64) -> u64 {
        let rank = (self.nanoseconds.len() as f64 * share).ceil() as usize;
        self.nanoseconds.get(rank.saturating_sub(1)).copied().unwrap_or(0)
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
    use super::{Latencies, resident_kib};
    use std::time::Duration;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let mut times = Latencies::default();
        (1..=1000).rev().for_each(|us| times.add(Duration::from_micros(us)));
        assert_eq!(times.summary(), "p50 500.0 us, p99 990.0 us, p99.9 999.0 us");
        assert_eq!(Latencies::default().summary(), "p50 0.0 us, p99 0.0 us, p99.9 0.0 us");
        assert!(resident_kib().is_none_or(|kib| kib > 100));
    }
}

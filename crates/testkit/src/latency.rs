//! What each operation of a program took, and what the program holds.

use std::time::{Duration, Instant};

/// Buckets of one doubling: a time is known to 0.4 %.
const STEPS: u64 = 256;
/// One for each nanosecond below `STEPS`, then `STEPS / 2` a doubling, up to all 64 bits.
const BUCKETS: usize = (STEPS + (64 - STEPS.ilog2() as u64) * (STEPS / 2)) as usize;

/// Times of operations, counted by their length: percentiles to 0.4 %, 60 KiB however many there
/// are, so that a long load holds what a short one does.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: Vec<u64>,
    count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0 }
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        self.counts[bucket(took.as_nanos() as u64)] += 1;
        self.count += 1;
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
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.count += other.count;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// `p50 1.2 us, p99 3.4 us, p99.9 5.6 us`.
    pub fn summary(&self) -> String {
        let part = |name: &str, share: f64| {
            let us = self.percentile_ns(share) as f64 / 1000.0;
            format!("{name} {us:.1} us")
        };
        [part("p50", 0.5), part("p99", 0.99), part("p99.9", 0.999)].join(", ")
    }

    /// The middle of the bucket of the least time that `share` of all took no longer than.
    fn percentile_ns(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let of_rank = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        of_rank.map_or(0, middle_ns)
    }
}

/// Where a time of `ns` is counted: by its 8 upper bits.
fn bucket(ns: u64) -> usize {
    let shift = (ns | (STEPS - 1)).ilog2() - (STEPS - 1).ilog2();
    (u64::from(shift) * (STEPS / 2) + (ns >> shift)) as usize
}

/// The middle of the times that are counted at `bucket`.
fn middle_ns(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / (STEPS / 2) - 1;
    let upper = bucket - shift * (STEPS / 2);
    (upper << shift) + (1 << (shift - 1))
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
    use super::{BUCKETS, Latencies, bucket, middle_ns, resident_kib};
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
            assert!(told.abs_diff(exact) * 250 <= exact, "{told} for {exact}");
        }
        assert_eq!(Latencies::default().summary(), "p50 0.0 us, p99 0.0 us, p99.9 0.0 us");
        assert!(resident_kib().is_none_or(|kib| kib > 100));
    }

    #[test]
    fn every_time_has_its_bucket() {
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
        for bit in 0..64 {
            for ns in [1u64 << bit, (1 << bit) + 1, (1 << bit) | (1 << bit >> 1)] {
                let told = middle_ns(bucket(ns));
                assert!(told.abs_diff(ns) <= ns / 250, "{told} for {ns}");
            }
            let edge = 1u64 << bit;
            assert!(bucket(edge - 1) < bucket(edge), "{edge}");
        }
    }
}

//! Statistics of a heap.

/// Buckets of pauses: one for each power of two of nanoseconds.
const BUCKET_COUNT: usize = 48;

/// What a heap has done since it was made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Statistics {
    /// Minor collections (generational).
    pub minor_collections: u64,
    /// Full collections, or whole cycles of the incremental collector.
    pub full_collections: u64,
    /// Slices of the incremental collector.
    pub slices: u64,
    /// Bytes that were copied to empty blocks.
    pub evacuated_bytes: u64,
    /// Blocks of 32 KiB that were emptied by copying what was left in them.
    pub evacuated_blocks: u64,
    /// Bytes in the heap now: objects, live and dead, and holes given to the mutator.
    pub occupied_bytes: usize,
    /// Bytes that the last full collection left.
    pub live_bytes: usize,
    /// Cycles of the incremental collector that were ended in one pause, since the limit was near.
    pub hurried_cycles: u64,
    /// Allocations that were refused.
    pub refusals: u64,
    /// How often the pause target kept the throughput goal from being reached.
    pub goal_conflicts: u64,
    /// The most bytes in the heap at the beginning of a collection.
    pub occupied_bytes_max: usize,
    /// Longest pause, wall time in nanoseconds.
    pub pause_ns_max: u64,
    /// The longest CPU time of this thread in one pause, in nanoseconds.
    pub pause_cpu_ns_max: u64,
    /// CPU time of this thread in all pauses, in nanoseconds.
    pub pause_cpu_ns_total: u64,
    /// Sum of all pauses, wall time in nanoseconds.
    pub pause_ns_total: u64,
    pause_buckets: [u64; BUCKET_COUNT],
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            minor_collections: 0,
            full_collections: 0,
            slices: 0,
            evacuated_bytes: 0,
            evacuated_blocks: 0,
            occupied_bytes: 0,
            live_bytes: 0,
            hurried_cycles: 0,
            refusals: 0,
            goal_conflicts: 0,
            occupied_bytes_max: 0,
            pause_cpu_ns_max: 0,
            pause_cpu_ns_total: 0,
            pause_ns_max: 0,
            pause_ns_total: 0,
            pause_buckets: [0; BUCKET_COUNT],
        }
    }
}

impl Statistics {
    pub(crate) fn add_pause(&mut self, pause_ns: u64, cpu_ns: u64) {
        self.pause_cpu_ns_max = self.pause_cpu_ns_max.max(cpu_ns);
        self.pause_cpu_ns_total += cpu_ns;
        self.pause_ns_max = self.pause_ns_max.max(pause_ns);
        self.pause_ns_total += pause_ns;
        let bucket = (64 - pause_ns.leading_zeros()) as usize;
        self.pause_buckets[bucket.min(BUCKET_COUNT - 1)] += 1;
    }

    /// How many pauses there were.
    pub fn pauses(&self) -> u64 {
        self.pause_buckets.iter().sum()
    }

    /// The pause in nanoseconds that `percent` of all pauses do not exceed, rounded up to a power
    /// of two. 0 without pauses.
    pub fn pause_ns_percentile(&self, percent: f64) -> u64 {
        let wanted = (self.pauses() as f64 * percent / 100.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.pause_buckets.iter().enumerate() {
            seen += count;
            if seen > 0 && seen >= wanted {
                return 1 << bucket;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::Statistics;

    #[test]
    fn percentiles_are_powers_of_two_above_the_pause() {
        let mut statistics = Statistics::default();
        (0..99).for_each(|_| statistics.add_pause(1000, 900));
        statistics.add_pause(1_000_000, 800_000);
        assert_eq!(
            (statistics.pause_cpu_ns_max, statistics.pause_cpu_ns_total),
            (800_000, 889_100)
        );
        assert_eq!(statistics.pause_ns_percentile(50.0), 1024);
        assert_eq!(statistics.pause_ns_percentile(100.0), 1 << 20);
        assert_eq!((statistics.pauses(), statistics.pause_ns_max), (100, 1_000_000));
    }
}

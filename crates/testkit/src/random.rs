//! A seeded generator for tests: the same numbers on every machine, printed seed and all.

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
///
/// ```
/// let mut random = heapwright_testkit::Random::new(7);
/// assert!(random.below(10) < 10);
/// assert_eq!(random.next_u64(), {
///     let mut again = heapwright_testkit::Random::new(7);
///     again.below(10);
///     again.next_u64()
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator of the sequence `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits. O(1).
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, even to within `limit` / 2^64.
    ///
    /// # Panics
    /// If `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "a number below 0 was asked for");
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// A number from `low` to below `high` whose logarithm is nearly even, as sizes of real
    /// requests are: half of them lie below the geometric mean.
    ///
    /// # Panics
    /// If `low` is 0 or not below `high`.
    pub fn log_uniform(&mut self, low: u64, high: u64) -> u64 {
        assert!(0 < low && low < high, "no number from {low} to below {high}");
        let unit = self.next_u64() as f64 / (u64::MAX as f64 + 1.0);
        let value = (low as f64 * (high as f64 / low as f64).powf(unit)) as u64;
        value.clamp(low, high - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn numbers_stay_in_their_range() {
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            assert!(random.below(7) < 7);
            let size = random.log_uniform(16, 4096);
            assert!((16..4096).contains(&size));
        }
    }

    #[test]
    fn small_sizes_come_as_often_as_large_ones() {
        let mut random = Random::new(2);
        let small = (0..10_000).filter(|_| random.log_uniform(16, 4096) < 256).count();
        assert!((4500..5500).contains(&small), "{small} of 10000 below the geometric mean");
    }
}

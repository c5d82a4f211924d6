//! A small seeded generator and a checksum: the run must be the same everywhere.

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016).
pub struct Random(u64);

impl Random {
    /// A generator; seed 0 is as good as any other.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit` (at least 1), near enough to even for a workload.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }

    /// A size from `low` to below `high` whose logarithm is even: most are small.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        let doublings = (high / low).ilog2() as u64;
        let base = low << self.below(doublings.max(1));
        base + self.below(base as u64) as usize
    }
}

/// FNV-1a of every eighth byte and the length.
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(8).fold(0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

//! The four workloads: their sizes, and the numbers that drive them. Every subject does the same
//! operations in the same order, so that its checksum must be that of every other.

/// How much a workload does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As the design page says.
    Full,
    /// Some tenths of a second, for comparing settings: a shorter run's CPU time is what the
    /// machine does besides.
    Middle,
    /// A tenth or less.
    Quick,
    /// As little as shows that everything works.
    Test,
}

/// GCBench: trees of growing depth, each built top-down and bottom-up, beside a long-lived tree.
#[derive(Clone, Copy, Debug)]
pub struct GcBench {
    pub stretch_depth: u32,
    pub long_lived_depth: u32,
    pub depth_max: u32,
    pub array_len: usize,
}

impl GcBench {
    pub const DEPTH_MIN: u32 = 4;

    pub fn of(scale: Scale) -> Self {
        let depth = match scale {
            Scale::Full | Scale::Middle => 18,
            Scale::Quick => 16,
            Scale::Test => 8,
        };
        Self {
            stretch_depth: depth + 2,
            long_lived_depth: depth,
            depth_max: depth,
            array_len: 2_000_000 >> (18 - depth),
        }
    }

    /// The depths, each with how many trees of it are built in each direction.
    pub fn trees(self) -> impl Iterator<Item = (u32, u32)> {
        let size = |depth: u32| (2u32 << depth) - 1;
        (Self::DEPTH_MIN..=self.depth_max)
            .step_by(2)
            .map(move |depth| (depth, 2 * size(self.stretch_depth) / size(depth)))
    }
}

/// Binary trees, as in the Computer Language Benchmarks Game.
#[derive(Clone, Copy, Debug)]
pub struct BinaryTrees {
    pub depth_max: u32,
}

impl BinaryTrees {
    pub fn of(scale: Scale) -> Self {
        Self {
            depth_max: match scale {
                Scale::Full | Scale::Middle => 18,
                Scale::Quick => 14,
                Scale::Test => 8,
            },
        }
    }

    /// The depths, each with how many trees of it are built.
    pub fn trees(self) -> impl Iterator<Item = (u32, u32)> {
        (4..=self.depth_max).step_by(2).map(move |depth| (depth, 1 << (self.depth_max - depth + 4)))
    }
}

/// A graph under mutation: a ring through all nodes, in random order, and a table of them in
/// chunks. Each step replaces the node of one place, in the table and in the ring, and makes two
/// nodes that are dead at once.
#[derive(Clone, Copy, Debug)]
pub struct Graph {
    pub node_count: usize,
    pub step_count: usize,
    pub seed: u64,
}

impl Graph {
    pub const CHUNK_LEN: usize = 1024;
    /// Steps between two safepoints.
    pub const STEPS_AT_ONCE: usize = 64;

    pub fn of(scale: Scale) -> Self {
        let node_count = match scale {
            Scale::Full => 8 << 20,
            Scale::Middle | Scale::Quick => 1 << 20,
            Scale::Test => 8 << 10,
        };
        Self { node_count, step_count: node_count, seed: 1 }
    }
}

/// A hash map of limited size that forgets what was used longest ago.
#[derive(Clone, Copy, Debug)]
pub struct Lru {
    pub capacity: usize,
    pub step_count: usize,
    pub seed: u64,
}

impl Lru {
    /// Operations between two safepoints.
    pub const STEPS_AT_ONCE: usize = 64;

    pub fn of(scale: Scale) -> Self {
        let capacity = match scale {
            Scale::Full => 500_000,
            Scale::Middle => 125_000,
            Scale::Quick => 62_500,
            Scale::Test => 2_000,
        };
        Self { capacity, step_count: 12 * capacity, seed: 2 }
    }

    pub fn bucket_count(self) -> usize {
        self.capacity.next_power_of_two()
    }

    /// A key: small ones are more frequent; about one operation in three misses.
    pub fn key(self, random: &mut Random) -> u64 {
        let range = 4 * self.capacity as u64;
        random.below(range).min(random.below(range))
    }

    /// Bytes of the value of `key`: 64 to 255.
    pub fn value_bytes(key: u64) -> usize {
        64 + (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % 192
    }

    pub fn bucket(self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize & (self.bucket_count() - 1)
    }
}

/// A generator that is the same in every language: xorshift64*.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is below 2^31.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 33) * bound) >> 31
    }
}

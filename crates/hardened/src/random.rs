//! Numbers that cannot be foretold from outside: the kernel's seed of this process, stirred.

use heapwright_os::{cycle_counter, raw_auxv};

/// The auxiliary vector's entry for 16 random bytes.
const AT_RANDOM: u64 = 25;

/// A generator for secrets (splitmix64 over the kernel's seed).
#[derive(Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    /// From the kernel's 16 bytes, the clock, and where `place` was loaded.
    pub(crate) fn new(place: *const u8) -> Self {
        let mut state = cycle_counter() ^ (place.addr() as u64).rotate_left(32);
        if let Some(address) = raw_auxv(AT_RANDOM) {
            let words: *const u64 = core::ptr::with_exposed_provenance(address);
            // SAFETY: the kernel put 16 bytes there for the life of the process.
            let low = unsafe { words.read_unaligned() };
            // SAFETY: as above; the second eight of them.
            let high = unsafe { words.wrapping_add(1).read_unaligned() };
            // libc takes its own secrets from these bytes, so they are only an ingredient.
            state ^= stir(low ^ stir(high));
        }
        Self(state)
    }

    /// 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        stir(self.0)
    }
}

/// A bijection in which each bit depends on all (splitmix64's).
fn stir(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

/// The state after `state` of a thread's quick generator; its high bits are the good ones.
#[inline(always)]
pub(crate) fn step(state: u64) -> u64 {
    // Knuth's MMIX constants.
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

#[cfg(test)]
mod tests {
    use super::Seed;

    #[test]
    fn two_numbers_differ() {
        let mut seed = Seed::new(core::ptr::null());
        assert_ne!(seed.next(), seed.next());
    }
}

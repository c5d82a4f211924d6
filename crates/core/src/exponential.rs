//! Exponential distances, for sampling without memory: what has gone by says nothing about when
//! the next sample comes, so a countdown that is thrown away and drawn again is as good as the
//! old one.
//!
//! `core` has no logarithm, so one is here: exponent and mantissa apart, the mantissa by the
//! series of 2 artanh.

/// Uniform numbers made from a counter, and exponential ones made from them.
///
/// Source of the mixing: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators",
/// OOPSLA 2014.
///
/// ```
/// use heapwright_core::exponential::Exponential;
///
/// let mut distances = Exponential::new(7);
/// let mean = (0..10_000).map(|_| distances.draw()).sum::<f64>() / 10_000.0;
/// assert!((mean - 1.0).abs() < 0.05);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Exponential {
    state: u64,
}

/// An odd number near 2^64 divided by the golden ratio: consecutive states are far apart.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Exponential {
    /// A sequence that `seed` decides.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next distance, at least 0; the mean of all is 1. Some forty instructions.
    #[inline]
    pub fn draw(&mut self) -> f64 {
        self.state = self.state.wrapping_add(STEP);
        exponential_of(self.state)
    }
}

/// The exponential number that `state` decides; different states give independent ones. For
/// states that threads share: an atomic counter times any odd number.
#[inline]
pub fn exponential_of(state: u64) -> f64 {
    let mut bits = state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // In (0, 1], exact in 53 bits.
    let uniform = ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64;
    -natural_log(uniform)
}

/// ln of a positive normal number, to 1e-9.
pub fn natural_log(value: f64) -> f64 {
    let bits = value.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > core::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let mut term = ratio;
    let mut sum = 0.0;
    for divisor in [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0] {
        sum += term / divisor;
        term *= square;
    }
    2.0 * sum + exponent as f64 * core::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{Exponential, natural_log};

    #[test]
    fn the_logarithm_is_that_of_the_standard_library() {
        for step in 1..20_000u32 {
            let value = f64::from(step) / 9_973.0;
            assert!((natural_log(value) - value.ln()).abs() < 1e-8, "{value}");
        }
        assert!(natural_log(1.0).abs() < 1e-12);
    }

    #[test]
    fn distances_are_exponential() {
        let mut distances = Exponential::new(1);
        let count = 100_000;
        let mut above = [0u32; 3];
        for _ in 0..count {
            let distance = distances.draw();
            assert!(distance >= 0.0);
            for (limit, above) in above.iter_mut().enumerate() {
                *above += u32::from(distance > limit as f64 + 1.0);
            }
        }
        for (limit, above) in above.into_iter().enumerate() {
            let expected = (-(limit as f64) - 1.0).exp();
            let share = f64::from(above) / f64::from(count);
            let deviation = (expected * (1.0 - expected) / f64::from(count)).sqrt();
            assert!((share - expected).abs() < 5.0 * deviation, "{limit}: {share}");
        }
    }
}

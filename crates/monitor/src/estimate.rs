//! What samples say about all blocks, and how sure that is.

use serde::Serialize;

/// Both ends of a 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A sum over all blocks, estimated from independent samples (Horvitz and Thompson, "A
/// Generalization of Sampling Without Replacement from a Finite Universe", JASA 1952): each
/// sampled value counts 1 / probability times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The unbiased estimate.
    pub value: f64,
    /// Its variance, estimated without bias too.
    pub variance: f64,
    /// Largest weighted value met: what a single sample that was missed would have added.
    unit: f64,
}

/// 97.5 % of the normal distribution lie below.
const Z: f64 = 1.959_964;

impl Estimate {
    /// Adds `value` of a block that was sampled with `probability`, in (0, 1].
    pub fn add(&mut self, value: f64, probability: f64) {
        let weighted = value / probability;
        self.value += weighted;
        self.variance += weighted * weighted * (1.0 - probability);
        self.unit = self.unit.max(weighted);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.value += other.value;
        self.variance += other.variance;
        self.unit = self.unit.max(other.unit);
    }

    /// The 95 % interval: that of a Poisson count whose relative spread is the estimate's, by
    /// the cubic approximation of its bounds (Wilson and Hilferty, PNAS 1931). Right for few
    /// samples, too, where the normal distribution is not.
    pub fn interval(&self) -> Interval {
        if self.variance <= 0.0 || self.value <= 0.0 {
            return Interval { low: self.value, high: self.value };
        }
        // As many equal samples would have this spread.
        let count = self.value * self.value / self.variance;
        let scale = self.value / count;
        let bound = |count: f64, sign: f64| {
            let cube = 1.0 - 1.0 / (9.0 * count) + sign * Z / (3.0 * count.sqrt());
            count * cube.max(0.0).powi(3)
        };
        Interval { low: scale * bound(count, -1.0), high: scale * bound(count + 1.0, 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::Estimate;
    use heapwright_core::exponential::Exponential;

    /// Share of repetitions whose interval covers the truth, for blocks that pin different
    /// amounts and are sampled with one in `inverse`.
    fn coverage(blocks: usize, inverse: f64) -> (f64, f64) {
        let mut random = Exponential::new(blocks as u64);
        let rounds = 2000;
        let (mut covered, mut error) = (0, 0.0);
        for _ in 0..rounds {
            let mut estimate = Estimate::default();
            let mut truth = 0.0;
            for block in 0..blocks {
                let value = 1.0 + (block % 5) as f64;
                truth += value;
                // An exponential is below q with probability 1 - exp(-q).
                if random.draw() < -(1.0 - 1.0 / inverse).ln() {
                    estimate.add(value, 1.0 / inverse);
                }
            }
            let interval = estimate.interval();
            covered += u32::from((interval.low..=interval.high).contains(&truth));
            error += (estimate.value - truth) / truth / f64::from(rounds);
        }
        (f64::from(covered) / f64::from(rounds), error)
    }

    #[test]
    fn intervals_cover_the_truth_as_often_as_they_say() {
        for (blocks, inverse) in [(2000, 100.0), (400, 50.0), (3000, 30.0)] {
            let (share, error) = coverage(blocks, inverse);
            assert!(share > 0.93, "{blocks} blocks, 1 in {inverse}: {share}");
            assert!(error.abs() < 0.03, "{blocks} blocks, 1 in {inverse}: {error}");
        }
    }

    #[test]
    fn what_is_always_sampled_is_exact() {
        let mut estimate = Estimate::default();
        estimate.add(5.0, 1.0);
        estimate.add(7.0, 1.0);
        assert_eq!((estimate.interval().low, estimate.interval().high), (12.0, 12.0));
    }
}

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

impl Interval {
    /// The interval of a part of a whole that is known to be `total` and was estimated as
    /// `estimate`: no part is more than the whole, and samples that say too much of the whole may
    /// say as many times too much of the part.
    #[must_use]
    pub fn within(self, total: f64, estimate: f64) -> Self {
        let excess = if estimate > total { total / estimate } else { 1.0 };
        let low = (self.low * excess).min(total);
        Self { low, high: self.high.min(total).max(low) }
    }
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
    /// Of the value, what was certain to be sampled: no chance is in it.
    certain: f64,
    /// The largest weighted value that a block may have, sampled or not.
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
        if probability < 1.0 {
            self.unit = self.unit.max(weighted);
        } else {
            self.certain += value;
        }
    }

    /// Says that there may be blocks of up to `value` that are sampled with `probability`, though
    /// none was. Without this the interval knows only of blocks like those that were.
    pub fn allow_for(&mut self, value: f64, probability: f64) {
        if probability < 1.0 {
            self.unit = self.unit.max(value / probability);
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.value += other.value;
        self.variance += other.variance;
        self.certain += other.certain;
        self.unit = self.unit.max(other.unit);
    }

    /// The 95 % interval: that of a weighted sum of Poisson counts (Fay and Feuer, "Confidence
    /// intervals for directly standardized rates", Statistics in Medicine 1997): gamma
    /// distributions with the estimate's mean and variance, and for the upper end those of the
    /// estimate with one more block of the largest weight. It holds for few and for skewed
    /// samples, where the normal distribution does not, and is wide where large weights are
    /// possible. Quantiles by Wilson and Hilferty (PNAS 1931).
    pub fn interval(&self) -> Interval {
        if self.unit <= 0.0 {
            return Interval { low: self.value, high: self.value };
        }
        Interval {
            low: gamma_quantile(self.value, self.variance, -Z),
            high: gamma_quantile(self.value + self.unit, self.variance + self.unit * self.unit, Z),
        }
    }
}

/// The point of the gamma distribution with that mean and variance which has as much below it as
/// the normal distribution has below `normal`.
fn gamma_quantile(mean: f64, variance: f64, normal: f64) -> f64 {
    if variance <= 0.0 || mean <= 0.0 {
        return mean.max(0.0);
    }
    // Degrees of freedom of the chi-squared distribution, halved.
    let shape = mean * mean / variance;
    let ninth = 1.0 / (9.0 * shape);
    let cube = 1.0 - ninth + normal * ninth.sqrt();
    mean * cube.max(0.0).powi(3)
}

#[cfg(test)]
mod tests {
    use super::{Estimate, Interval};
    use heapwright_core::exponential::Exponential;

    /// Blocks that are alike: how many, their bytes, and what each pins at most.
    type Group = (usize, f64, f64);

    struct Outcome {
        covered: f64,
        error: f64,
        /// Median width over the truth.
        width: f64,
    }

    /// Repetitions over `groups` with a mean of `rate` bytes between samples. Every block of a
    /// group pins the same, or a share of it that is even between nothing and all.
    fn repeat(groups: &[Group], rate: f64, is_even: bool, seed: u64) -> Outcome {
        let mut random = Exponential::new(seed);
        let rounds = 400;
        let (mut covered, mut error, mut widths) = (0, 0.0, Vec::new());
        for _ in 0..rounds {
            let (mut estimate, mut truth) = (Estimate::default(), 0.0);
            for (count, bytes, most) in groups {
                let probability = -(-bytes / rate).exp_m1();
                estimate.allow_for(*most, probability);
                for block in 0..*count {
                    let share = (block * 37 % 101) as f64 / 100.0;
                    let value = if is_even { most * share } else { *most };
                    truth += value;
                    // An exponential is below q with probability 1 - exp(-q).
                    if random.draw() < bytes / rate {
                        estimate.add(value, probability);
                    }
                }
            }
            let interval = estimate.interval();
            covered += u32::from((interval.low..=interval.high).contains(&truth));
            error += (estimate.value - truth) / truth / f64::from(rounds);
            widths.push((interval.high - interval.low) / truth);
        }
        widths.sort_by(f64::total_cmp);
        let width = widths[widths.len() / 2];
        Outcome { covered: f64::from(covered) / f64::from(rounds), error, width }
    }

    #[test]
    fn intervals_cover_the_truth_as_often_as_they_say() {
        let shapes: [(&str, &[Group], f64); 9] = [
            ("many alike", &[(3000, 200.0, 3000.0)], 21_845.0),
            ("few alike", &[(400, 64.0, 4000.0)], 32_768.0),
            ("hardly any sampled", &[(100, 32.0, 4064.0)], 32_768.0),
            (
                "all sizes",
                &[
                    (535, 48.0, 4048.0),
                    (535, 192.0, 3900.0),
                    (535, 768.0, 3300.0),
                    (535, 3072.0, 1024.0),
                ],
                32_768.0,
            ),
            ("few small ones pin most", &[(1000, 48.0, 4048.0), (3000, 1000.0, 40.0)], 21_845.0),
            ("very few small ones", &[(60, 16.0, 4080.0), (1000, 2000.0, 90.0)], 65_536.0),
            (
                "small ones hardly sampled",
                &[(1500, 16.0, 4080.0), (1000, 3000.0, 1000.0)],
                524_288.0,
            ),
            ("many of two sizes", &[(2000, 128.0, 3900.0), (500, 8192.0, 500.0)], 26_214.0),
            ("half always sampled", &[(300, 4096.0, 900.0), (40, 1e9, 5000.0)], 16_384.0),
        ];
        for (name, groups, rate) in shapes {
            for is_even in [false, true] {
                let seen = repeat(groups, rate, is_even, name.len() as u64);
                println!(
                    "{name}, even {is_even}: covered {:.3}, width {:.2} of the truth",
                    seen.covered, seen.width
                );
                assert!(seen.covered >= 0.93, "{name}: {}", seen.covered);
                // Where one sample is more than the truth, the mean of 400 is within half.
                assert!(seen.error.abs() < 0.5, "{name}: {}", seen.error);
            }
        }
    }

    #[test]
    fn what_is_always_sampled_is_exact() {
        let mut estimate = Estimate::default();
        estimate.add(5.0, 1.0);
        estimate.add(7.0, 1.0);
        estimate.allow_for(9.0, 1.0);
        assert_eq!((estimate.interval().low, estimate.interval().high), (12.0, 12.0));
    }

    #[test]
    fn a_part_is_not_more_than_the_whole_that_is_known() {
        let interval = |low, high| Interval { low, high };
        // Samples say 8 of 5 in all, and 7 to 9 of this part: as if it were more than there is.
        assert_eq!(interval(7.0, 9.0).within(5.0, 8.0), interval(4.375, 5.0));
        assert_eq!(interval(1.0, 9.0).within(5.0, 4.0), interval(1.0, 5.0));
        assert_eq!(interval(1.0, 3.0).within(5.0, 5.0), interval(1.0, 3.0));
        assert_eq!(interval(0.0, 2.0).within(0.0, 0.0), interval(0.0, 0.0));
    }
}

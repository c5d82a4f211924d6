//! Medians, spreads, and ratios of paired runs with a bootstrap interval.

use serde::{Deserialize, Serialize};

/// Resamples behind an interval; 2000 fix its ends to within a percent or two of its width.
const RESAMPLES: usize = 2000;

/// A figure over the repeated runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// (max - min) / median; 0 when the median is 0.
    pub spread: f64,
}

/// A ratio to the system's allocator, from runs paired by round. Below 1 is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RatioInterval {
    /// Median of the rounds' ratios.
    pub median: f64,
    /// Lower end of the 95 % bootstrap interval of the median.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Summary {
    /// Of `values`; all 0 when there are none.
    pub fn of(values: &[f64]) -> Self {
        let Some(median) = median(values) else {
            return Self::default();
        };
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spread = if median > 0.0 { (max - min) / median } else { 0.0 };
        Self { median, min, max, spread }
    }
}

impl RatioInterval {
    /// Of `values` over `baseline`, pair by pair; none without a pair, or when a baseline is
    /// not positive.
    pub fn of(values: &[f64], baseline: &[f64]) -> Option<Self> {
        let ratios: Option<Vec<f64>> = values
            .iter()
            .zip(baseline)
            .map(|(value, base)| (*base > 0.0).then(|| value / base))
            .collect();
        let ratios = ratios?;
        let middle = median(&ratios)?;
        let mut draws = Draws(0x5eed);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                let sample: Vec<f64> =
                    (0..ratios.len()).map(|_| ratios[draws.below(ratios.len())]).collect();
                median(&sample)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let at = |share: f64| medians[((medians.len() - 1) as f64 * share).round() as usize];
        Some(Self { median: middle, low: at(0.025), high: at(0.975) })
    }

    /// Whether the interval lies wholly on one side of 1.
    pub fn differs(&self) -> bool {
        self.high < 1.0 || self.low > 1.0
    }
}

/// The middle value, or the mean of the two middle ones.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// A fixed sequence, so that the same runs give the same interval.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::{RatioInterval, Summary};

    #[test]
    fn a_summary_has_the_middle_and_the_spread() {
        let summary = Summary::of(&[4.0, 1.0, 2.0, 3.0]);
        assert_eq!((summary.median, summary.min, summary.max), (2.5, 1.0, 4.0));
        assert_eq!(summary.spread, 1.2);
        assert_eq!(Summary::of(&[]), Summary::default());
    }

    #[test]
    fn pairing_takes_the_machines_drift_out() {
        // Each round is slower than the one before; the ratio is 0.8 in each.
        let system = [1.0, 1.5, 2.0, 2.5, 3.0];
        let subject = system.map(|seconds| seconds * 0.8);
        let ratio = RatioInterval::of(&subject, &system).expect("five pairs");
        assert!((ratio.median - 0.8).abs() < 1e-12 && ratio.high - ratio.low < 1e-12);
        assert!(ratio.differs());
    }

    #[test]
    fn noise_does_not_differ() {
        let ratio = RatioInterval::of(&[1.1, 0.9, 1.0, 1.2, 0.8], &[1.0; 5]).expect("five pairs");
        assert!(!ratio.differs(), "{ratio:?}");
        assert!(ratio.low <= ratio.median && ratio.median <= ratio.high);
        assert_eq!(RatioInterval::of(&[], &[]), None);
        assert_eq!(RatioInterval::of(&[1.0], &[0.0]), None);
    }
}

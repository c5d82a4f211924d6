//! Medians, spreads and paired ratios of few repetitions.

/// The middle value; the mean of the two middle ones for an even count, NaN for none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Largest minus smallest value, as a share of the median.
pub fn spread(values: &[f64]) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (most - least) / median(values)
}

/// Of the ratios of values of the same round: the median, the least and the largest.
///
/// With the three to nine rounds of a suite the whole range is said rather than an interval
/// that would pretend to more. Rounds that lack a partner are left out; none gives NaN.
pub fn paired_ratio(values: &[f64], bases: &[f64]) -> (f64, f64, f64) {
    let ratios: Vec<f64> = values.iter().zip(bases).map(|(value, base)| value / base).collect();
    let least = ratios.iter().copied().fold(f64::NAN, f64::min);
    let most = ratios.iter().copied().fold(f64::NAN, f64::max);
    (median(&ratios), least, most)
}

#[cfg(test)]
mod tests {
    use super::{median, paired_ratio, spread};

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn spread_is_the_range_over_the_median() {
        assert_eq!(spread(&[2.0, 3.0, 4.0]), 2.0 / 3.0);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        assert_eq!(paired_ratio(&[2.0, 9.0, 4.0], &[1.0, 3.0, 4.0]), (2.0, 1.0, 3.0));
        assert!(paired_ratio(&[1.0], &[]).0.is_nan());
    }
}

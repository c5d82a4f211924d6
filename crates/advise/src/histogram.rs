//! Counts by size: exact for few values, logarithmic for many.

use hdrhistogram::Histogram;

/// Different values that a [`ValueSet`] keeps exactly.
pub(crate) const EXACT_VALUES_MAX: usize = 64;

/// Decimal digits of a value that are kept: buckets of 1/16 of an octave, so that a bucket's middle
/// is at most 1/32 (3.1 %) from any value in it.
const DIGITS: u8 = 1;

/// Counts in buckets of equal ratio: 16 an octave, exact below 32. Memory: 4 bytes a bucket up
/// to the largest value (2 KiB for values to 2^35).
#[derive(Clone, Debug)]
pub(crate) struct LogHistogram {
    buckets: Histogram<u32>,
}

impl Default for LogHistogram {
    fn default() -> Self {
        Self { buckets: Histogram::new(DIGITS).expect("one digit is a precision that it takes") }
    }
}

impl LogHistogram {
    /// Enters `value` `count` times. O(1). A bucket stops counting at 2^32 - 1.
    #[inline]
    pub(crate) fn add(&mut self, value: u64, count: u64) {
        let count = count.min(u64::from(u32::MAX)) as u32;
        self.buckets.record_n(value, count).expect("it grows to any value");
    }

    /// The middle of the bucket that holds the lower median; 0 without values. Off by at most
    /// 3.1 %.
    pub(crate) fn median(&self) -> u64 {
        self.buckets.median_equivalent(self.buckets.value_at_quantile(0.5))
    }

    /// Buckets that are not empty: lowest value, count; ascending.
    fn entries(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter_recorded().map(|entry| {
            let low = self.buckets.lowest_equivalent(entry.value_iterated_to());
            (low, u64::from(entry.count_at_value()))
        })
    }
}

/// Requested sizes of a site: each value with its count up to [`EXACT_VALUES_MAX`] different
/// ones, then a [`LogHistogram`].
#[derive(Clone, Debug, Default)]
pub(crate) struct ValueSet {
    exact: Vec<(u64, u64)>,
    last: usize,
    many: Option<Box<LogHistogram>>,
    min: Option<u64>,
    max: u64,
}

impl ValueSet {
    /// Enters `value` `count` times. O(1) when it is the one before or there are many different
    /// ones; else a look through at most 64.
    #[inline]
    pub(crate) fn add(&mut self, value: u64, count: u64) {
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
        self.max = self.max.max(value);
        if let Some(many) = &mut self.many {
            return many.add(value, count);
        }
        if let Some(entry) = self.exact.get_mut(self.last)
            && entry.0 == value
        {
            entry.1 += count;
            return;
        }
        self.add_slow(value, count);
    }

    fn add_slow(&mut self, value: u64, count: u64) {
        if let Some(index) = self.exact.iter().position(|entry| entry.0 == value) {
            self.exact[index].1 += count;
            self.last = index;
        } else if self.exact.len() < EXACT_VALUES_MAX {
            self.last = self.exact.len();
            self.exact.push((value, count));
        } else {
            let mut many = LogHistogram::default();
            for (value, count) in self.exact.drain(..) {
                many.add(value, count);
            }
            many.add(value, count);
            self.many = Some(Box::new(many));
        }
    }

    /// Smallest value; 0 without values.
    pub(crate) fn min(&self) -> u64 {
        self.min.unwrap_or(0)
    }

    /// Largest value; 0 without values.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Different values; 65 for more than 64.
    pub(crate) fn distinct(&self) -> u32 {
        if self.many.is_some() { EXACT_VALUES_MAX as u32 + 1 } else { self.exact.len() as u32 }
    }

    /// The lower median: exact up to 64 different values, else off by at most 3.1 %.
    pub(crate) fn median(&self) -> u64 {
        if let Some(many) = &self.many {
            return many.median().clamp(self.min(), self.max);
        }
        let mut sorted = self.exact.clone();
        sorted.sort_unstable();
        let half = sorted.iter().map(|entry| entry.1).sum::<u64>().div_ceil(2);
        let mut seen = 0;
        let reaches_half = |entry: &&(u64, u64)| {
            seen += entry.1;
            seen >= half
        };
        sorted.iter().find(reaches_half).map_or(0, |entry| entry.0)
    }

    /// Share of the blocks, 0 to 1, whose size a power of two holds with at most an eighth of
    /// waste. With many sizes it is told by the buckets.
    pub(crate) fn power_of_two_share(&self) -> f64 {
        let mut fitting = 0;
        let mut all = 0;
        let mut enter = |value: u64, count: u64| {
            all += count;
            let rounded = value.max(1).checked_next_power_of_two().unwrap_or(u64::MAX);
            if rounded - value <= rounded / 8 {
                fitting += count;
            }
        };
        match &self.many {
            None => self.exact.iter().for_each(|&(value, count)| enter(value, count)),
            Some(many) => {
                many.entries().for_each(|(low, count)| enter(low, count));
            }
        }
        if all == 0 { 0.0 } else { fitting as f64 / all as f64 }
    }
}

/// Bars of a whole program's histogram: one an octave.
#[derive(Clone, Debug)]
pub(crate) struct OctaveBars {
    bars: [(u64, u64); 65],
}

impl Default for OctaveBars {
    fn default() -> Self {
        Self { bars: [(0, 0); 65] }
    }
}

impl OctaveBars {
    /// Enters `count` blocks of `bytes` in all under `value`.
    #[inline]
    pub(crate) fn add(&mut self, value: u64, count: u64, bytes: u64) {
        let bar = &mut self.bars[64 - value.leading_zeros() as usize];
        bar.0 += count;
        bar.1 = bar.1.saturating_add(bytes);
    }

    /// The bars from the first to the last that is not empty: 0, 1, 2 to 3, 4 to 7, ...
    pub(crate) fn bars(&self) -> Vec<crate::schema::HistogramBar> {
        let used = |bar: &(u64, u64)| bar.0 > 0;
        let Some(first) = self.bars.iter().position(used) else { return Vec::new() };
        let last = self.bars.iter().rposition(used).unwrap_or(first);
        (first..=last)
            .map(|index| crate::schema::HistogramBar {
                low: if index == 0 { 0 } else { 1 << (index - 1) },
                high: 1u64.checked_shl(index as u32).unwrap_or(u64::MAX),
                count: self.bars[index].0,
                bytes: self.bars[index].1,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{LogHistogram, OctaveBars, ValueSet};

    #[test]
    fn a_value_alone_is_told_to_a_thirty_second() {
        let mut values: Vec<u64> = (0..5000).collect();
        values.extend((0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]));
        values.extend([u64::MAX, u64::MAX / 3]);
        for value in values {
            let mut alone = LogHistogram::default();
            alone.add(value, 1);
            let told = alone.median();
            assert!(told.abs_diff(value) as f64 <= value as f64 / 32.0, "{value} {told}");
            let entries: Vec<_> = alone.entries().collect();
            assert!(matches!(entries[..], [(low, 1)] if low <= value), "{value} {entries:?}");
        }
    }

    #[test]
    fn medians_are_exact_for_few_values_and_close_for_many() {
        let mut few = ValueSet::default();
        for value in [10, 20, 20, 30, 1000] {
            few.add(value, 1);
        }
        assert_eq!((few.min(), few.median(), few.max(), few.distinct()), (10, 20, 1000, 4));
        let mut many = ValueSet::default();
        for value in 1..=10_000 {
            many.add(value, 1);
        }
        assert_eq!((many.min(), many.max(), many.distinct()), (1, 10_000, 65));
        assert!(many.median().abs_diff(5000) <= 5000 / 32, "{}", many.median());
        assert_eq!(LogHistogram::default().median(), 0);
    }

    #[test]
    fn powers_of_two_are_told_from_other_sizes() {
        let mut set = ValueSet::default();
        set.add(65536, 3);
        set.add(65535, 3);
        set.add(40000, 2);
        assert_eq!(set.power_of_two_share(), 0.75);
    }

    #[test]
    fn bars_are_octaves() {
        let mut bars = OctaveBars::default();
        bars.add(2, 1, 2);
        bars.add(3, 2, 6);
        bars.add(9, 1, 9);
        let bars = bars.bars();
        let plain: Vec<_> = bars.iter().map(|bar| (bar.low, bar.high, bar.count)).collect();
        assert_eq!(plain, [(2, 4, 3), (4, 8, 0), (8, 16, 1)]);
        assert_eq!(bars[0].bytes, 8);
    }
}

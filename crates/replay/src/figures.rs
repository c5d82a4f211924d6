//! From samples to figures.
#![forbid(unsafe_code)]

use crate::plan::PlanFacts;
use crate::report::{MemoryFigures, MemoryPoint};
use crate::result::{Field, ResultWords, Sample};

/// Median; 0 of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// (max - min) / median; 0 of nothing.
pub(crate) fn spread(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    let middle = median(values.iter().copied());
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    if middle > 0.0 { (max - min) / middle } else { 0.0 }
}

/// A run is far out when it lies above the third quartile by so many times the distance of the
/// quartiles (Tukey's outer fence), and by so large a share of the median: quartiles of five runs
/// may lie close by chance.
const FENCE_FACTOR: f64 = 3.0;
const FENCE_SHARE: f64 = 0.1;
/// Runs from which quartiles say something.
const FENCE_RUNS_MIN: usize = 5;

/// What a run above has met something that is not the allocator's: infinite where nothing can be
/// said. A median hardly moves by such a run, a range is nothing but it.
pub(crate) fn fence(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    if values.len() < FENCE_RUNS_MIN {
        return f64::INFINITY;
    }
    values.sort_by(f64::total_cmp);
    let quartile = |quarter: usize| values[(values.len() - 1) * quarter / 4];
    let (first, middle, third) = (quartile(1), quartile(2), quartile(3));
    third + (FENCE_FACTOR * (third - first)).max(FENCE_SHARE * middle)
}

/// [`spread`] of the runs that are not far out.
pub(crate) fn settled_spread(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let fence = fence(values.clone());
    spread(values.filter(|&value| value <= fence))
}

/// What a memory run showed.
///
/// # Errors
/// A sentence when the worker's own count of live blocks is not the recording's at some
/// sample: then operations were lost or out of order, and no figure can be trusted.
pub(crate) fn memory_figures(
    facts: &PlanFacts,
    result: &ResultWords,
) -> Result<MemoryFigures, String> {
    let samples = result.samples();
    if samples.len() != facts.samples.len() {
        return Err(format!("{} of {} samples were taken", samples.len(), facts.samples.len()));
    }
    let knows_usable = result.get(Field::KnowsUsable) != 0;
    let mut timeline = Vec::with_capacity(samples.len());
    for (expected, sample) in facts.samples.iter().zip(&samples) {
        let counted = (sample.live_blocks, sample.live_bytes);
        let recorded = (expected.live_blocks as i64, expected.live_bytes as i64);
        if counted != recorded {
            return Err(format!(
                "after {} events the replay had (blocks, bytes) {counted:?} alive, the \
                 recording {recorded:?}: this is an error of heapwright, please report it",
                expected.events
            ));
        }
        let (internal, external) = fragmentation(sample, knows_usable);
        timeline.push(MemoryPoint {
            events: expected.events,
            time_s: expected.time_s,
            resident_bytes: sample.resident_bytes,
            live_bytes: expected.live_bytes,
            usable_bytes: sample.usable_bytes.max(0) as u64,
            live_blocks: expected.live_blocks,
            mapped_bytes: sample.mapped_bytes.max(0) as u64,
            internal: internal.unwrap_or(0.0),
            external: external.unwrap_or(0.0),
        });
    }
    let at_peak = samples.get(facts.peak_sample).copied().unwrap_or_default();
    let at_end = samples.last().copied().unwrap_or_default();
    let (internal, external) = fragmentation(&at_peak, knows_usable);
    let (end_internal, end_external) = fragmentation(&at_end, knows_usable);
    Ok(MemoryFigures {
        peak_bytes: result.get(Field::PeakBytes),
        mean_bytes: mean_over_events(&timeline),
        end_bytes: at_end.resident_bytes,
        at_live_peak_bytes: at_peak.resident_bytes,
        internal_fragmentation: internal,
        external_fragmentation: external,
        end_internal_fragmentation: end_internal,
        end_external_fragmentation: end_external,
        largest_free_bytes: None,
        hasty_peak_bytes: None,
        baseline_bytes: result.get(Field::BaselineBytes),
        threads_max: result.get(Field::ThreadsMax),
        counted_peak_live_bytes: result.get(Field::PeakLiveBytes),
        timeline,
    })
}

/// Internal and external fragmentation at a sample; none where there is nothing to divide.
fn fragmentation(sample: &Sample, knows_usable: bool) -> (Option<f64>, Option<f64>) {
    if !knows_usable {
        return (None, None);
    }
    let (live, usable) = (sample.live_bytes as f64, sample.usable_bytes as f64);
    let internal = (usable > 0.0).then(|| (1.0 - live / usable).clamp(0.0, 1.0));
    let touched = usable - sample.untouched_bytes as f64;
    let resident = sample.resident_bytes as f64 - sample.mapped_bytes as f64;
    let external = (resident > 0.0).then(|| (1.0 - touched / resident).clamp(0.0, 1.0));
    (internal, external)
}

/// Each point stands for the events since the point before.
fn mean_over_events(timeline: &[MemoryPoint]) -> u64 {
    let mut sum = 0u128;
    let mut before = 0;
    for point in timeline {
        sum += u128::from(point.resident_bytes) * u128::from(point.events - before);
        before = point.events;
    }
    (sum / u128::from(before.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::{fence, fragmentation, mean_over_events, median, settled_spread, spread};
    use crate::report::MemoryPoint;
    use crate::result::Sample;

    #[test]
    fn medians_and_spreads() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
        assert_eq!(median(std::iter::empty()), 0.0);
        assert_eq!(spread([1.0, 2.0, 3.0].into_iter()), 1.0);
    }

    #[test]
    fn a_run_far_out_is_no_part_of_the_spread() {
        let runs = [93.0, 95.0, 247.0, 94.0, 96.0, 95.0];
        assert!((100.0..247.0).contains(&fence(runs.into_iter())));
        assert!(settled_spread(runs.into_iter()) < 0.04 && spread(runs.into_iter()) > 1.0);
        // Runs that differ all over have none far out, nor have few runs.
        let wide = [60.0, 80.0, 100.0, 120.0, 140.0];
        assert_eq!(settled_spread(wide.into_iter()), spread(wide.into_iter()));
        assert_eq!(fence([1.0, 1.0, 1.0, 9.0].into_iter()), f64::INFINITY);
        // Five equal ones and one just above are equal for all we can tell.
        assert_eq!(settled_spread([10.0, 10.0, 10.0, 10.0, 10.5].into_iter()), 0.05);
    }

    #[test]
    fn fragmentation_leaves_out_untouched_pages_and_mappings() {
        let sample = Sample {
            resident_bytes: 300,
            live_bytes: 180,
            usable_bytes: 200,
            untouched_bytes: 50,
            mapped_bytes: 100,
            ..Sample::default()
        };
        let (internal, external) = fragmentation(&sample, true);
        assert_eq!((internal, external), (Some(1.0 - 180.0 / 200.0), Some(0.25)));
        assert_eq!(fragmentation(&sample, false), (None, None));
    }

    #[test]
    fn the_mean_weighs_by_events() {
        let point = |events, resident_bytes| MemoryPoint {
            events,
            resident_bytes,
            ..MemoryPoint::default()
        };
        assert_eq!(mean_over_events(&[point(10, 100), point(40, 200)]), 175);
    }
}

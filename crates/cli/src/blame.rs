//! What resident memory is for: the replay's stock, under the allocator that the program has.

use crate::console::Console;
use crate::progress::Progress;
use crate::units;
use clap::Args;
use heapwright_advise::schema::{Fragmentation, FragmentationClass, FragmentationPoint};
use heapwright_advise::{BlameShare, FragmentationFacts};
use heapwright_replay::{
    AllocatorSpec, ClassShare, MemoryPoint, Plan, ReplayOptions, ReplayReport, SITE_UNKNOWN, Stock,
    stock_count_max, take_stock,
};
use std::time::Duration;

/// Moments of the series, the three that have names apart.
const SERIES: usize = 32;

/// The one of `specs` that the program itself has: `own` when it brings an allocator, else the
/// system's.
pub(crate) fn present<'a>(
    specs: &'a [AllocatorSpec],
    own: Option<&str>,
) -> Option<&'a AllocatorSpec> {
    let brought = own.and_then(|own| specs.iter().find(|spec| own.contains(&spec.name)));
    brought.or_else(|| specs.iter().find(|spec| spec.so.is_none()))
}

/// When the call sites are asked what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// When most was retained: resident beyond the live bytes.
    Worst,
    /// When most requested bytes were alive.
    Peak,
    /// After the last event.
    End,
    /// So long after the first event.
    After(Duration),
}

/// Which moment is blamed.
#[derive(Debug, Args)]
pub(crate) struct BlameOptions {
    /// When to ask which call sites hold free memory: worst (most retained), peak, end, or a time
    #[arg(long, value_name = "worst|peak|end|TIME", default_value = "worst", value_parser = moment)]
    pub blame_at: Moment,
}

pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    Ok(match text {
        "worst" => Moment::Worst,
        "peak" => Moment::Peak,
        "end" => Moment::End,
        time => Moment::After(units::duration(time)?),
    })
}

impl Moment {
    fn name(self) -> &'static str {
        match self {
            Self::Worst => "worst",
            Self::Peak => "peak",
            Self::End => "end",
            Self::After(_) => "time",
        }
    }

    /// The sample of the series that is meant.
    fn sample(self, timeline: &[MemoryPoint], peak_sample: usize) -> usize {
        let last = timeline.len().saturating_sub(1);
        match self {
            Self::Peak => peak_sample,
            Self::End => last,
            Self::After(time) => {
                let after = timeline.partition_point(|point| point.time_s < time.as_secs_f64());
                after.min(last)
            }
            Self::Worst => {
                let retained = |point: &MemoryPoint| {
                    let held = point.usable_bytes.max(point.live_bytes) + point.mapped_bytes;
                    point.resident_bytes.saturating_sub(held)
                };
                // The first of equals: what came later is the same memory.
                (0..timeline.len())
                    .max_by_key(|&at| (retained(&timeline[at]), std::cmp::Reverse(at)))
                    .unwrap_or(0)
            }
        }
    }
}

/// Takes stock of the row of `replayed` that is named `allocator`, at `moment` and over time.
/// None when that allocator has no figures.
pub(crate) fn fragmentation(
    plan: &Plan,
    replayed: &ReplayReport,
    spec: &AllocatorSpec,
    moment: Moment,
    pace_limit: Duration,
    console: &Console,
) -> Option<FragmentationFacts> {
    let row = replayed.allocators.iter().find(|row| row.name == spec.name);
    let memory = row.filter(|row| row.failure.is_empty())?.memory.as_ref()?;
    let asked = moment.sample(&memory.timeline, plan.facts().peak_sample);
    let samples = series(asked, memory.timeline.len(), stock_count_max(plan));
    let progress = Progress::new(1);
    let options = ReplayOptions { pace_limit, ..ReplayOptions::default() };
    let taken = take_stock(plan, spec, &samples, &options, &mut |state| {
        progress.set(state.done, state.total, &state.what);
    });
    drop(progress);
    let stocks = match taken {
        Ok(stocks) => stocks,
        Err(error) => {
            // All the rest of the advice stands without it.
            console.message(&format!("what memory is held for is not known: {error}"));
            return None;
        }
    };
    stocks.iter().find(|stock| stock.sample == asked).map(|stock| FragmentationFacts {
        fragmentation: whole(&spec.name, moment, stock, &stocks),
        shares: shares(stock),
    })
}

/// `asked`, and others evenly over `count` samples, ascending; no more than `count_max`.
fn series(asked: usize, count: usize, count_max: usize) -> Vec<usize> {
    let wanted = SERIES.min(count_max.saturating_sub(1)).min(count);
    let mut samples: Vec<usize> = (1..=wanted).map(|part| part * count / wanted - 1).collect();
    samples.push(asked);
    samples.sort_unstable();
    samples.dedup();
    samples
}

fn whole(allocator: &str, moment: Moment, stock: &Stock, all: &[Stock]) -> Fragmentation {
    Fragmentation {
        allocator: allocator.to_owned(),
        moment: moment.name().into(),
        events: stock.events,
        time_s: stock.time_s,
        resident_bytes: stock.resident_bytes,
        requested_bytes: stock.requested_bytes,
        slack_bytes: stock.slack_bytes,
        pinned_bytes: stock.pinned_bytes,
        empty_bytes: stock.empty_bytes,
        mapped_bytes: stock.mapped_bytes,
        stack_bytes: stock.stack_bytes,
        earlier_bytes: stock.earlier_bytes,
        internal: stock.internal_fragmentation(),
        external: stock.external_fragmentation(),
        largest_free_bytes: stock.largest_free_bytes,
        classes: stock.classes.iter().map(class).collect(),
        series: all.iter().map(point).collect(),
    }
}

fn point(stock: &Stock) -> FragmentationPoint {
    FragmentationPoint {
        events: stock.events,
        time_s: stock.time_s,
        resident_bytes: stock.resident_bytes,
        pinned_bytes: stock.pinned_bytes,
        empty_bytes: stock.empty_bytes,
        internal: stock.internal_fragmentation(),
        external: stock.external_fragmentation(),
        largest_free_bytes: stock.largest_free_bytes,
        classes: stock.classes.iter().map(class).collect(),
    }
}

fn class(share: &ClassShare) -> FragmentationClass {
    let (live, pinned) = (share.live_bytes as f64, share.pinned_bytes as f64);
    FragmentationClass {
        class_bytes: share.class_bytes,
        blocks: share.blocks,
        live_bytes: share.live_bytes,
        pinned_bytes: share.pinned_bytes,
        internal: if live > 0.0 { 1.0 - share.requested_bytes as f64 / live } else { 0.0 },
        external: if live + pinned > 0.0 { pinned / (live + pinned) } else { 0.0 },
        largest_free_bytes: share.largest_free_bytes,
    }
}

/// The call sites' shares of a stock.
fn shares(stock: &Stock) -> Vec<BlameShare> {
    stock
        .sites
        .iter()
        .map(|share| BlameShare {
            site: (share.site != SITE_UNKNOWN).then_some(share.site),
            live_bytes: share.live_bytes,
            pinned_bytes: share.pinned_bytes,
            releasable_bytes: share.releasable_bytes,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Moment, moment, series};
    use heapwright_replay::MemoryPoint;
    use std::time::Duration;

    #[test]
    fn the_moment_is_found_in_the_series() {
        let point = |time_s: f64, resident_bytes, usable_bytes| MemoryPoint {
            time_s,
            resident_bytes,
            usable_bytes,
            ..MemoryPoint::default()
        };
        let timeline =
            [point(0.0, 10, 10), point(1.0, 90, 80), point(2.0, 90, 20), point(3.0, 80, 10)];
        let at = |text: &str| moment(text).map(|moment| moment.sample(&timeline, 1));
        assert_eq!(at("worst"), Ok(2));
        assert_eq!((at("peak"), at("end")), (Ok(1), Ok(3)));
        assert_eq!((at("1s"), at("1500ms"), at("9m")), (Ok(1), Ok(2), Ok(3)));
        assert_eq!(moment("2s"), Ok(Moment::After(Duration::from_secs(2))));
        assert!(moment("soon").is_err());
    }

    #[test]
    fn the_series_holds_the_moment_and_fits() {
        assert_eq!(series(5, 9, 4), [2, 5, 8]);
        assert_eq!(series(3, 9, 1), [3]);
        assert_eq!(series(0, 1, 64), [0]);
        assert!(series(7, 400, 64).len() <= 33);
    }
}

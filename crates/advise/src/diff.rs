//! Two recordings compared: totals, and call sites matched by the names on their stacks.

use std::cmp::Reverse;

use heapwright_format::stacks::StackId;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::analysis::{Analysis, StackTotals};
use crate::fail_if::{Limit, Metric};
use crate::text::{bytes_text, clean_name, count_text, table};

/// Changed sites kept, largest change first.
const SITES_MAX: usize = 200;

/// What two recordings differ in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// Figures of the whole process.
    pub totals: Vec<Change>,
    /// Sites with different figures, largest change of bytes first, at most 200.
    pub sites: Vec<SiteChange>,
    /// Sites with different figures in all.
    pub sites_changed: u64,
    /// Limits that are exceeded, a sentence each; empty when all hold.
    pub failures: Vec<String>,
}

/// A figure before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// `peak`, `bytes`, `allocs`, `temporaries`, `leaks` or `threads`, as limits name it.
    pub metric: String,
    /// In the old recording.
    pub old: u64,
    /// In the new one.
    pub new: u64,
    /// New over old; none when old is 0.
    pub ratio: Option<f64>,
}

/// Figures of a site in one recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteFigures {
    /// Allocations.
    pub allocs: u64,
    /// Requested bytes.
    pub bytes: u64,
    /// Requested bytes alive at the program's peak.
    pub peak: u64,
    /// Temporary blocks.
    pub temporaries: u64,
    /// Requested bytes alive at the end.
    pub leaks: u64,
}

/// A site of both recordings; all 0 in the one that lacks it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteChange {
    /// The innermost function that is no allocation wrapper.
    pub function: String,
    /// All functions, innermost first: what the sites are matched by.
    pub stack: Vec<String>,
    /// Before.
    pub old: SiteFigures,
    /// After.
    pub new: SiteFigures,
}

impl Diff {
    /// Compares `old` and `new`, and checks `limits`.
    ///
    /// Stacks are the same when their functions have the same names, from the innermost to the
    /// outermost; lines and addresses may differ, as they do between builds. Functions without
    /// names match only between identical files.
    pub fn new(old: &Analysis, new: &Analysis, limits: &[Limit]) -> Self {
        let totals: Vec<Change> =
            Metric::ALL.iter().map(|&metric| Change::new(metric, old, new)).collect();
        let mut sites: FxHashMap<Vec<&str>, SiteChange> = FxHashMap::default();
        enter(&mut sites, old, |site| &mut site.old);
        enter(&mut sites, new, |site| &mut site.new);
        let mut changed: Vec<SiteChange> = sites
            .into_iter()
            .filter(|(_, site)| site.old != site.new)
            .map(|(stack, mut site)| {
                site.stack = stack.into_iter().map(String::from).collect();
                site
            })
            .collect();
        changed.sort_by(|a, b| {
            let size = |site: &SiteChange| {
                let bytes = site.old.bytes.abs_diff(site.new.bytes);
                let allocs = site.old.allocs.abs_diff(site.new.allocs);
                Reverse((bytes, site.old.peak.abs_diff(site.new.peak), allocs))
            };
            (size(a), &a.stack).cmp(&(size(b), &b.stack))
        });
        let sites_changed = changed.len() as u64;
        changed.truncate(SITES_MAX);
        let failures = limits
            .iter()
            .filter_map(|limit| {
                let metric = limit.metric();
                limit.exceeded(metric.of(&old.totals), metric.of(&new.totals))
            })
            .collect();
        Self { totals, sites: changed, sites_changed, failures }
    }

    /// Whether all limits hold.
    pub fn is_within_limits(&self) -> bool {
        self.failures.is_empty()
    }

    /// For a terminal: totals, the first `count` sites, failures.
    pub fn text(&self, count: usize) -> String {
        let head = ["", "old", "new", "change"].map(String::from).to_vec();
        let mut rows = vec![head];
        for change in &self.totals {
            let is_bytes = Metric::from_name(&change.metric).is_some_and(Metric::is_bytes);
            let show = |value| if is_bytes { bytes_text(value) } else { count_text(value) };
            let ratio = change.ratio.map_or_else(
                || if change.new == 0 { "0 %".into() } else { "new".into() },
                |ratio| format!("{:+.1} %", (ratio - 1.0) * 100.0),
            );
            rows.push(vec![change.metric.clone(), show(change.old), show(change.new), ratio]);
        }
        let mut text = table(&rows, 1);
        if !self.sites.is_empty() && count > 0 {
            let head = ["bytes", "allocs", "at peak", "at end", "call site"];
            let mut rows = vec![head.map(String::from).to_vec()];
            for site in self.sites.iter().take(count) {
                rows.push(site.cells());
            }
            text.push('\n');
            text.push_str(&table(&rows, usize::MAX));
            let more = self.sites_changed.saturating_sub(count.min(self.sites.len()) as u64);
            if more > 0 {
                text.push_str(&format!("... and {more} more\n"));
            }
        }
        for failure in &self.failures {
            text.push_str(&format!("failed: {failure}\n"));
        }
        text
    }
}

impl Change {
    fn new(metric: Metric, old: &Analysis, new: &Analysis) -> Self {
        let (old, new) = (metric.of(&old.totals), metric.of(&new.totals));
        let ratio = (old > 0).then(|| new as f64 / old as f64);
        Self { metric: metric.name().into(), old, new, ratio }
    }
}

impl SiteChange {
    fn cells(&self) -> Vec<String> {
        let change = |old: u64, new: u64, show: fn(u64) -> String| {
            let sign = if new >= old { '+' } else { '-' };
            format!("{sign}{}", show(old.abs_diff(new)))
        };
        let callers = self.stack.iter().position(|name| *name == self.function);
        let caller = callers.and_then(|index| self.stack.get(index + 1));
        let place = match caller {
            Some(caller) => format!("{} < {}", self.function, caller),
            None => self.function.clone(),
        };
        vec![
            change(self.old.bytes, self.new.bytes, bytes_text),
            change(self.old.allocs, self.new.allocs, count_text),
            change(self.old.peak, self.new.peak, bytes_text),
            change(self.old.leaks, self.new.leaks, bytes_text),
            clean_name(&place),
        ]
    }
}

fn enter<'a>(
    sites: &mut FxHashMap<Vec<&'a str>, SiteChange>,
    analysis: &'a Analysis,
    side: fn(&mut SiteChange) -> &mut SiteFigures,
) {
    let stacks = &analysis.stacks;
    for (index, totals) in analysis.stack_totals.iter().enumerate() {
        if totals.allocs == 0 {
            continue;
        }
        let stack = StackId(index as u32);
        let names: Vec<&str> = stacks.frames(stack).map(|frame| stacks.name(frame.name)).collect();
        let site = sites.entry(names).or_insert_with_key(|names| {
            let call = stacks.frames(stack).nth(stacks.wrapper_count(stack));
            let outermost = || names.last().copied().unwrap_or_default();
            let function = call.map_or_else(outermost, |frame| stacks.name(frame.name));
            SiteChange { function: function.into(), ..SiteChange::default() }
        });
        let StackTotals { allocs, bytes, peak_bytes, end_bytes, temporaries, .. } = *totals;
        let figures = side(site);
        figures.allocs = figures.allocs.saturating_add(allocs);
        figures.bytes = figures.bytes.saturating_add(bytes);
        figures.peak = figures.peak.saturating_add(peak_bytes);
        figures.leaks = figures.leaks.saturating_add(end_bytes);
        figures.temporaries = figures.temporaries.saturating_add(temporaries);
    }
}

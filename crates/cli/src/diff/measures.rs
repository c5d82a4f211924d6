//! The measures of a recording that two can be compared by.

use heapwright_advise::schema::{Advice, AllocatorRow};
use serde::Serialize;

/// A measure before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    /// Its name.
    pub measure: &'static str,
    /// Before.
    pub old: u64,
    /// After.
    pub new: u64,
    /// (new - old) / old; none when there was nothing before and something is now.
    pub share: Option<f64>,
}

/// Every measure that both have, in a fixed order.
///
/// `peak` and `end` are live requested bytes, `bytes` and `allocs` all requests, `rss` (bytes)
/// and `time` (picoseconds an operation) the system allocator's in the replay.
pub(super) fn changes(old: &Advice, new: &Advice) -> Vec<Change> {
    let recorded = |advice: &Advice| {
        let info = &advice.recording;
        [
            ("peak", info.peak_live_bytes),
            ("end", info.end_live_bytes),
            ("bytes", info.allocated_bytes),
            ("allocs", info.allocs),
            ("events", info.events),
        ]
    };
    let mut pairs: Vec<_> = recorded(old)
        .into_iter()
        .zip(recorded(new))
        .map(|((measure, old), (_, new))| (measure, old, new))
        .collect();
    if let (Some(old), Some(new)) = (system(old), system(new)) {
        pairs.push(("rss", old.peak_rss_kb * 1024, new.peak_rss_kb * 1024));
        let picoseconds = |row: &AllocatorRow| (row.ns_per_op * 1000.0).round().max(0.0) as u64;
        pairs.push(("time", picoseconds(old), picoseconds(new)));
    }
    pairs
        .into_iter()
        .map(|(measure, old, new)| Change { measure, old, new, share: share(old, new) })
        .collect()
}

fn share(old: u64, new: u64) -> Option<f64> {
    match (old, new) {
        (0, 0) => Some(0.0),
        (0, _) => None,
        _ => Some((new as f64 - old as f64) / old as f64),
    }
}

fn system(advice: &Advice) -> Option<&AllocatorRow> {
    advice.allocators.iter().find(|row| row.name == "system" && row.failure.is_empty())
}

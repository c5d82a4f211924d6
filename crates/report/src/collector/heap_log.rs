//! The line that a heap writes when it goes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One heap of a program.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct HeapLog {
    /// The collector.
    pub gc: String,
    /// Seconds from its making to its end.
    pub time_s: f64,
    /// CPU seconds of its thread meanwhile.
    pub cpu_s: f64,
    /// The most that it held, in MiB.
    pub peak_mib: f64,
    /// Collections.
    pub collections: u64,
    /// Slices of collections.
    pub slices: u64,
    /// Milliseconds of CPU time in pauses: `p50`, `p99`, `max`.
    pub pause_ms: BTreeMap<String, f64>,
    /// The longest pause in milliseconds of wall time.
    pub gap_ms_max: f64,
    /// CPU time over CPU time without pauses.
    pub overhead_at_least: f64,
    /// By milliseconds of a window, the least share of one that was left to the program.
    pub mmu: BTreeMap<String, f64>,
    /// Every pause in order, where the log is a timeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<LoggedPause>,
}

/// What ran; milliseconds since the heap's making, of wall time, of CPU time.
pub(crate) type LoggedPause = (String, f64, f64, f64);

/// All pauses that begin in one part of a heap's time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Part {
    pub(crate) count: usize,
    pub(crate) longest_ms: f64,
    pub(crate) sum_ms: f64,
    /// Of the longest.
    pub(crate) kind: String,
}

impl HeapLog {
    /// The pauses by `count` equal parts of the heap's time, by wall time. O(pauses).
    pub(crate) fn parts(&self, count: usize) -> Vec<Part> {
        let mut parts = vec![Part::default(); count];
        let whole_ms = (self.time_s * 1e3).max(f64::MIN_POSITIVE);
        for (kind, begin_ms, wall_ms, _) in &self.timeline {
            // What is no number, or outside, counts at an end.
            let at = (begin_ms / whole_ms * count as f64) as usize;
            let Some(part) = parts.get_mut(at.min(count.saturating_sub(1))) else { continue };
            part.count += 1;
            part.sum_ms += wall_ms;
            if *wall_ms >= part.longest_ms {
                part.longest_ms = *wall_ms;
                part.kind.clone_from(kind);
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::HeapLog;

    #[test]
    fn each_pause_is_in_the_part_in_which_it_begins() {
        let text = r#"{"gc":"copying","time_s":0.1,"cpu_s":0.1,"peak_mib":1,"collections":3,
            "slices":0,"pause_ms":{},"gap_ms_max":4,"overhead_at_least":1,"mmu":{},
            "timeline":[["minor",0,1,1],["full",24,4,4],["minor",24.9,2,2],["minor",1000,1,1]]}"#;
        let parts = serde_json::from_str::<HeapLog>(text).expect("a line").parts(4);
        assert_eq!(parts.iter().map(|part| part.count).collect::<Vec<_>>(), [3, 0, 0, 1]);
        let first = &parts[0];
        assert_eq!((first.longest_ms, first.sum_ms, first.kind.as_str()), (4.0, 7.0, "full"));
    }
}

//! What the suite found, as rows and means.

use super::BASE;
use super::workloads::BESIDE;
use heapwright_launch::Machine;
use serde::Serialize;

/// What is known when the suite is done.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Name of the suite: `malloc`.
    pub suite: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// Rounds of each program.
    pub rounds: usize,
    /// Whether the programs did too little to be judged.
    pub quick: bool,
    /// For each workload and allocator.
    pub rows: Vec<Row>,
    /// For each allocator, over the workloads that it and the base completed.
    pub means: Vec<Mean>,
    /// What could not be measured.
    pub missing: Vec<Missing>,
}

/// An allocator on a workload. Fields that the workload does not give are absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Workload.
    pub workload: String,
    /// `malloc`, `heapwright`, or a peer.
    pub subject: String,
    /// Its version.
    pub version: String,
    /// Where it comes from.
    pub origin: String,
    /// Mode; empty for the plain one.
    pub variant: String,
    /// Median wall seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_s: Option<f64>,
    /// Median user and system seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    /// Wall time against the base in the same round: median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ratio: Option<f64>,
    /// The same of CPU time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ratio: Option<f64>,
    /// Median peak resident KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_kb: Option<f64>,
    /// The same against the base's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_ratio: Option<f64>,
    /// Resident KiB at its exit, in a run of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_rss_kb: Option<f64>,
    /// KiB of live blocks, where the program says; the rest of what is resident is the allocator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_kb: Option<f64>,
    /// KiB written and not shared, at its exit; the least of the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_dirty_kb: Option<f64>,
    /// Median page faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor_faults: Option<f64>,
    /// Nanoseconds of a malloc and free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_per_op: Option<f64>,
    /// Half of the operations took no more nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_p50: Option<f64>,
    /// 99 in 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_p99: Option<f64>,
    /// 999 in 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_p999: Option<f64>,
    /// Instructions of a malloc and free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<f64>,
    /// Wall time of the next burst over that of the first: median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_ratio: Option<f64>,
    /// The least of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_ratio_min: Option<f64>,
    /// The greatest of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_ratio_max: Option<f64>,
    /// CPU time of the next burst over that of the first: median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cpu_ratio: Option<f64>,
    /// Page faults of the first burst: median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_faults: Option<f64>,
    /// Page faults of the next burst: median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_faults: Option<f64>,
    /// CPU microseconds of merging for a page of 4 KiB that it freed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub us_per_page: Option<f64>,
    /// The longest that a thread was held up by merging, in microseconds of CPU time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_up_us: Option<f64>,
    /// Largest minus smallest wall time (or cost), as a share of the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
}

/// An allocator over all workloads: geometric means of the ratios to the base.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// Allocator.
    pub subject: String,
    /// Of wall time.
    pub time_ratio: f64,
    /// Of CPU time.
    pub cpu_ratio: f64,
    /// Of peak resident memory.
    pub peak_ratio: f64,
    /// Workloads that count.
    pub workloads: usize,
}

/// Something that could not be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Workload, or `all`.
    pub workload: String,
    /// Allocator, or `all`.
    pub subject: String,
    /// Why.
    pub reason: String,
}

impl Results {
    /// Notes that `workload` was not measured under `subject`.
    pub(super) fn leave_out(&mut self, workload: &str, subject: &str, reason: String) {
        let (workload, subject) = (workload.to_owned(), subject.to_owned());
        self.missing.push(Missing { workload, subject, reason });
    }
}

/// The means of each allocator's `rows`, in the order of their first rows.
pub(super) fn means(rows: &[Row]) -> Vec<Mean> {
    let mut means: Vec<Mean> = Vec::new();
    for row in rows {
        if means.iter().any(|mean| mean.subject == row.subject) {
            continue;
        }
        let counts = |other: &&Row| !BESIDE.contains(&other.workload.as_str());
        let own = || rows.iter().filter(|other| other.subject == row.subject).filter(counts);
        let times: Vec<f64> = own().filter_map(|row| row.time_ratio).collect();
        if times.is_empty() {
            continue;
        }
        means.push(Mean {
            subject: row.subject.clone(),
            time_ratio: geometric(&times),
            cpu_ratio: geometric(&own().filter_map(|row| row.cpu_ratio).collect::<Vec<_>>()),
            peak_ratio: geometric(&own().filter_map(|row| row.peak_ratio).collect::<Vec<_>>()),
            workloads: times.len(),
        });
    }
    means
}

/// Of `workload`'s rows, the one of the base.
pub(super) fn base<'a>(rows: &'a [Row], workload: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.workload == workload && row.subject == BASE)
}

fn geometric(values: &[f64]) -> f64 {
    let logarithms: f64 = values.iter().map(|value| value.ln()).sum();
    (logarithms / values.len() as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::{Row, means};

    #[test]
    fn means_are_geometric() {
        let row = |workload: &str, ratio| Row {
            workload: workload.into(),
            subject: "heapwright".into(),
            time_ratio: Some(ratio),
            cpu_ratio: Some(ratio),
            peak_ratio: Some(1.0),
            ..Row::default()
        };
        let means = means(&[row("a", 0.5), row("b", 2.0)]);
        assert_eq!(means.len(), 1);
        assert!((means[0].time_ratio - 1.0).abs() < 1e-12 && means[0].workloads == 2);
    }
}

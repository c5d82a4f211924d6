//! What a comparison found: the stable face of `heapwright compare --json`.

use crate::measure::Measured;
use crate::statistics::{RatioInterval, Summary};
use heapwright_launch::Machine;
use serde::{Deserialize, Serialize};

/// A whole comparison. Seconds and KiB as the names say; ratios below 1 are better.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// Always 1; fields are only ever added.
    pub schema: u32,
    /// Version of Heapwright that measured.
    pub heapwright_version: String,
    /// Where it was measured.
    pub machine: Machine,
    /// The command, word by word.
    pub command: Vec<String>,
    /// The command that drove the server, if there was one.
    pub load: Option<String>,
    /// Exit status with the system's allocator; 128 + N for signal N.
    pub exit_status: u8,
    /// Rounds that every remaining allocator went through.
    pub rounds: u32,
    /// A row an allocator, the system's first.
    pub rows: Vec<Row>,
    /// What a reader must know before trusting a figure.
    pub notes: Vec<String>,
}

/// One allocator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// `system`, `heapwright`, `mimalloc`, ..., or the file name of a `.so`.
    pub name: String,
    /// Version as the allocator tells it; empty when it does not.
    pub version: String,
    /// `libc`, `own`, `crates.io`, or the path.
    pub origin: String,
    /// Why there are no figures; empty when there are.
    pub failure: String,
    /// Runs behind the figures.
    pub repeats: u32,
    /// The figures; none after a failure.
    pub figures: Option<Figures>,
    /// Against the system's allocator; none for itself and after a failure.
    pub ratios: Option<Ratios>,
    /// Whether the standard output and status were those under the system's allocator; none
    /// when that cannot be told (the output differs from run to run, or a server was driven).
    pub same_output: Option<bool>,
}

/// Figures over the runs of one allocator.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// User and system CPU seconds, with the children that the program waited for.
    pub cpu_s: Summary,
    /// User CPU seconds.
    pub user_s: Summary,
    /// System CPU seconds.
    pub system_s: Summary,
    /// Wall seconds; under a load, the load's.
    pub wall_s: Summary,
    /// Peak resident KiB of the largest process.
    pub peak_rss_kb: Summary,
    /// Highest sum of Pss over the process tree, KiB, if it was sampled.
    pub peak_pss_kb: Option<Summary>,
    /// Page faults without I/O.
    pub minor_faults: Summary,
    /// Page faults with I/O.
    pub major_faults: Summary,
}

/// Ratios to the system's allocator, from runs paired by round.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Ratios {
    /// Of the CPU seconds; none when the system's are too few to measure.
    pub cpu: Option<RatioInterval>,
    /// Of the wall seconds.
    pub wall: Option<RatioInterval>,
    /// Of the peak resident memory.
    pub peak_rss: Option<RatioInterval>,
}

impl Figures {
    /// Of `runs`, at least one.
    pub(crate) fn of(runs: &[Measured]) -> Self {
        let kib: Option<Vec<f64>> =
            runs.iter().map(|run| run.peak_pss_bytes.map(|bytes| bytes as f64 / 1024.0)).collect();
        Self {
            cpu_s: summary(runs, |run| run.cpu_s),
            user_s: summary(runs, |run| run.user_s),
            system_s: summary(runs, |run| run.system_s),
            wall_s: summary(runs, |run| run.wall_s),
            peak_rss_kb: summary(runs, |run| run.peak_rss_bytes as f64 / 1024.0),
            peak_pss_kb: kib.map(|kib| Summary::of(&kib)),
            minor_faults: summary(runs, |run| run.minor_faults as f64),
            major_faults: summary(runs, |run| run.major_faults as f64),
        }
    }
}

impl Ratios {
    /// Of `runs` over the system's runs of the same rounds.
    pub(crate) fn of(runs: &[Measured], system: &[Measured]) -> Self {
        let ratio = |figure: fn(&Measured) -> f64| {
            let values: Vec<f64> = runs.iter().map(figure).collect();
            let baseline: Vec<f64> = system.iter().map(figure).collect();
            RatioInterval::of(&values, &baseline)
        };
        Self {
            cpu: ratio(|run| run.cpu_s),
            wall: ratio(|run| run.wall_s),
            peak_rss: ratio(|run| run.peak_rss_bytes as f64),
        }
    }
}

fn summary(runs: &[Measured], figure: fn(&Measured) -> f64) -> Summary {
    Summary::of(&runs.iter().map(figure).collect::<Vec<f64>>())
}

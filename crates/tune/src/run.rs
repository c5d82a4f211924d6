//! One run of the program under one setting.

use crate::setting::Setting;
use heapwright_launch::Running;
use serde::Serialize;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Wall time in seconds.
    pub time_s: f64,
    /// CPU time in seconds, of the program and its threads.
    pub cpu_s: f64,
    /// Largest resident set.
    pub peak_rss_kb: u64,
    /// Longest pause in milliseconds of CPU, over all heaps of the program.
    pub pause_ms_max: f64,
    /// What 99 % of the pauses do not exceed, of the worst heap.
    pub pause_ms_p99: f64,
    /// The most that a heap held, in MiB.
    pub heap_peak_mib: f64,
    /// Collections.
    pub collections: u64,
    /// Allocations refused at the limit.
    pub refusals: u64,
}

/// Why a run is no result.
#[derive(Clone, Debug)]
pub enum RunError {
    /// The program cannot be started.
    Start(String),
    /// It ended with another status than success.
    Status(String),
    /// It told nothing of a heap: it does not use `Config::with_environment`, or leaks its heaps.
    Silent,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(reason) => write!(f, "cannot be started: {reason}"),
            Self::Status(status) => write!(f, "failed: {status}"),
            Self::Silent => f.write_str(
                "no heap told of itself: the program has to make its heaps with \
                 `Config::with_environment`, and to drop them",
            ),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs `command` under `setting`; its standard output is dropped. `log` is a file that this may
/// write.
///
/// # Errors
/// [`RunError`].
pub fn measure(
    command: &[OsString],
    setting: &Setting,
    limit: Option<&str>,
    log: &Path,
) -> Result<Measured, RunError> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| RunError::Start("no command".into()))?;
    let _ = fs::remove_file(log);
    let mut child = Command::new(program);
    child.args(arguments).stdout(Stdio::null()).stdin(Stdio::null());
    child.envs(setting.variables()).env("HEAPWRIGHT_GC_LOG", "json");
    child.env("HEAPWRIGHT_GC_LOG_FILE", log);
    if let Some(limit) = limit {
        child.env("HEAPWRIGHT_GC_LIMIT", limit);
    }
    let start = |error: std::io::Error| RunError::Start(error.to_string());
    let ended = Running::start_in_our_group(&mut child).and_then(|mut run| run.wait());
    let ended = ended.map_err(start)?;
    if !ended.status.success() {
        return Err(RunError::Status(ended.status.to_string()));
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let heaps: Vec<serde_json::Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if heaps.is_empty() {
        return Err(RunError::Silent);
    }
    let most = |field: &str| {
        heaps.iter().filter_map(|heap| heap["pause_ms"][field].as_f64()).fold(0.0, f64::max)
    };
    let sum = |field: &str| heaps.iter().filter_map(|heap| heap[field].as_u64()).sum();
    Ok(Measured {
        time_s: ended.wall.as_secs_f64(),
        cpu_s: (ended.usage.user + ended.usage.system).as_secs_f64(),
        peak_rss_kb: ended.usage.peak_rss_bytes >> 10,
        pause_ms_max: most("max"),
        pause_ms_p99: most("p99"),
        heap_peak_mib: heaps
            .iter()
            .filter_map(|heap| heap["peak_mib"].as_f64())
            .fold(0.0, f64::max),
        collections: sum("collections"),
        refusals: sum("refusals"),
    })
}

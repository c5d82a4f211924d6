//! The facts about session and processes, kept as JSON sections: they are small and grow with
//! time, and readers skip what they do not know.

use serde::{Deserialize, Serialize};

/// The first section: how the recording was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionInfo {
    /// Version of Heapwright.
    pub heapwright_version: String,
    /// The command, word by word; empty when redacted.
    pub command: Vec<String>,
    /// Whether arguments, paths and host were left out.
    pub redacted: bool,
    /// Mean bytes between samples; 0 when every event is here.
    pub sample_bytes: u64,
    /// Time units a second.
    pub units_per_second: f64,
    /// Seconds since 1970 at the start.
    pub started_unix_s: u64,
    /// CPU model, cores, kernel and C library.
    pub machine: String,
    /// Blocks of at least this many bytes have touch events.
    pub touch_bytes_min: u64,
}

/// A process, written when it is first seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessInfo {
    /// Number of the process in this recording; sections refer to it.
    pub process: u32,
    /// Process id.
    pub pid: u32,
    /// Parent's process id.
    pub parent: u32,
    /// Process id of the process it was forked from without exec; 0 for none.
    pub forked_from: u32,
    /// Path of the executable.
    pub exe: String,
    /// What it is called: the name that it was started by, where that leads to `exe` (a link);
    /// else the executable's file name. Empty in older recordings.
    pub name: String,
    /// Command line, word by word; empty when redacted.
    pub command: Vec<String>,
    /// Time of its start, in units.
    pub start_time: u64,
    /// Kernel page size.
    pub page_bytes: u32,
    /// Whether recording began in the middle of its life: it has older blocks, whose frees are
    /// unknown ones.
    pub attached: bool,
}

impl ProcessInfo {
    /// What to call the process: its name, else its executable's file name.
    pub fn display_name(&self) -> &str {
        let of_exe = || self.exe.rsplit('/').next().unwrap_or_default();
        if self.name.is_empty() { of_exe() } else { &self.name }
    }
}

/// What is known when a process has gone or the recording stops.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessEndInfo {
    /// The process.
    pub process: u32,
    /// Events written.
    pub events: u64,
    /// Events lost: no slot, a full ring with no collector, or calls from inside the recorder.
    pub dropped: u64,
    /// Threads seen.
    pub threads: u32,
    /// Whether it was still running when the recording stopped.
    pub running: bool,
}

/// The last section; a recording without it was cut off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndInfo {
    /// Why it ended: `exit`, `time`, `size`, `interrupted`, `load`, `disk`.
    pub reason: String,
    /// Exit status of the command; none when it still runs. 128 + signal for a signal.
    pub exit_status: Option<i32>,
    /// Time of the end, in units.
    pub end_time: u64,
    /// Time units a second, measured over the whole recording.
    pub units_per_second: f64,
    /// CPU seconds of the command and its children, as far as they were waited for.
    pub program_cpu_s: f64,
    /// CPU seconds of the collector.
    pub collector_cpu_s: f64,
    /// Wall seconds of the command.
    pub wall_s: f64,
    /// Events that could not be written to the file (a full disk).
    pub unwritten_events: u64,
}

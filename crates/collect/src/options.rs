//! What is asked of a recording, and what it tells.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::command::Stdout;

/// What to do with the command when the recording is ended before it (by time, size or
/// Ctrl-C).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterStop {
    /// Wait for it to finish.
    #[default]
    Wait,
    /// Leave it running and return.
    Leave,
    /// Stop it: SIGTERM, then SIGINT, then SIGKILL.
    Terminate,
}

/// What to record.
#[derive(Clone, Debug)]
pub enum Target {
    /// Program and arguments, to be started.
    Command(Vec<OsString>),
    /// A process that was started with a dormant recorder, and those that it forks; it goes on
    /// when the recording ends, whatever `after_stop` says.
    Process(u32),
}

/// How to record.
pub struct RecordOptions {
    /// What to record.
    pub target: Target,
    /// The file to write.
    pub output: PathBuf,
    /// `libheapwright_recorder.so`; not used for a process that runs already.
    pub recorder: PathBuf,
    /// Mean bytes between samples; 0 records every event.
    pub sample_bytes: u64,
    /// End the recording after this long.
    pub time_limit: Option<Duration>,
    /// End the recording when the file has this many bytes.
    pub bytes_max: Option<u64>,
    /// A command that drives the recorded one, which is stopped when it ends.
    pub load: Option<Vec<OsString>>,
    /// When the load starts: this long after the command, or (none) as soon as the command
    /// listens on a socket, after 10 s at the latest.
    pub load_delay: Option<Duration>,
    /// Keep no arguments, paths or host.
    pub redact: bool,
    /// Stay in the terminal's foreground: Ctrl-C then reaches the command too.
    pub foreground: bool,
    /// Where the command's standard output goes.
    pub stdout: Stdout,
    /// What to do with a command that outlives the recording.
    pub after_stop: AfterStop,
    /// Version to note in the file.
    pub heapwright_version: String,
    /// The machine, to note in the file.
    pub machine: String,
    /// Told four times a second.
    pub progress: Option<TellProgress>,
}

/// Takes the state of a running recording.
pub type TellProgress = Box<dyn FnMut(&Progress)>;

/// The state of a running recording.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// Events so far.
    pub events: u64,
    /// Bytes of the file so far.
    pub bytes: u64,
    /// Processes so far.
    pub processes: u32,
    /// Whether the command itself has ended while others that it started run on.
    pub command_ended: bool,
    /// Whether the command has the terminal, because it wanted to read it: Ctrl-C is then its.
    pub command_has_terminal: bool,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The command and all its recorded processes ended.
    Exit,
    /// The time was up.
    Time,
    /// The file had its size.
    Size,
    /// Ctrl-C.
    Interrupted,
    /// The load ended.
    Load,
}

impl StopReason {
    /// The word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Time => "time",
            Self::Size => "size",
            Self::Interrupted => "interrupted",
            Self::Load => "load",
        }
    }
}

/// A finished recording.
#[derive(Debug)]
pub struct RecordOutcome {
    /// Why it ended.
    pub reason: StopReason,
    /// The command's exit status as a shell gives it; none when it was left running, or was not
    /// started by us.
    pub exit_status: Option<i32>,
    /// Exit status of the load.
    pub load_status: Option<i32>,
    /// Events in the file.
    pub events: u64,
    /// Events that recorders could not keep.
    pub dropped: u64,
    /// Events that could not be written to the file.
    pub unwritten_events: u64,
    /// Why not.
    pub output_error: Option<io::Error>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Processes recorded.
    pub processes: u32,
    /// Processes that could not be recorded.
    pub lost_processes: u32,
    /// CPU time of the command, as far as it was waited for; zero for one not started by us.
    pub program_cpu: Duration,
    /// CPU time of the collector.
    pub collector_cpu: Duration,
    /// Wall time.
    pub wall: Duration,
}

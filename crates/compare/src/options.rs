//! What to compare and how.

use crate::subject::Subject;
use heapwright_launch::{ProgramError, Reach};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

/// What to compare and how.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The allocators; the system's is put first when it is missing.
    pub subjects: Vec<Subject>,
    /// Measured runs under each allocator, at least 1.
    pub rounds: u32,
    /// No further round is begun that would end later than this after the start.
    pub time_limit: Duration,
    /// A run that takes longer has failed. None: ten times the system's first run and 10 s.
    pub run_limit: Option<Duration>,
    /// For a server: a shell command that drives it; the server is stopped when it has ended.
    pub load: Option<OsString>,
    /// How long a server may take until it listens.
    pub ready_limit: Duration,
    /// How long a server may take to end after SIGTERM, and again after SIGINT.
    pub grace: Duration,
    /// Sum the Pss of the process tree this often; none: only the kernel's peak. Reading it
    /// stops the program's own mappings for a moment, so it costs time.
    pub sample_every: Option<Duration>,
    /// Where the standard output of the first run goes; it is only hashed otherwise.
    pub stdout_copy: Option<PathBuf>,
}

/// Told about each run before it starts; asked whether to go on.
pub trait Observer: Sync {
    /// Run `index` of at most `count` is about to start, under allocator `subject`.
    fn run_starts(&self, index: u32, count: u32, subject: &str) {
        let _ = (index, count, subject);
    }

    /// Whether the user wants it to end; what has been measured is kept. Asked every few
    /// milliseconds, from another thread.
    fn interrupted(&self) -> bool {
        false
    }
}

impl Observer for () {}

/// Why nothing could be compared.
#[derive(Debug)]
#[non_exhaustive]
pub enum CompareError {
    /// The command cannot be started.
    Program(ProgramError),
    /// No preloaded object gets into the program.
    OutOfReach {
        /// The file that was judged.
        image: PathBuf,
        /// Why not.
        reach: Reach,
    },
    /// The program could not be started or waited for, though it was found.
    Start(io::Error),
    /// The copy of the standard output cannot be written.
    StdoutCopy(PathBuf, io::Error),
    /// The very first run failed, so there is nothing to compare with.
    Baseline(String),
    /// Stopped before the first round had ended.
    Interrupted,
}

impl CompareOptions {
    /// Five rounds within a minute of `command` under `subjects`.
    pub fn new(command: Vec<OsString>, subjects: Vec<Subject>) -> Self {
        Self {
            command,
            subjects,
            rounds: 5,
            time_limit: Duration::from_secs(60),
            run_limit: None,
            load: None,
            ready_limit: Duration::from_secs(10),
            grace: Duration::from_secs(5),
            sample_every: None,
            stdout_copy: None,
        }
    }
}

impl fmt::Display for CompareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(error) => error.fmt(f),
            Self::OutOfReach { image, reach } => {
                let remedy = reach.remedy().unwrap_or("cannot be reached by a preloaded object");
                write!(f, "{} {remedy}", image.display())
            }
            Self::Start(error) => write!(f, "the program could not be run: {error}"),
            Self::StdoutCopy(path, error) => {
                write!(f, "{}: cannot be written ({error}); choose another file", path.display())
            }
            Self::Baseline(reason) => write!(
                f,
                "the program failed with the system's own allocator, so there is nothing to \
                 compare with: {reason}"
            ),
            Self::Interrupted => write!(f, "interrupted before the first round had ended"),
        }
    }
}

impl std::error::Error for CompareError {}

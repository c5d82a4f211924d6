//! Why a process cannot be watched.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a process cannot be watched; each names the process and the next step.
#[derive(Debug)]
#[non_exhaustive]
pub enum MonitorError {
    /// There is no such process.
    Exited(u32),
    /// Another user's process.
    OtherUser {
        /// The process.
        pid: u32,
        /// Whose it is.
        uid: u32,
    },
    /// A process that runs without our allocator.
    NotOurs(u32),
    /// It runs on our allocator, but has no statistics page.
    NotWatched(u32),
    /// It runs another version of the page's layout.
    OtherVersion {
        /// The process.
        pid: u32,
        /// Its version.
        theirs: u64,
    },
    /// No watched process has that name.
    NoSuchName(String),
    /// Several watched processes have that name.
    Ambiguous {
        /// The name.
        name: String,
        /// The processes.
        pids: Vec<u32>,
    },
    /// The page says nothing sensible.
    Damaged(PathBuf),
    /// A file cannot be read or written.
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The process did not answer in time: it allocates nothing.
    Silent {
        /// The process.
        pid: u32,
        /// How long was waited, in seconds.
        waited_s: f64,
    },
    /// The process answered that it cannot.
    Refused {
        /// The process.
        pid: u32,
        /// Its reason.
        error: io::Error,
    },
}

impl fmt::Display for MonitorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(pid) => write!(f, "process {pid} does not exist (any more)"),
            Self::OtherUser { pid, uid } => write!(
                f,
                "process {pid} belongs to user {uid}; its figures are that user's alone: run this \
                 as user {uid}"
            ),
            Self::NotOurs(pid) => write!(
                f,
                "process {pid} does not run on Heapwright's allocator; start it with \
                 `heapwright run --watch -- CMD`"
            ),
            Self::NotWatched(pid) => write!(
                f,
                "process {pid} runs on Heapwright's allocator without a statistics page; start it \
                 with HEAPWRIGHT_WATCH=1 or `heapwright run --watch -- CMD`"
            ),
            Self::OtherVersion { pid, theirs } => write!(
                f,
                "process {pid} writes version {theirs} of the statistics page, this is version {}; \
                 use the heapwright that it was started with",
                heapwright_core::live_page::VERSION
            ),
            Self::NoSuchName(name) => write!(
                f,
                "no watched process is called {name}; `heapwright top` without a name lists them"
            ),
            Self::Ambiguous { name, pids } => {
                let list: Vec<String> = pids.iter().map(u32::to_string).collect();
                write!(
                    f,
                    "{} watched processes are called {name}: name one of {}",
                    pids.len(),
                    list.join(", ")
                )
            }
            Self::Damaged(path) => {
                write!(f, "{}: is no statistics page; remove it", path.display())
            }
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Silent { pid, waited_s } => write!(
                f,
                "process {pid} did not answer within {waited_s:.0} s: it answers when it next \
                 allocates; try again, or start it with HEAPWRIGHT_PROFILE=FILE to have the \
                 profile at its end"
            ),
            Self::Refused { pid, error } => {
                write!(f, "process {pid} could not do what was asked: {error}")
            }
        }
    }
}

impl std::error::Error for MonitorError {}

impl MonitorError {
    pub(crate) fn io(path: impl Into<PathBuf>, error: io::Error) -> Self {
        Self::Io { path: path.into(), error }
    }
}

//! Why a replay cannot begin. (What goes wrong with one allocator is told in its row.)

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a recording cannot be replayed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// The recording holds samples only.
    Sampled {
        /// The recording.
        path: PathBuf,
        /// Mean bytes between samples.
        sample_bytes: u64,
    },
    /// There is no such process.
    NoProcess {
        /// The recording.
        path: PathBuf,
        /// The number asked for.
        process: usize,
        /// Processes in the recording.
        count: usize,
    },
    /// The process has no events.
    NoEvents {
        /// The recording.
        path: PathBuf,
        /// The process.
        pid: u32,
    },
    /// More events in one thread than a plan can hold.
    TooLong {
        /// Events of the process.
        events: u64,
    },
    /// Stock was asked for of a plan that keeps no call sites.
    NoBirths,
    /// An allocator's object cannot be preloaded.
    Allocator {
        /// Name of the allocator.
        name: String,
        /// Its object.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The machine has too little memory.
    Memory {
        /// What a run needs, bytes.
        needed_bytes: u64,
        /// What there is, bytes.
        available_bytes: u64,
    },
    /// The system refused something.
    System {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        error: io::Error,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sampled { path, sample_bytes } => write!(
                f,
                "{} is a sampled recording (one sample in {sample_bytes} bytes): it serves for \
                 call sites, sizes and leak estimates, not for replay; record again without \
                 --sample to compare allocators",
                path.display()
            ),
            Self::NoProcess { path, process, count } => write!(
                f,
                "{} has no process number {process} (it has {count}, numbered from 0)",
                path.display()
            ),
            Self::NoEvents { path, pid } => write!(
                f,
                "process {pid} of {} allocated nothing that was recorded; choose another with \
                 --process",
                path.display()
            ),
            Self::TooLong { events } => write!(
                f,
                "the recording is too long to replay ({events} events); record a shorter time \
                 with --for"
            ),
            Self::NoBirths => f.write_str("the plan keeps no call sites; compile it with births"),
            Self::Allocator { name, path, reason } => {
                write!(f, "allocator {name} ({}): {reason}", path.display())
            }
            Self::Memory { needed_bytes, available_bytes } => write!(
                f,
                "replay needs about {} MiB of memory, {} MiB are available; stop other programs \
                 or replay on a larger machine",
                needed_bytes >> 20,
                available_bytes >> 20
            ),
            Self::System { doing, error } => write!(f, "cannot {doing}: {error}"),
        }
    }
}

impl std::error::Error for ReplayError {}

//! Why a recording could not be made.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a recording could not be made. Nothing was run when this is returned, except for
/// [`RecordError::Load`].
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// The command could not be started.
    Command {
        /// The program.
        program: OsString,
        /// Why.
        error: io::Error,
    },
    /// The recorder object is not where it should be.
    Recorder {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be used.
        error: io::Error,
    },
    /// The recording's file could not be made.
    Output {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No shared memory for the spool.
    Spool {
        /// Where it was tried last.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The driver given by `--load` could not be started; the command was stopped.
    Load {
        /// The driver.
        program: OsString,
        /// Why.
        error: io::Error,
    },
}

impl RecordError {
    /// The exit status that says this: 127 for a command that is not there, 126 for one that
    /// cannot be run, 125 for everything of ours.
    pub fn exit_status(&self) -> i32 {
        match self {
            Self::Command { error, .. } if error.kind() == io::ErrorKind::NotFound => 127,
            Self::Command { .. } => 126,
            _ => 125,
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { program, error } => {
                let program = program.display();
                write!(f, "cannot run {program}: {error}; check the name and its permissions")
            }
            Self::Recorder { path, error } => write!(
                f,
                "the recorder {} cannot be used: {error}; build it with: cargo xtask build",
                path.display()
            ),
            Self::Output { path, error } => write!(
                f,
                "cannot write {}: {error}; choose another place with -o FILE",
                path.display()
            ),
            Self::Spool { path, error } => write!(
                f,
                "no shared memory for the recording at {}: {error}; free some, or set TMPDIR to \
                 a writable folder",
                path.display()
            ),
            Self::Load { program, error } => {
                write!(f, "cannot run the load {}: {error}", program.display())
            }
        }
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Command { error, .. }
            | Self::Recorder { error, .. }
            | Self::Output { error, .. }
            | Self::Spool { error, .. }
            | Self::Load { error, .. } => Some(error),
        }
    }
}

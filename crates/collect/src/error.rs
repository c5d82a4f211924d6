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
    /// A running process cannot be recorded; it goes on as before.
    Attach {
        /// The process.
        pid: u32,
        /// Why.
        problem: AttachProblem,
    },
    /// The driver given by `--load` could not be started; the command was stopped.
    Load {
        /// The driver.
        program: OsString,
        /// Why.
        error: io::Error,
    },
}

/// Why a running process cannot be recorded.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttachProblem {
    /// There is no such process.
    NoProcess,
    /// It belongs to another user.
    OtherUser {
        /// Whose it is.
        uid: u32,
    },
    /// There is no dormant recorder in it.
    NotDormant {
        /// An ancestor that has one: it was forked from that, and follows it.
        ancestor: Option<u32>,
    },
    /// It is being recorded.
    BeingRecorded,
    /// Its recorder is of another version.
    OtherVersion {
        /// Of its control page.
        found: u16,
    },
    /// It has given up the system calls that recording takes (seccomp).
    Confined,
    /// It cannot open the session (another root or namespace, a limit).
    CannotOpen,
    /// Its control file cannot be used.
    Unusable(io::Error),
}

impl fmt::Display for AttachProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcess => write!(f, "there is no such process"),
            Self::OtherUser { uid } => {
                write!(f, "it belongs to user {uid}; run heapwright as that user, or as root")
            }
            Self::NotDormant { ancestor: Some(ancestor) } => write!(
                f,
                "it is a child of process {ancestor}, which has the dormant recorder; use --pid \
                 {ancestor}: children are recorded with it"
            ),
            Self::NotDormant { ancestor: None } => write!(
                f,
                "no dormant recorder is in it; start it by `heapwright run --dormant -- CMD` (a \
                 static program, or one with an allocator of its own, cannot have one)"
            ),
            Self::BeingRecorded => write!(f, "it is being recorded already"),
            Self::OtherVersion { found } => write!(
                f,
                "its recorder is of another version ({found}); use the heapwright that started it, \
                 or start it again"
            ),
            Self::Confined => write!(
                f,
                "it has forbidden itself the system calls that this takes (seccomp); record it \
                 from its start"
            ),
            Self::CannotOpen => write!(
                f,
                "it cannot open the recording's shared memory (another root directory or \
                 namespace?); record it from its start"
            ),
            Self::Unusable(error) => write!(f, "its control file cannot be used: {error}"),
        }
    }
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
            Self::Attach { pid, problem } => write!(f, "process {pid}: {problem}"),
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
            Self::Attach { .. } => None,
        }
    }
}

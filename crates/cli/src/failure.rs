//! A failure as the command line shows it: one line and an exit status.

use heapwright_compare::{CompareError, SubjectError};
use heapwright_launch::{MissingObject, NOT_EXECUTABLE, OURS_FAILED, ObjectError, ProgramError};
use std::fmt::Display;
use std::io;
use std::path::Path;

/// Why a command of ours ends, and with which status.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit status.
    pub status: u8,
    /// One line that names the thing and the next step.
    pub message: String,
}

impl Failure {
    /// Something of ours failed: status 125.
    pub(crate) fn ours(message: impl Display) -> Self {
        Self { status: OURS_FAILED, message: message.to_string() }
    }

    /// Ends with `status` and says nothing.
    pub(crate) fn silent(status: u8) -> Self {
        Self { status, message: String::new() }
    }

    /// The kernel does not execute the program: status 126.
    pub(crate) fn not_executable(path: &Path, error: &io::Error) -> Self {
        let message = format!("{}: cannot be executed: {error}", path.display());
        Self { status: NOT_EXECUTABLE, message }
    }

    /// A file could not be written.
    pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        Self::ours(format!("{path}: cannot be written ({error}); choose another place with -o"))
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        Self { status: error.exit_status(), message: error.to_string() }
    }
}

impl From<CompareError> for Failure {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::Program(error) => error.into(),
            CompareError::Interrupted => Self { status: 130, message: error.to_string() },
            _ => Self::ours(error),
        }
    }
}

impl From<MissingObject> for Failure {
    fn from(error: MissingObject) -> Self {
        Self::ours(error)
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        Self::ours(error)
    }
}

impl From<SubjectError> for Failure {
    fn from(error: SubjectError) -> Self {
        Self::ours(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::ours(error)
    }
}

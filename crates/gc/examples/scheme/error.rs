//! What can go wrong, in the program or with its memory.

use super::value::Word;
use heapwright_gc::LimitReached;
use std::fmt;

/// Why an evaluation stopped.
#[derive(Clone, Debug)]
pub enum Error {
    /// The text is not a program.
    Syntax(String),
    /// A procedure was used wrongly; the program may handle it.
    Fault(String),
    /// As `Fault`, of the system's files.
    File(String),
    /// The program asked to end, with this status.
    Exit(i32),
    /// A condition that the program raised and nobody handled: its message.
    Unhandled(String),
    /// The heap is full: after a collection it may go on.
    Full,
    /// Nothing could be collected.
    OutOfMemory,
}

impl Error {
    pub fn syntax(wanted: &str, found: &str) -> Self {
        let found: String = found.chars().take(30).collect();
        Self::Syntax(format!("expected {wanted}, found `{found}`"))
    }

    pub fn fault(what: &str, procedure: &str) -> Self {
        Self::Fault(format!("{procedure}: {what}"))
    }
}

impl From<LimitReached> for Error {
    fn from(_: LimitReached) -> Self {
        Self::Full
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message)
            | Self::Fault(message)
            | Self::File(message)
            | Self::Unhandled(message) => f.write_str(message),
            Self::Exit(status) => write!(f, "exit with status {status}"),
            Self::Full => f.write_str("no memory for the program"),
            Self::OutOfMemory => f.write_str("out of memory"),
        }
    }
}

impl std::error::Error for Error {}

/// A value or what went wrong.
pub type Outcome = Result<Word, Error>;

//! Runs a program under the recorder and collects its events into a file.
//!
//! The collector is the other end of the spool (`heapwright_format::spool`): it sleeps until a
//! recorded thread has filled a chunk, compresses what is there, and appends it to the file. A
//! program that dies loses nothing that it wrote; a disk that fills up ends the file, never the
//! program.

mod attach;
mod command;
mod drain;
mod error;
mod interrupts;
mod load;
mod options;
mod record;
mod session;
mod subject;
mod terminal;
mod wait;

pub use command::Stdout;
pub use error::{AttachProblem, RecordError};
pub use options::{
    AfterStop, Progress, RecordOptions, RecordOutcome, StopReason, Target, TellProgress,
};
pub use record::record;

//! The recording's file: a head, then sections, each with its own checksums, so that a torn
//! file loses only its last section.

mod columns;
mod info;
mod pack;
mod read;
mod section;
mod write;

#[cfg(test)]
pub(crate) use columns::join;
pub use info::{EndInfo, ProcessEndInfo, ProcessInfo, SessionInfo};
pub use read::{OpenError, Problem, ProcessRecord, Recording};
pub use section::{EventsHead, FILE_MAGIC, FILE_VERSION};
pub use write::FileWriter;

//! What a collected heap holds, and when its collector paused the program.
//!
//! Read from what `heapwright-gc` writes: snapshots (`Snapshot::write_json`) and the lines of its
//! log, with every pause where the log is a `timeline`. Shown as text, as JSON and as a page.

mod heap_log;
mod page;
mod snapshot;
mod terminal;

pub use heap_log::HeapLog;
pub use snapshot::{Holder, SnapshotSummary, TypeRow};

use serde::Serialize;
use std::fmt;

/// Everything that was read.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CollectorReport {
    /// One for each snapshot.
    pub snapshots: Vec<SnapshotSummary>,
    /// One for each heap that told of itself.
    pub heaps: Vec<HeapLog>,
}

/// Why a file is neither a snapshot nor a log of collectors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CollectorError {
    /// It is no JSON, or has other fields; with the parser's words and the line.
    Format(String),
    /// A snapshot's object is dominated by one that is not there, or by itself in the end.
    Dominators,
    /// There is nothing in it.
    Empty,
}

impl fmt::Display for CollectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(reason) => {
                write!(f, "neither a snapshot nor a log of collectors: {reason}")
            }
            Self::Dominators => f.write_str("a snapshot whose dominators lead to no root"),
            Self::Empty => f.write_str("neither a snapshot nor a log of collectors: it is empty"),
        }
    }
}

impl std::error::Error for CollectorError {}

impl CollectorReport {
    /// Adds what the file `name` has: one snapshot, or the lines of a log, of which those of other
    /// programs (that do not begin with `{"gc":`) are passed over. O(length of the text).
    ///
    /// # Errors
    /// [`CollectorError`]; nothing was added then.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), CollectorError> {
        if text.trim().is_empty() {
            return Err(CollectorError::Empty);
        }
        if text.trim_start().starts_with("{\"objects\":") {
            self.snapshots.push(SnapshotSummary::read(name, text)?);
            return Ok(());
        }
        let lines = text.lines().enumerate().filter(|(_, line)| line.starts_with("{\"gc\":"));
        let heaps = lines
            .map(|(index, line)| {
                serde_json::from_str::<HeapLog>(line)
                    .map_err(|error| CollectorError::Format(format!("line {}: {error}", index + 1)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if heaps.is_empty() {
            return Err(CollectorError::Format("no line begins with {\"gc\":".into()));
        }
        self.heaps.extend(heaps);
        Ok(())
    }

    /// A page that needs nothing else.
    pub fn html(&self) -> String {
        page::html(self)
    }
}

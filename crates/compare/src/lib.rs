//! Runs a program itself under each allocator, in alternating order, and compares: CPU, wall
//! time, peak resident memory, page faults, and whether the output stayed the same.
//!
//! Replay knows what an allocator costs; only the program's own run also shows what its
//! placement of blocks does to caches, and that nothing breaks. [`compare`] starts the program
//! with each allocator's object preloaded, round after round, and judges by ratios within a
//! round, so that a machine that grows slower in the middle slows them all.
//!
//! # Not here
//! Command-line options and where objects lie (`heapwright-cli`, `heapwright-launch`), the
//! verdict (`heapwright-advise`).
#![forbid(unsafe_code)]

mod comparison;
mod measure;
mod options;
mod output;
mod resident;
mod rounds;
mod statistics;
mod subject;
mod table;

pub use comparison::{Comparison, Figures, Ratios, Row};
pub use options::{CompareError, CompareOptions, Observer};
pub use rounds::{SubjectRuns, compare, run_in_turn};
pub use statistics::{RatioInterval, Summary};
pub use subject::{Subject, SubjectError};
pub use table::write_table;

//! Benchmarks of Heapwright beside its peers.
//!
//! [`record_suite`] answers: what does recording cost, beside the bare program and heaptrack?
//! It is run by `cargo xtask bench record`; `docs/measured.md` holds the last results.
//! [`malloc_suite`] answers: how fast and how lean is each allocator? It is `heapwright bench
//! malloc`.
//!
//! [`gc_suite`] answers: what do the collectors cost, beside malloc and other collectors? It is run
//! by `heapwright-bench-gc`.
//!
//! [`safety_suite`] answers: which errors are told, and are right programs left alone? It is
//! `heapwright-bench-safety`, for `heapwright bench safety`.
//!
//! # Not here
//! Comparing allocators on a program (`heapwright compare`) or a recording (`heapwright replay`).
#![forbid(unsafe_code)]

pub mod gc_suite;
mod heaptrack_file;
mod inputs;
pub mod malloc_suite;
mod outcome;
mod programs;
pub mod record_suite;
pub mod safety_suite;
mod sampled;
mod stacks;
pub mod statistics;
mod table;
mod tool;

pub use heaptrack_file::{HeaptrackFile, read_heaptrack_file};
pub use outcome::{in_directory, printed};
pub use programs::{Load, Program, Scale, programs};
pub use sampled::SampledCost;
pub use stacks::complete_share;
pub use tool::{Run, Tool};

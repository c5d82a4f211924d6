//! Replaying from a test: the workers are this package's own program.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::Path;

use heapwright_format::file::Recording;
use heapwright_replay::{
    AllocatorFigures, AllocatorSpec, ReplayError, ReplayOptions, ReplayReport, WorkerProgram,
    replay,
};

/// Options with one timing run and workers that a test can start.
pub fn options(objects: &[&Path]) -> ReplayOptions {
    let mut options = ReplayOptions { repeats: 1, ..ReplayOptions::default() };
    options.allocators.extend(objects.iter().map(|path| AllocatorSpec::object(path)));
    let program = env!("CARGO_BIN_EXE_heapwright-replay").into();
    options.worker = Some(WorkerProgram { program, arguments: Vec::new() });
    options
}

/// Replays the recording at `path`.
pub fn run(path: &Path, options: &ReplayOptions) -> Result<ReplayReport, ReplayError> {
    let recording = Recording::open(path).expect("a recording");
    assert_eq!(recording.problems(), [], "the test writes whole recordings");
    replay(&recording, options, &mut |_| {})
}

/// The figures of allocator `index`, which must have worked.
pub fn row(report: &ReplayReport, index: usize) -> &AllocatorFigures {
    let row = &report.allocators[index];
    assert_eq!(row.failure, "", "{} failed", row.name);
    row
}

//! `heapwright replay`: a recording on every allocator.

use crate::console::Console;
use crate::failure::Failure;
use clap::Args;
use std::path::PathBuf;

/// What to replay and on what.
#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    /// The recording
    #[arg(value_name = "FILE")]
    recording: PathBuf,
    /// The allocators: names or paths of .so
    #[arg(long, value_name = "NAME|PATH.so,...", value_delimiter = ',')]
    on: Vec<String>,
    /// Which process of the recording [default: the one with most events]
    #[arg(long, value_name = "PID|EXE|all")]
    process: Option<String>,
}

pub(crate) fn run(_options: &ReplayOptions, _console: &Console) -> Result<u8, Failure> {
    Err(Failure::ours("`replay` is not built into this version yet"))
}

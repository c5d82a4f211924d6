//! `heapwright advise`: record, replay everywhere, say what to do.

use crate::console::Console;
use crate::failure::Failure;
use crate::record::CaptureOptions;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// What to advise on and how.
#[derive(Debug, Args)]
pub(crate) struct AdviseOptions {
    /// Where recording.hwr, report.html and advice.json go
    #[arg(short, long, value_name = "DIR", default_value = "heapwright-advice")]
    pub output: PathBuf,
    #[command(flatten)]
    pub capture: CaptureOptions,
    /// The allocators: names or paths of .so
    #[arg(long, value_name = "NAME|PATH.so,...", value_delimiter = ',')]
    pub on: Vec<String>,
    /// Which process to advise on [default: the one with most events]
    #[arg(long, value_name = "PID|EXE")]
    pub process: Option<String>,
    /// Run CMD once more without the recorder to measure what recording cost
    #[arg(long)]
    pub rerun: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

pub(crate) fn run(_options: &AdviseOptions, _console: &Console) -> Result<u8, Failure> {
    Err(Failure::ours("`advise` is not built into this version yet"))
}

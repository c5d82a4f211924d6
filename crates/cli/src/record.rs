//! `heapwright record`: every allocation of a program into a file.

use crate::console::Console;
use crate::failure::Failure;
use crate::units;
use clap::Args;
use heapwright_launch::Program;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What to record and how.
#[derive(Debug, Args)]
pub(crate) struct RecordOptions {
    /// The recording
    #[arg(short, long, value_name = "FILE", default_value = "recording.hwr")]
    output: PathBuf,
    #[command(flatten)]
    capture: CaptureOptions,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// How to record; `advise` takes the same.
#[derive(Debug, Args)]
pub(crate) struct CaptureOptions {
    /// Record one allocation in so many bytes on average instead of all
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    pub sample: Option<u64>,
    /// Stop recording after this time; CMD goes on
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// Stop recording when the file has this size; CMD goes on
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub max_size: Option<u64>,
    /// CMD is a server: drive it with this shell command, then stop it
    #[arg(long, value_name = "CMD2")]
    pub load: Option<OsString>,
    /// Leave arguments, paths and the host's name out of the recording
    #[arg(long)]
    pub redact: bool,
}

pub(crate) fn run(options: &RecordOptions, _console: &Console) -> Result<u8, Failure> {
    let _program = Program::find(&options.command[0])?;
    Err(Failure::ours("`record` is not built into this version yet"))
}

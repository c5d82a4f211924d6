//! `heapwright report`: the HTML report again.

use crate::console::Console;
use crate::failure::Failure;
use clap::Args;
use std::path::PathBuf;

/// Of what.
#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// A recording, or the directory that `advise` wrote
    #[arg(value_name = "FILE|DIR")]
    source: PathBuf,
    /// The report
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

pub(crate) fn run(_options: &ReportOptions, _console: &Console) -> Result<u8, Failure> {
    Err(Failure::ours("`report` is not built into this version yet"))
}

//! `heapwright diff`: two recordings beside each other, for CI.

use crate::console::Console;
use crate::failure::Failure;
use crate::source;
use clap::Args;
use heapwright_advise::{Analysis, Diff, Limit};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Sites shown on a terminal; `--json` has more.
const SITES_SHOWN: usize = 10;

/// What to compare and when to fail.
#[derive(Debug, Args)]
pub(crate) struct DiffOptions {
    /// The recording before, or the directory that `advise` wrote
    old: PathBuf,
    /// The recording after, or the directory that `advise` wrote
    new: PathBuf,
    /// Fail when one of peak, bytes, allocs, temporaries, leaks, threads grows by more
    #[arg(long, value_name = "peak+5%,allocs+10%,...")]
    fail_if: Option<String>,
    /// The exit status of such a failure
    #[arg(long, value_name = "N", default_value_t = 1)]
    error_exit: u8,
    /// Which process of both [default: the one with most events]
    #[arg(long, value_name = "PID|EXE")]
    process: Option<String>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct DiffResult {
    schema: u32,
    heapwright_version: &'static str,
    #[serde(flatten)]
    diff: Diff,
}

pub(crate) fn run(options: &DiffOptions, console: &Console) -> Result<u8, Failure> {
    let limits = match &options.fail_if {
        Some(text) => Limit::parse_list(text).map_err(Failure::ours)?,
        None => Vec::new(),
    };
    let old = analysis(&options.old, options, console)?;
    let new = analysis(&options.new, options, console)?;
    let diff = Diff::new(&old, &new, &limits);
    let status = if diff.is_within_limits() { 0 } else { options.error_exit };
    if console.json() {
        let heapwright_version = env!("CARGO_PKG_VERSION");
        console.print_json(&DiffResult { schema: 1, heapwright_version, diff })?;
    } else {
        console.print(diff.text(SITES_SHOWN).trim_end())?;
    }
    Ok(status)
}

fn analysis(path: &Path, options: &DiffOptions, console: &Console) -> Result<Analysis, Failure> {
    let recording = source::open(path, console)?;
    let process = source::choose(&recording, options.process.as_deref())?;
    source::analyse(&recording, process)
}

//! `heapwright export`: a recording for other tools.

use crate::console::Console;
use crate::failure::Failure;
use crate::source;
use clap::{Args, ValueEnum};
use heapwright_advise::pprof::{Profile, ProfileTimes};
use serde::Serialize;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// What to export and as what.
#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// The recording, or the directory that `advise` wrote
    #[arg(value_name = "FILE|DIR")]
    source: PathBuf,
    /// Its form
    #[arg(long, value_name = "FORM", default_value = "pprof")]
    format: ExportFormat,
    /// The exported file [default: heap.pb.gz or events.parquet]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which process [default: the one with most events]
    #[arg(long, value_name = "PID|EXE")]
    process: Option<String>,
}

/// A form that other tools read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// A heap profile: allocated, at the peak and in use, by stack.
    Pprof,
    /// A table of all events (in builds with the feature `parquet`).
    Parquet,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct ExportResult<'a> {
    schema: u32,
    heapwright_version: &'static str,
    file: &'a Path,
}

pub(crate) fn run(options: &ExportOptions, console: &Console) -> Result<u8, Failure> {
    let recording = source::open(&options.source, console)?;
    let process = source::choose(&recording, options.process.as_deref())?;
    let analysis = source::analyse(&recording, process)?;
    let usual = match options.format {
        ExportFormat::Pprof => Path::new("heap.pb.gz"),
        ExportFormat::Parquet => Path::new("events.parquet"),
    };
    let output = options.output.as_deref().unwrap_or(usual);
    let unwritable = |error| Failure::unwritable(output, &error);
    match options.format {
        ExportFormat::Pprof => {
            let session = recording.session();
            let times = ProfileTimes {
                started_unix_s: session.started_unix_s,
                sample_bytes: session.sample_bytes,
            };
            let file = File::create(output).map_err(unwritable)?;
            Profile::new(&analysis, times).write(BufWriter::new(file)).map_err(unwritable)?;
        }
        #[cfg(feature = "parquet")]
        ExportFormat::Parquet => {
            let progress = crate::progress::Progress::new(1);
            let file = File::create(output).map_err(unwritable)?;
            heapwright_advise::parquet_export::write_events(
                &recording,
                process,
                &analysis,
                BufWriter::new(file),
                &mut |done, all| progress.set(done, all, "exporting"),
            )
            .map_err(Failure::ours)?;
        }
        #[cfg(not(feature = "parquet"))]
        ExportFormat::Parquet => {
            return Err(Failure::ours(
                "this build has no Parquet; build with `--features parquet`, or use --format pprof",
            ));
        }
    }
    if console.json() {
        let heapwright_version = env!("CARGO_PKG_VERSION");
        console.print_json(&ExportResult { schema: 1, heapwright_version, file: output })?;
    }
    Ok(0)
}

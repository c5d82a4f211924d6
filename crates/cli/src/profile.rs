//! `heapwright profile`: the sampling heap profile of a live process, or of a file that one
//! wrote.

use crate::console::Console;
use crate::failure::Failure;
use crate::top_text;
use clap::Args;
use heapwright_monitor::{Blame, RawProfile, Request, Watched, directories, pprof};
use serde::Serialize;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of what and where to.
#[derive(Debug, Args)]
pub(crate) struct ProfileOptions {
    /// The process, or the file that HEAPWRIGHT_PROFILE=FILE had written
    #[arg(value_name = "PID|NAME|FILE")]
    source: String,
    /// Write it for pprof: allocated, live, pinned and releasable bytes by stack
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Keep the process's own form, to be read elsewhere or later
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,
    /// Only begin sampling; the profile of what comes is asked for later
    #[arg(long)]
    start: bool,
    /// Only end sampling
    #[arg(long, conflicts_with = "start")]
    stop: bool,
    /// How long to wait for the process to allocate, and so to answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = crate::units::duration)]
    patience: Duration,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct ProfileResult<'a> {
    schema: u32,
    heapwright_version: &'static str,
    pid: u32,
    duration_s: f64,
    lost_samples: u64,
    output: Option<&'a Path>,
    #[serde(flatten)]
    blame: &'a Blame,
}

pub(crate) fn run(options: &ProfileOptions, console: &Console) -> Result<u8, Failure> {
    if options.start || options.stop {
        let what = if options.start { Request::ProfileOn } else { Request::ProfileOff };
        Watched::open(&options.source, &directories())?.ask(what, options.patience)?;
        return Ok(0);
    }
    let file = Path::new(&options.source);
    let text = if file.is_file() { read(file)? } else { ask(options)? };
    if let Some(path) = &options.raw {
        fs::write(path, &text).map_err(|error| Failure::unwritable(path, &error))?;
    }
    let profile = RawProfile::parse(&text)
        .map_err(|error| Failure::ours(format!("{}: {error}", options.source)))?;
    if let Some(path) = &options.output {
        let unwritable = |error| Failure::unwritable(path, &error);
        let file = File::create(path).map_err(unwritable)?;
        pprof(&profile, None).write(BufWriter::new(file)).map_err(unwritable)?;
        if !console.json() {
            console.message(&format!("written: {}", path.display()));
        }
    }
    let blame = Blame::new(&profile, None);
    if console.json() {
        console.print_json(&ProfileResult {
            schema: 1,
            heapwright_version: env!("CARGO_PKG_VERSION"),
            pid: profile.pid,
            duration_s: profile.duration_ns as f64 / 1e9,
            lost_samples: profile.lost,
            output: options.output.as_deref(),
            blame: &blame,
        })?;
    } else {
        console.print(top_text::blame(&blame).trim_end())?;
    }
    Ok(0)
}

fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| Failure::ours(format!("{shown}: {error}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Has the process write its profile, and reads it.
fn ask(options: &ProfileOptions) -> Result<String, Failure> {
    let watched = Watched::open(&options.source, &directories())?;
    let figures = watched.read()?.figures;
    if figures.profile_rate_bytes == 0 && figures.sample_count == 0 {
        return Err(Failure::ours(format!(
            "process {} takes no samples; begin with `heapwright profile --start {}`, or start it \
             with `heapwright run --watch --profile 1 -- CMD`",
            watched.pid(),
            options.source
        )));
    }
    watched.ask(Request::Profile, options.patience)?;
    read(&watched.profile_path())
}

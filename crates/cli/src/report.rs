//! `heapwright report`: the HTML report again.

use crate::advise::{machine, write_report};
use crate::console::Console;
use crate::failure::Failure;
use crate::source::{self, ADVICE_FILE, REPORT_FILE};
use clap::Args;
use heapwright_advise::schema::Advice;
use heapwright_advise::{AdviceFacts, advice, report_data};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Of what.
#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// A recording, or the directory that `advise` wrote
    #[arg(value_name = "FILE|DIR")]
    source: PathBuf,
    /// The report [default: report.html beside the recording]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which process of a recording [default: the one with most events]
    #[arg(long, value_name = "PID|EXE")]
    process: Option<String>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct ReportResult<'a> {
    schema: u32,
    heapwright_version: &'static str,
    report: &'a Path,
    events: u64,
    sites: usize,
}

pub(crate) fn run(options: &ReportOptions, console: &Console) -> Result<u8, Failure> {
    let recording = source::open(&options.source, console)?;
    let known = known_advice(&options.source)?;
    // The advice is about one process; its measurements belong to no other.
    let advised = known.as_ref().and_then(|advice| advice.processes.iter().find(|one| one.chosen));
    let wanted = options.process.clone().or_else(|| advised.map(|one| one.pid.to_string()));
    let process = source::choose(&recording, wanted.as_deref())?;
    let analysis = source::analyse(&recording, process)?;
    let same = advised.is_some_and(|one| one.pid == recording.processes()[process].info.pid);
    let shown = known.filter(|_| same).unwrap_or_else(|| {
        let facts = AdviceFacts {
            heapwright_version: env!("CARGO_PKG_VERSION").into(),
            machine: machine(),
            ..AdviceFacts::default()
        };
        advice(&recording, process, &analysis, &facts)
    });
    let folder = if options.source.is_dir() {
        Some(options.source.as_path())
    } else {
        options.source.parent()
    };
    let beside = folder.unwrap_or(Path::new("")).join(REPORT_FILE);
    let output = options.output.as_ref().unwrap_or(&beside);
    let data = report_data(shown, &analysis);
    write_report(output, &data)?;
    if console.json() {
        console.print_json(&ReportResult {
            schema: 1,
            heapwright_version: env!("CARGO_PKG_VERSION"),
            report: output,
            events: data.advice.recording.events,
            sites: data.advice.sites.len(),
        })?;
    } else {
        console.print(&format!("report: {}", output.display()))?;
    }
    Ok(0)
}

/// The advice in the directory, with its measurements; none for a bare recording.
fn known_advice(source: &Path) -> Result<Option<Advice>, Failure> {
    let file = source.join(ADVICE_FILE);
    if !file.is_file() {
        return Ok(None);
    }
    let shown = file.display();
    let text = fs::read(&file)
        .map_err(|error| Failure::ours(format!("{shown}: cannot be read: {error}")))?;
    let advice = serde_json::from_slice(&text).map_err(|error| {
        Failure::ours(format!("{shown}: is no advice.json ({error}); remove it, or advise again"))
    })?;
    Ok(Some(advice))
}

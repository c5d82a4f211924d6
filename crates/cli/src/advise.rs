//! `heapwright advise`: record, replay everywhere, say what to do.

use crate::blame::{self, BlameOptions};
use crate::confirm::{self, Confirm, Confirmed};
use crate::console::Console;
use crate::failure::Failure;
use crate::prove::{ProveOptions, open_second, prove};
use crate::record::{CaptureOptions, capture, is_empty, recordable, status};
use crate::replay::{ReplayEffort, on_all, plan_with_births, results, specs};
use crate::site_runs;
use crate::source::{self, ADVICE_FILE, RECORDING_FILE, REPORT_FILE};
use clap::Args;
use heapwright_advise::schema::{self, Advice};
use heapwright_advise::{AdviceFacts, OverheadFacts, SiteProof, advice, report_data, text};
use heapwright_collect::{RecordOutcome, StopReason};
use heapwright_launch::{Machine, OURS_FAILED};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Nanoseconds that recording adds to the program itself an event, with full stacks, when nothing
/// better was measured: `record --json` beside the bare program gave 28 and 30 for programs with
/// short stacks (a JSON parser, a Lua interpreter; Xeon, 2 CPUs), about twice that for compilers.
const RECORD_NS_PER_EVENT: f64 = 40.0;
/// Call sites shown on a terminal; the report has all.
const SITES_SHOWN: usize = 5;

/// What to advise on and how.
#[derive(Debug, Args)]
pub(crate) struct AdviseOptions {
    /// Where recording.hwr, report.html and advice.json go
    #[arg(short, long, value_name = "DIR", default_value = "heapwright-advice")]
    pub output: PathBuf,
    #[command(flatten)]
    pub capture: CaptureOptions,
    #[command(flatten)]
    pub effort: ReplayEffort,
    #[command(flatten)]
    pub prove: ProveOptions,
    #[command(flatten)]
    pub blame: BlameOptions,
    /// Which process to advise on [default: the one with most events]
    #[arg(long, value_name = "PID|EXE")]
    pub process: Option<String>,
    /// Run CMD again to confirm what the replay says: when that is quick, always, never
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub confirm: Confirm,
    /// Run CMD once more without the recorder to measure what recording cost
    #[arg(long)]
    pub rerun: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

pub(crate) fn run(options: &AdviseOptions, console: &Console) -> Result<u8, Failure> {
    // What is wrong is said before the program runs, which may take hours.
    recordable(&options.command)?;
    let directory = &options.output;
    fs::create_dir_all(directory).map_err(|error| Failure::unwritable(directory, &error))?;
    let second = open_second(&options.prove, console)?;
    let specs = specs(&options.effort, console)?;
    for spec in &specs {
        spec.check()?;
    }
    let file = directory.join(RECORDING_FILE);
    let outcome = capture(&options.command, &options.capture, &file, console)?;
    if is_empty(&outcome) {
        // That was said.
        return Err(Failure::silent(OURS_FAILED));
    }
    let recording = source::open(&file, console)?;
    let process = source::choose(&recording, options.process.as_deref())?;
    let analysis = source::analyse(&recording, process)?;
    let mut facts = AdviceFacts {
        heapwright_version: env!("CARGO_PKG_VERSION").into(),
        machine: machine(),
        overhead: OverheadFacts::Estimated { ns_per_event: RECORD_NS_PER_EVENT },
        python_malloc: std::env::var("PYTHONMALLOC").ok(),
        ..AdviceFacts::default()
    };
    let mut replay_notes = Vec::new();
    let mut left_out = None;
    if analysis.is_sampled {
        left_out = Some("a sampled recording cannot be replayed, so no allocators are compared");
    } else {
        let plan = plan_with_births(&recording, process, &analysis)?;
        let replayed = on_all(&plan, &specs, &options.effort)?;
        facts.replay_repeats = replayed.null.cpu_s.len() as u32;
        facts.allocators = results(&replayed);
        replay_notes.clone_from(&replayed.notes);
        facts.fragmentation = blame::present(&specs, analysis.info.own_allocator.as_deref())
            .and_then(|spec| {
                let (moment, pace) = (options.blame.blame_at, options.effort.pace);
                blame::fragmentation(&plan, &replayed, spec, moment, pace, console)
            });
        drop(plan);
        facts.proofs = prove(&recording, process, &analysis, &options.prove, second.as_ref())?;
    }
    let by_replay = advice(&recording, process, &analysis, &facts);
    let confirmed = confirm::confirm(options, &outcome, &by_replay.verdict, console)?;
    confirmed.enter(&mut facts);
    let bare_s =
        site_runs::measure(options, &outcome, (&recording, process, &analysis), &mut facts.proofs)?;
    if let Some(native_s) = bare_s {
        facts.overhead = OverheadFacts::Measured { native_s };
    } else if let Confirmed { native_s: Some(native_s), .. } = confirmed {
        facts.overhead = OverheadFacts::Measured { native_s };
    } else if options.rerun {
        let native_s = confirm::run_bare(&options.command, console)?;
        facts.overhead = OverheadFacts::Measured { native_s };
    } else if facts.proofs.iter().any(SiteProof::shows_gain)
        && let Some(native_s) = confirm::bare_s(options, &outcome, console)?
    {
        facts.overhead = OverheadFacts::Measured { native_s };
    }
    let mut advice = advice(&recording, process, &analysis, &facts);
    advice.notes.extend(ended_badly(&outcome));
    advice.notes.append(&mut replay_notes);
    advice.notes.extend(left_out.map(str::to_owned));
    advice.notes.extend(confirmed.notes);
    let report = directory.join(REPORT_FILE);
    let data = report_data(advice, &analysis);
    let written = write_advice(&directory.join(ADVICE_FILE), &data.advice)
        .and_then(|()| write_report(&report, &data));
    // What was measured is said even where there is no room for it.
    if console.json() {
        console.print_json(&data.advice)?;
    } else {
        console.print(&summary(&data.advice, written.is_ok().then_some(&report)))?;
    }
    written?;
    Ok(status(&outcome))
}

/// What is to be said of a command that did not end well by itself.
fn ended_badly(outcome: &RecordOutcome) -> Option<String> {
    const SIGNALLED: i32 = 128;
    let status = outcome.exit_status.filter(|&status| status != 0)?;
    let how = match status - SIGNALLED {
        _ if outcome.reason != StopReason::Exit => return None,
        signal @ 1..65 => format!("status {status}, as one that signal {signal} killed"),
        _ => format!("status {status}"),
    };
    Some(format!("The command ended with {how}; the figures are of what it did until then."))
}

/// Writes `advice.json`.
fn write_advice(path: &Path, advice: &Advice) -> Result<(), Failure> {
    let text = serde_json::to_vec(advice).map_err(Failure::ours)?;
    fs::write(path, text).map_err(|error| remove_part(path, &error))
}

/// Half a file helps nobody: it goes, and the failure is told.
fn remove_part(path: &Path, error: &io::Error) -> Failure {
    if path.is_file() {
        // It may not be ours to remove; that it is torn is said anyway.
        let _ = fs::remove_file(path);
    }
    Failure::unwritable(path, error)
}

/// Writes the page.
pub(crate) fn write_report(path: &Path, data: &schema::ReportData) -> Result<(), Failure> {
    File::create(path)
        .and_then(|file| {
            let mut out = BufWriter::new(file);
            heapwright_report::render(data, &mut out)?;
            out.flush()
        })
        .map_err(|error| remove_part(path, &error))
}

/// This machine as `advice.json` has it.
pub(crate) fn machine() -> schema::Machine {
    let Machine { cpu, cpus, memory_bytes, kernel, libc, architecture } = Machine::this();
    schema::Machine { cpu, cpus, memory_bytes, kernel, libc, architecture }
}

fn summary(advice: &Advice, report: Option<&PathBuf>) -> String {
    let mut out = text::verdict_text(advice);
    out += "\n";
    out += &text::allocators_table(advice);
    out += "\n";
    out += &text::sites_table(&advice.sites, SITES_SHOWN);
    let held = text::fragmentation_text(advice, SITES_SHOWN);
    if !held.is_empty() {
        out += "\n";
        out += &held;
    }
    for note in &advice.notes {
        out += &format!("note: {note}\n");
    }
    if let Some(report) = report {
        out += &format!("report: {}", report.display());
    }
    out.trim_end().to_owned()
}

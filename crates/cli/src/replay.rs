//! `heapwright replay`: a recording on every allocator.

use crate::blame::{self, Moment};
use crate::compare::subjects;
use crate::console::Console;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{source, units};
use clap::Args;
use heapwright_advise::schema::{AllocatorPoint, AllocatorRow, Blame, Fragmentation};
use heapwright_advise::{AllocatorResult, Analysis, text};
use heapwright_compare::Subject;
use heapwright_format::file::Recording;
use heapwright_launch::{Machine, Objects};
use heapwright_replay::{
    AllocatorFigures, AllocatorSpec, MemoryFigures, Plan, ReplayError, ReplayOptions, ReplayReport,
    Shape, compile, compile_with_births, replay_plan,
};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Call sites shown on a terminal that hold free memory.
const SITES_SHOWN: usize = 5;

/// What to replay and on what.
#[derive(Debug, Args)]
pub(crate) struct ReplayCommandOptions {
    /// The recording, or the directory that `advise` wrote
    #[arg(value_name = "FILE")]
    recording: PathBuf,
    #[command(flatten)]
    effort: ReplayEffort,
    /// Which process of the recording [default: the one with most events]
    #[arg(long, value_name = "PID|EXE|all")]
    process: Option<String>,
    /// Also tell for each allocator what memory is held for, and by which call sites
    #[arg(
        long,
        value_name = "worst|peak|end|TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "worst",
        value_parser = blame::moment
    )]
    blame: Option<Moment>,
}

/// On what to replay and how often; `advise` takes the same.
#[derive(Debug, Args)]
pub(crate) struct ReplayEffort {
    /// The allocators: names (system, heapwright, mimalloc, jemalloc, rpmalloc, snmalloc) or paths of .so
    #[arg(long, value_name = "NAME|PATH.so,...", value_delimiter = ',')]
    pub on: Vec<String>,
    /// Timing runs of each allocator
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    /// Begin no further round of timing runs after this time (three always run)
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    pub time_limit: Duration,
    /// Memory runs keep to the recorded clock, by which allocators give memory back, for so long
    /// at most: longer recordings have their pauses cut (0s: as fast as it goes)
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = units::duration)]
    pub pace: Duration,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct ReplayResult {
    schema: u32,
    heapwright_version: &'static str,
    machine: Machine,
    replays: Vec<ReplayReport>,
    /// With `--blame`, for each replay and allocator that worked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blame: Vec<HeldMemory>,
}

/// What an allocator holds memory for.
#[derive(Debug, Serialize)]
struct HeldMemory {
    /// The process.
    pid: u32,
    fragmentation: Fragmentation,
    fragmentation_blame: Vec<Blame>,
}

pub(crate) fn run(options: &ReplayCommandOptions, console: &Console) -> Result<u8, Failure> {
    let recording = source::open(&options.recording, console)?;
    let processes = if options.process.as_deref() == Some("all") {
        let with_events = |index: &usize| recording.processes()[*index].events > 0;
        (0..recording.processes().len()).filter(with_events).collect()
    } else {
        vec![source::choose(&recording, options.process.as_deref())?]
    };
    let specs = specs(&options.effort, console)?;
    let (mut replays, mut blame) = (Vec::new(), Vec::new());
    for process in processes {
        let replay = match options.blame {
            None => on_all(&plan(&recording, process)?, &specs, &options.effort)?,
            Some(moment) => {
                let analysis = source::analyse(&recording, process)?;
                let plan = plan_with_births(&recording, process, &analysis)?;
                let replay = on_all(&plan, &specs, &options.effort)?;
                for spec in &specs {
                    let pace = options.effort.pace;
                    let facts = blame::fragmentation(&plan, &replay, spec, moment, pace, console);
                    blame.extend(facts.map(|facts| HeldMemory {
                        pid: replay.pid,
                        fragmentation_blame: analysis.blame(&facts),
                        fragmentation: facts.fragmentation,
                    }));
                }
                replay
            }
        };
        replays.push((replay, recording.processes()[process].info.display_name()));
    }
    if console.json() {
        let heapwright_version = env!("CARGO_PKG_VERSION");
        let machine = Machine::this();
        let replays = replays.into_iter().map(|(replay, _)| replay).collect();
        let result = ReplayResult { schema: 1, heapwright_version, machine, replays, blame };
        console.print_json(&result)?;
        return Ok(0);
    }
    for (replay, name) in &replays {
        console.print(&table_text(replay, name))?;
        for held in blame.iter().filter(|held| held.pid == replay.pid) {
            let told = text::held_text(&held.fragmentation, &held.fragmentation_blame, SITES_SHOWN);
            console.print(told.trim_end())?;
        }
    }
    Ok(0)
}

/// The allocators that `effort` asks for, the system's first.
pub(crate) fn specs(
    effort: &ReplayEffort,
    console: &Console,
) -> Result<Vec<AllocatorSpec>, Failure> {
    let objects = Objects::of_this_binary()?;
    let mut allocators = vec![AllocatorSpec::system()];
    for subject in subjects(&effort.on, &objects)? {
        match spec(&subject) {
            Ok(spec) if spec.so.is_some() => allocators.push(spec),
            Ok(_) => {}
            Err(reason) => console.message(&format!("{} is left out: {reason}", subject.name)),
        }
    }
    Ok(allocators)
}

/// Compiles a process for replay, with a bar.
fn plan(recording: &Recording, process: usize) -> Result<Plan, Failure> {
    let progress = Progress::new(1);
    Ok(compile(recording, process, Shape::default(), &mut |state| {
        progress.set(state.done, state.total, &state.what);
    })?)
}

/// The same, with the call site of every block.
pub(crate) fn plan_with_births(
    recording: &Recording,
    process: usize,
    analysis: &Analysis,
) -> Result<Plan, Failure> {
    let progress = Progress::new(1);
    let site_of = |stack| analysis.site_of(stack);
    Ok(compile_with_births(recording, process, Shape::default(), &site_of, &mut |state| {
        progress.set(state.done, state.total, &state.what);
    })?)
}

/// Replays a plan on `specs`, with a bar.
pub(crate) fn on_all(
    plan: &Plan,
    specs: &[AllocatorSpec],
    effort: &ReplayEffort,
) -> Result<ReplayReport, Failure> {
    let options = ReplayOptions {
        allocators: specs.to_vec(),
        repeats: effort.repeats,
        time_budget: Some(effort.time_limit),
        pace_limit: effort.pace,
        ..ReplayOptions::default()
    };
    let progress = Progress::new(1);
    let report = replay_plan(plan, &options, &mut |state| {
        progress.set(state.done, state.total, &state.what);
    })?;
    Ok(report)
}

/// The report's rows as the advice takes them.
pub(crate) fn results(report: &ReplayReport) -> Vec<AllocatorResult> {
    let result = |figures: &AllocatorFigures| AllocatorResult {
        row: row(figures),
        peak_spread: figures.memory.as_ref().map_or(0.0, clock_spread),
        ..AllocatorResult::default()
    };
    report.allocators.iter().map(result).collect()
}

/// How far the peaks with and without the recorded clock are apart, against their middle: it
/// hangs on moments that a replay can hit only by chance, so it is noise.
fn clock_spread(memory: &MemoryFigures) -> f64 {
    let Some(hasty) = memory.hasty_peak_bytes else { return 0.0 };
    let (paced, hasty) = (memory.peak_bytes as f64, hasty as f64);
    2.0 * (paced - hasty).abs() / (paced + hasty).max(1.0)
}

fn spec(subject: &Subject) -> Result<AllocatorSpec, String> {
    let object = subject.object.as_ref().map_err(Clone::clone)?;
    Ok(AllocatorSpec {
        name: subject.name.clone(),
        so: object.as_ref().map(|object| object.path().to_owned()),
        origin: subject.origin.clone(),
        version: subject.version.clone(),
    })
}

fn row(figures: &AllocatorFigures) -> AllocatorRow {
    let memory = figures.memory.clone().unwrap_or_default();
    AllocatorRow {
        name: figures.name.clone(),
        version: figures.version.clone(),
        origin: figures.origin.clone(),
        failure: figures.failure.clone(),
        ns_per_op: figures.ns_per_op,
        spread: figures.spread,
        // Against the system's: the advice fills it in.
        time_ratio: 0.0,
        // Blocks are touched, so there is at least an OS page, perhaps one that was there before.
        peak_rss_kb: (memory.peak_bytes / 1024).max(if figures.memory.is_some() { 4 } else { 0 }),
        mean_rss_kb: memory.mean_bytes / 1024,
        end_rss_kb: memory.end_bytes / 1024,
        page_faults: figures.page_faults_minor + figures.page_faults_major,
        internal_fragmentation: memory.internal_fragmentation.unwrap_or(0.0),
        external_fragmentation: memory.external_fragmentation.unwrap_or(0.0),
        largest_free_bytes: memory.largest_free_bytes,
        timeline: memory
            .timeline
            .iter()
            .map(|point| AllocatorPoint {
                events: point.events,
                time_s: point.time_s,
                rss_kb: point.resident_bytes / 1024,
                live_kb: point.live_bytes / 1024,
                internal: point.internal,
                external: point.external,
            })
            .collect(),
        run: None,
    }
}

fn table_text(report: &ReplayReport, name: &str) -> String {
    let mut lines = vec![
        format!(
            "{} (pid {}): {} operations of {} threads, {} handed over between them",
            name, report.pid, report.operations, report.threads, report.handovers
        ),
        format!(
            "{:<12} {:>8} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "allocator", "ns/op", "±", "peak MiB", "mean MiB", "end MiB", "internal", "external"
        ),
    ];
    for row in &report.allocators {
        let Some(memory) = row.memory.as_ref().filter(|_| row.failure.is_empty()) else {
            lines.push(format!("{:<12} failed: {}", row.name, row.failure));
            continue;
        };
        let mib = |bytes: u64| match bytes as f64 / (1 << 20) as f64 {
            mib if mib < 0.05 => "<0.1".to_owned(),
            mib => format!("{mib:.1}"),
        };
        let share = |share: Option<f64>| {
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", share * 100.0))
        };
        lines.push(format!(
            "{:<12} {:>8.1} {:>4.0}% {:>9} {:>9} {:>9} {:>9} {:>9}",
            row.name,
            row.ns_per_op,
            row.spread * 100.0,
            mib(memory.peak_bytes),
            mib(memory.mean_bytes),
            mib(memory.end_bytes),
            share(memory.internal_fragmentation),
            share(memory.external_fragmentation),
        ));
    }
    let null = report.null.ns_per_op;
    lines.push(format!(
        "null run: {null:.1} ns/op, taken off above; memory is growth from the first event"
    ));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        Self::ours(error)
    }
}

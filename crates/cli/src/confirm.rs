//! Whether the replay's winner also wins when the program itself runs under it.

use crate::advise::AdviseOptions;
use crate::compare::{Watch, subjects};
use crate::console::Console;
use crate::failure::Failure;
use clap::ValueEnum;
use heapwright_advise::schema::{RunFigures, Verdict};
use heapwright_advise::{AdviceFacts, SYSTEM};
use heapwright_collect::{RecordOutcome, StopReason};
use heapwright_compare::{CompareOptions, Comparison, Row, compare};
use heapwright_launch::{Objects, Program, Running, Stdin};
use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A recorded run that took longer is not repeated unasked.
const QUICK: Duration = Duration::from_secs(20);
/// Time that unasked repeats may take in all.
const CONFIRM_LIMIT: Duration = Duration::from_secs(30);
/// Runs under each of the two allocators.
const ROUNDS: u32 = 5;
/// Bare runs for the program's own CPU time, and after how long there is no further one.
const BARE_RUNS: usize = 3;
const BARE_LIMIT: Duration = Duration::from_secs(5);

/// When to run the program again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Confirm {
    /// When it ended well within 20 s, and the replay says to change, or a call site may be better
    /// on a region (12 s in all for the heaviest of those).
    Auto,
    /// Also when it is slow (150 s in all for call sites).
    Always,
    /// Not at all: running it twice would do harm.
    Never,
}

/// What the runs showed.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    /// CPU seconds of the bare program.
    pub native_s: Option<f64>,
    /// What a reader must know about the runs.
    pub notes: Vec<String>,
    comparison: Option<Comparison>,
}

/// Runs the program under the system's allocator and the one that `verdict` names, if that is
/// wanted and the verdict names another.
pub(crate) fn confirm(
    options: &AdviseOptions,
    outcome: &RecordOutcome,
    verdict: &Verdict,
    console: &Console,
) -> Result<Confirmed, Failure> {
    if !verdict.change || !options.confirm.is_wanted(outcome) {
        return Ok(Confirmed::default());
    }
    let objects = Objects::of_this_binary()?;
    let winner = subjects(&options.effort.on, &objects)?
        .into_iter()
        .filter(|subject| subject.name == verdict.allocator)
        .collect();
    let mut settings = CompareOptions::new(options.command.clone(), winner);
    settings.rounds = ROUNDS;
    settings.time_limit = CONFIRM_LIMIT;
    settings.load.clone_from(&options.capture.load);
    let watch = Watch::new()?;
    match compare(&settings, &watch) {
        Ok(comparison) => Ok(Confirmed::from_comparison(comparison)),
        // The replay's verdict stands; why it was not confirmed is told.
        Err(error) => {
            drop(watch);
            console.message(&format!("the verdict could not be confirmed by runs: {error}"));
            let notes = vec![format!("The verdict could not be confirmed by runs: {error}.")];
            Ok(Confirmed { notes, ..Confirmed::default() })
        }
    }
}

impl Confirm {
    /// Whether the recorded program may be run again.
    pub(crate) fn is_wanted(self, outcome: &RecordOutcome) -> bool {
        match self {
            Self::Auto => {
                let ended = matches!(outcome.reason, StopReason::Exit | StopReason::Load);
                ended && outcome.wall < QUICK && crate::record::status(outcome) == 0
            }
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// CPU seconds of the bare program, run for that; none where it is not to be run again, or needs
/// another one to drive it.
pub(crate) fn bare_s(
    options: &AdviseOptions,
    outcome: &RecordOutcome,
    console: &Console,
) -> Result<Option<f64>, Failure> {
    if !options.confirm.is_wanted(outcome) || options.capture.load.is_some() {
        return Ok(None);
    }
    let mut seconds = Vec::new();
    let started = Instant::now();
    while seconds.len() < BARE_RUNS && (seconds.is_empty() || started.elapsed() < BARE_LIMIT) {
        seconds.push(run_bare(&options.command, console)?);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Some(seconds[seconds.len() / 2]))
}

/// Runs the program once, bare, and returns its CPU seconds.
pub(crate) fn run_bare(command: &[OsString], console: &Console) -> Result<f64, Failure> {
    let program = Program::find(&command[0])?;
    let mut bare = Command::new(program.path());
    bare.args(&command[1..]).stdin(Stdin::repeatable().open()?);
    bare.stdout(Stdio::null());
    console.message("running the program once more without the recorder");
    Ok(Running::start(&mut bare)?.wait()?.cpu_s())
}

impl Confirmed {
    fn from_comparison(comparison: Comparison) -> Self {
        let system = comparison.rows.iter().find(|row| row.name == SYSTEM);
        let native_s = system.and_then(|row| row.figures).map(|figures| figures.cpu_s.median);
        let mut notes = comparison.notes.clone();
        for row in comparison.rows.iter().filter(|row| !row.failure.is_empty()) {
            notes.push(format!("The program fails under {}: {}.", row.name, row.failure));
        }
        Self { native_s, notes, comparison: Some(comparison) }
    }

    /// Enters the runs' figures into the allocators' rows.
    pub(crate) fn enter(&self, facts: &mut AdviceFacts) {
        let Some(comparison) = &self.comparison else {
            return;
        };
        for row in &comparison.rows {
            let result = facts.allocators.iter_mut().find(|result| result.row.name == row.name);
            let Some(result) = result else { continue };
            if !row.failure.is_empty() {
                // It works in the replay but not under the program: it cannot be advised.
                result.row.failure = format!("the program fails under it: {}", row.failure);
            }
            result.row.run = run_figures(row);
            result.run_peak_spread = row.figures.map_or(0.0, |figures| figures.peak_rss_kb.spread);
            if row.name == SYSTEM {
                let peak = row.figures.map_or(0.0, |figures| figures.peak_rss_kb.median);
                facts.program_peak_rss_kb = peak as u64;
            }
        }
    }
}

fn run_figures(row: &Row) -> Option<RunFigures> {
    let figures = row.figures?;
    let ratios = row.ratios.unwrap_or_default();
    Some(RunFigures {
        cpu_s: figures.cpu_s.median,
        wall_s: figures.wall_s.median,
        spread: figures.cpu_s.spread,
        peak_rss_kb: figures.peak_rss_kb.median as u64,
        time_ratio: ratios.cpu.map_or(1.0, |ratio| ratio.median),
        peak_rss_ratio: ratios.peak_rss.map_or(1.0, |ratio| ratio.median),
        repeats: row.repeats,
        // What cannot be judged (a server, output with the time in it) is not held against it.
        same_output: row.same_output.unwrap_or(true),
    })
}

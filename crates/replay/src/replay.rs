//! The whole of a replay: compile, memory runs, alternating timing runs, figures.
#![forbid(unsafe_code)]

use std::fs::File;
use std::time::{Duration, Instant};

use heapwright_format::file::Recording;

use crate::compile::compile;
use crate::error::ReplayError;
use crate::figures::{median, memory_figures, spread};
use crate::plan::Plan;
use crate::progress::{Phase, Progress};
use crate::report::{AllocatorFigures, NullFigures, ReplayReport};
use crate::result::{Field, Text};
use crate::spec::{ReplayOptions, WorkerProgram};
use crate::stock::{read_stock, stock_file};
use crate::supervise::{Limits, Outcome, Task, run_once};

/// Timing rounds that always run.
const ROUNDS_MIN: u32 = 3;

/// Replays one process of `recording` on each allocator of `options` and measures it.
///
/// Each run is a fresh process; never do two run at once. First a memory run of each allocator
/// (which also shows whether it works), then rounds of timing runs: nothing, the first
/// allocator, the second, and so on, again and again. `progress` is called some times a second.
///
/// An allocator that cannot be loaded, crashes or hangs is a row that says so.
///
/// # Errors
/// [`ReplayError`] when nothing can be replayed: a sampled or empty recording, a missing
/// object, too little memory.
pub fn replay(
    recording: &Recording,
    options: &ReplayOptions,
    progress: &mut dyn FnMut(&Progress),
) -> Result<ReplayReport, ReplayError> {
    for allocator in &options.allocators {
        allocator.check()?;
    }
    let process = match options.process.or_else(|| recording.main_process()) {
        Some(process) => process,
        None => {
            let path = recording.path().to_owned();
            return Err(ReplayError::NoProcess { path, process: 0, count: 0 });
        }
    };
    let started = Instant::now();
    let plan = compile(recording, process, options.shape, progress)?;
    let compile_s = started.elapsed().as_secs_f64();
    let mut report = replay_plan(&plan, options, progress)?;
    report.compile_s = compile_s;
    Ok(report)
}

/// Replays a plan that was compiled before: [`replay`] without its first step.
///
/// # Errors
/// As for [`replay`].
pub fn replay_plan(
    plan: &Plan,
    options: &ReplayOptions,
    progress: &mut dyn FnMut(&Progress),
) -> Result<ReplayReport, ReplayError> {
    for allocator in &options.allocators {
        allocator.check()?;
    }
    check_memory(plan.facts().needed_bytes)?;
    let program = match &options.worker {
        Some(program) => program.clone(),
        None => WorkerProgram::this()?,
    };
    let limits = Limits { run: options.run_limit, stall: options.stall_limit };
    let mut runs = Runs { plan, options, program, limits, progress, rows: Vec::new() };
    runs.rows = options
        .allocators
        .iter()
        .map(|allocator| AllocatorFigures {
            name: allocator.name.clone(),
            version: allocator.version.clone(),
            origin: allocator.origin.clone(),
            ..AllocatorFigures::default()
        })
        .collect();
    runs.measure_memory()?;
    let null = runs.measure_time()?;
    let facts = plan.facts();
    Ok(ReplayReport {
        process: facts.process,
        pid: facts.pid,
        exe: facts.exe.clone(),
        events: facts.events,
        operations: facts.operations,
        threads: facts.threads,
        handovers: facts.handovers,
        peak_live_bytes: facts.peak_live_bytes,
        plan_bytes: facts.plan_bytes,
        compile_s: 0.0,
        null,
        allocators: runs.rows,
        notes: facts.notes.clone(),
    })
}

/// Runs in the making.
struct Runs<'a> {
    plan: &'a Plan,
    options: &'a ReplayOptions,
    program: WorkerProgram,
    limits: Limits,
    progress: &'a mut dyn FnMut(&Progress),
    rows: Vec<AllocatorFigures>,
}

/// What a run measures.
#[derive(Clone, Copy, Debug)]
enum RunKind<'a> {
    /// Memory; and stock is taken where there is a file for it.
    Memory(Option<&'a File>),
    /// Time.
    Time,
}

/// One timing run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) cpu_s: f64,
    wait_s: f64,
    wall_s: f64,
    faults: (u64, u64),
}

impl Runs<'_> {
    fn measure_memory(&mut self) -> Result<(), ReplayError> {
        let started = Instant::now();
        let total = self.rows.len();
        for index in 0..total {
            let what = format!("{}, memory", self.rows[index].name);
            let stock = self.stock_at_peak_and_end()?;
            let kind = RunKind::Memory(stock.as_ref());
            let outcome = self.run(Some(index), kind, what, (index, total), started)?;
            let row = &mut self.rows[index];
            let version = outcome.result.text(Text::Version);
            if row.version.is_empty() {
                row.version = version;
            }
            row.threads = outcome.result.get(Field::Threads);
            row.failure = outcome.failure;
            if row.failure.is_empty() {
                match memory_figures(self.plan.facts(), &outcome.result) {
                    Ok(memory) => row.memory = Some(memory),
                    Err(why) => row.failure = why,
                }
            }
            if let Some(file) = stock
                && let Some(memory) = &mut row.memory
            {
                row.stocks = read_stock(&file, self.plan)?;
                let peak = self.plan.facts().peak_sample;
                let at_peak = row.stocks.iter().find(|stock| stock.sample == peak);
                memory.largest_free_bytes = at_peak.map(|stock| stock.largest_free_bytes);
            }
        }
        Ok(())
    }

    /// Where a memory run writes its stock; none for a plan without call sites.
    fn stock_at_peak_and_end(&self) -> Result<Option<File>, ReplayError> {
        let facts = self.plan.facts();
        if !facts.keeps_births {
            return Ok(None);
        }
        let end = facts.samples.len().saturating_sub(1);
        stock_file(self.plan, &[facts.peak_sample, end]).map(Some)
    }

    fn measure_time(&mut self) -> Result<NullFigures, ReplayError> {
        let started = Instant::now();
        let rounds = self.options.repeats;
        let mut null_runs: Vec<Timing> = Vec::new();
        let mut runs: Vec<Vec<Timing>> = vec![Vec::new(); self.rows.len()];
        for round in 0..rounds {
            let is_over = self.options.time_budget.is_some_and(|budget| started.elapsed() > budget);
            if is_over && round >= ROUNDS_MIN {
                break;
            }
            let per_round = self.rows.len() + 1;
            let total = per_round * rounds as usize;
            let before = per_round * round as usize;
            let what = |name: &str| format!("{name}, time {} of {rounds}", round + 1);
            let outcome = self.run(None, RunKind::Time, what("null"), (before, total), started)?;
            if !outcome.failure.is_empty() {
                let error = std::io::Error::other(outcome.failure);
                return Err(ReplayError::System { doing: "replay without an allocator", error });
            }
            null_runs.push(Timing::of(&outcome));
            for (index, timings) in runs.iter_mut().enumerate() {
                if !self.rows[index].failure.is_empty() {
                    continue;
                }
                let what = what(&self.rows[index].name);
                let place = (before + 1 + index, total);
                let outcome = self.run(Some(index), RunKind::Time, what, place, started)?;
                self.rows[index].failure = outcome.failure.clone();
                if outcome.failure.is_empty() {
                    timings.push(Timing::of(&outcome));
                }
            }
        }
        let null_s = median(null_runs.iter().map(|run| run.cpu_s));
        for (row, timings) in self.rows.iter_mut().zip(&runs) {
            enter_times(row, timings, null_s, self.plan.facts().operations);
        }
        let operations = self.plan.facts().operations.max(1) as f64;
        Ok(NullFigures {
            ns_per_op: null_s * 1e9 / operations,
            spread: spread(null_runs.iter().map(|run| run.cpu_s)),
            cpu_s: null_runs.iter().map(|run| run.cpu_s).collect(),
            wait_s: median(null_runs.iter().map(|run| run.wait_s)),
        })
    }

    /// One run: of row `index`, or of nothing; the `place`th of how many in this phase.
    fn run(
        &mut self,
        index: Option<usize>,
        kind: RunKind,
        what: String,
        place: (usize, usize),
        started: Instant,
    ) -> Result<Outcome, ReplayError> {
        let allocator = index.map(|index| &self.options.allocators[index]);
        let facts = self.plan.facts();
        let (events, epochs) = (facts.events, facts.epochs.max(1) as u64);
        let total = events * place.1 as u64;
        let is_memory = matches!(kind, RunKind::Memory(_));
        let stock = match kind {
            RunKind::Memory(stock) => stock,
            RunKind::Time => None,
        };
        let progress = &mut self.progress;
        let mut look = |completed: u64| {
            let done = events * place.0 as u64 + events * completed / epochs;
            let elapsed: Duration = started.elapsed();
            let phase = if is_memory { Phase::Memory } else { Phase::Time };
            progress(&Progress::new(phase, what.clone(), done, total, elapsed));
        };
        look(0);
        let task = Task { allocator, route: None, is_memory, stock };
        run_once(&self.program, self.plan, task, self.limits, &mut look)
    }
}

impl Timing {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let seconds = |field| outcome.result.get(field) as f64 / 1e9;
        let (wait_s, mapping_s) = (seconds(Field::WaitNs), seconds(Field::MappingNs));
        Self {
            cpu_s: (seconds(Field::CpuNs) - wait_s - mapping_s).max(0.0),
            wait_s,
            wall_s: seconds(Field::WallNs),
            faults: (
                outcome.result.get(Field::FaultsMinor),
                outcome.result.get(Field::FaultsMajor),
            ),
        }
    }
}

fn enter_times(row: &mut AllocatorFigures, timings: &[Timing], null_s: f64, operations: u64) {
    let operations = operations.max(1) as f64;
    let ns = |timing: &Timing| (timing.cpu_s - null_s).max(0.0) * 1e9 / operations;
    row.ns_per_op = median(timings.iter().map(ns));
    row.spread = spread(timings.iter().map(ns));
    row.cpu_s = timings.iter().map(|timing| timing.cpu_s).collect();
    row.wall_s = median(timings.iter().map(|timing| timing.wall_s));
    row.wait_s = median(timings.iter().map(|timing| timing.wait_s));
    row.page_faults_minor = median(timings.iter().map(|timing| timing.faults.0 as f64)) as u64;
    row.page_faults_major = median(timings.iter().map(|timing| timing.faults.1 as f64)) as u64;
}

/// Refuses what the machine cannot hold.
fn check_memory(needed_bytes: u64) -> Result<(), ReplayError> {
    // Without /proc nothing is known; then the attempt decides.
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return Ok(()) };
    let available_kb = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
    match available_kb {
        Some(kb) if kb << 10 < needed_bytes => {
            Err(ReplayError::Memory { needed_bytes, available_bytes: kb << 10 })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_memory;
    use crate::error::ReplayError;

    #[test]
    fn too_large_a_recording_is_refused_with_numbers() {
        let error = check_memory(1 << 60).expect_err("an exbibyte");
        assert!(
            matches!(error, ReplayError::Memory { needed_bytes, .. } if needed_bytes == 1 << 60)
        );
        assert!(error.to_string().contains("1099511627776 MiB"), "{error}");
        assert!(check_memory(4096).is_ok());
    }
}

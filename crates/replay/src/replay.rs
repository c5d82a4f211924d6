//! The whole of a replay: compile, memory runs, alternating timing runs, figures.
#![forbid(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heapwright_format::file::Recording;

use crate::compile::compile;
use crate::error::ReplayError;
use crate::figures::{fence, median, memory_figures, settled_spread, spread};
use crate::plan::{Plan, PlanFacts};
use crate::progress::{Phase, Progress};
use crate::report::{AllocatorFigures, NullFigures, ReplayReport};
use crate::result::{Field, Text};
use crate::spec::{ReplayOptions, WorkerProgram};
use crate::stock::{read_stock, stock_file};
use crate::supervise::{Limits, Outcome, Task, run_once};

/// Timing rounds that always run.
const ROUNDS_MIN: u32 = 3;
/// Runs of a row that differ by more, those far out aside, are repeated.
const SETTLED_SPREAD: f64 = 0.15;
/// A run far out is told of from so many times the median on.
const WORTH_A_WORD: f64 = 1.5;
/// Time between two looks at memory runs that go on side by side.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    let mut runs = Runs {
        plan,
        options,
        program,
        limits,
        progress,
        pace: Duration::ZERO,
        notes: Vec::new(),
        rows: Vec::new(),
    };
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
    let mut notes = facts.notes.clone();
    notes.extend(pace_note(facts, runs.pace));
    notes.append(&mut runs.notes);
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
        notes,
    })
}

/// Runs in the making.
struct Runs<'a> {
    plan: &'a Plan,
    options: &'a ReplayOptions,
    program: WorkerProgram,
    limits: Limits,
    progress: &'a mut dyn FnMut(&Progress),
    /// What a memory run may take.
    pace: Duration,
    /// For the reader of the report.
    notes: Vec<String>,
    rows: Vec<AllocatorFigures>,
}

/// One timing run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) cpu_s: f64,
    wait_s: f64,
    wall_s: f64,
    kernel_s: f64,
    faults: (u64, u64),
}

impl Runs<'_> {
    /// A memory run of each allocator. They sleep most of the time, to keep to the recorded clock,
    /// so all run at once where the machine has room for that.
    fn measure_memory(&mut self) -> Result<(), ReplayError> {
        let (started, count) = (Instant::now(), self.rows.len());
        let needed_bytes = self.plan.facts().needed_bytes.saturating_mul(2 * count as u64);
        let at_once = if check_memory(needed_bytes).is_ok() { count } else { 1 };
        let pace = self.options.pace_limit * at_once as u32 / count.max(1) as u32;
        self.pace = pace;
        let mut first = 0;
        while first < count {
            let group = first..(first + at_once).min(count);
            let mut stocks: Vec<Option<File>> = Vec::new();
            for _ in group.clone() {
                stocks.push(self.stock_at_peak_and_end()?);
            }
            let outcomes = self.run_at_once(group.clone(), &stocks, pace, started)?;
            for (index, (outcome, stock)) in
                group.clone().zip(outcomes.into_iter().zip(stocks.drain(..)))
            {
                self.enter_memory(index, outcome, stock)?;
            }
            if !pace.is_zero() {
                stocks = group.clone().map(|_| None).collect();
                let hasty = self.run_at_once(group.clone(), &stocks, Duration::ZERO, started)?;
                for (row, outcome) in self.rows[group.clone()].iter_mut().zip(hasty) {
                    if let Some(memory) = &mut row.memory
                        && outcome.failure.is_empty()
                    {
                        memory.hasty_peak_bytes = Some(outcome.result.get(Field::PeakBytes));
                    }
                }
            }
            first = group.end;
        }
        Ok(())
    }

    /// Memory runs of the rows of `group`, side by side.
    fn run_at_once(
        &mut self,
        group: Range<usize>,
        stocks: &[Option<File>],
        pace: Duration,
        started: Instant,
    ) -> Result<Vec<Outcome>, ReplayError> {
        let (plan, program, limits) = (self.plan, &self.program, self.limits);
        let allocators = &self.options.allocators[group.clone()];
        let facts = plan.facts();
        let epochs = facts.epochs.max(1) as u64;
        let before = epochs * group.start as u64;
        let total = epochs * self.rows.len() as u64;
        let what = match allocators {
            [one] => format!("{}, memory", one.name),
            all => format!("{} allocators, memory", all.len()),
        };
        let done: Vec<AtomicU64> = allocators.iter().map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            let runs: Vec<_> = allocators
                .iter()
                .zip(stocks)
                .zip(&done)
                .map(|((allocator, stock), done)| {
                    scope.spawn(move || {
                        let (allocator, stock) = (Some(allocator), stock.as_ref());
                        let task = Task { allocator, route: None, is_memory: true, pace, stock };
                        let mut look = |epochs| done.store(epochs, Ordering::Relaxed);
                        run_once(program, plan, task, limits, &mut look)
                    })
                })
                .collect();
            while !runs.iter().all(|run| run.is_finished()) {
                let sum: u64 = done.iter().map(|done| done.load(Ordering::Relaxed)).sum();
                let elapsed = started.elapsed();
                let state =
                    Progress::new(Phase::Memory, what.clone(), before + sum, total, elapsed);
                (self.progress)(&state);
                std::thread::sleep(LOOK_EVERY);
            }
            let lost = |_| ReplayError::System {
                doing: "watch a replay worker",
                error: std::io::Error::other("the thread that did it panicked"),
            };
            runs.into_iter().map(|run| run.join().map_err(lost).flatten()).collect()
        })
    }

    fn enter_memory(
        &mut self,
        index: usize,
        outcome: Outcome,
        stock: Option<File>,
    ) -> Result<(), ReplayError> {
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
            let outcome = self.run(None, what("null"), (before, total), started)?;
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
                let outcome = self.run(Some(index), what, place, started)?;
                self.rows[index].failure = outcome.failure.clone();
                if outcome.failure.is_empty() {
                    timings.push(Timing::of(&outcome));
                }
            }
        }
        self.repeat_unsettled(&mut runs, started)?;
        let null_s = median(null_runs.iter().map(|run| run.cpu_s));
        for (row, timings) in self.rows.iter_mut().zip(&runs) {
            enter_times(row, timings, null_s, self.plan.facts().operations);
        }
        let operations = self.plan.facts().operations.max(1) as f64;
        Ok(NullFigures {
            ns_per_op: null_s * 1e9 / operations,
            spread: settled_spread(null_runs.iter().map(|run| run.cpu_s)),
            cpu_s: null_runs.iter().map(|run| run.cpu_s).collect(),
            wait_s: median(null_runs.iter().map(|run| run.wait_s)),
        })
    }

    /// Runs rows whose times do not agree again, until they do or there are three times as many;
    /// what is to be said of runs far out goes into the notes.
    fn repeat_unsettled(
        &mut self,
        runs: &mut [Vec<Timing>],
        started: Instant,
    ) -> Result<(), ReplayError> {
        for (index, timings) in runs.iter_mut().enumerate() {
            let is_over =
                || self.options.time_budget.is_some_and(|budget| started.elapsed() > budget);
            let extra_max = if timings.len() < ROUNDS_MIN as usize { 0 } else { 2 * timings.len() };
            let mut extra = 0;
            while extra < extra_max
                && settled_spread(timings.iter().map(|timing| timing.cpu_s)) > SETTLED_SPREAD
                && !is_over()
            {
                let what = format!("{}, time once more", self.rows[index].name);
                let outcome = self.run(Some(index), what, (extra, extra_max), started)?;
                if outcome.failure.is_empty() {
                    timings.push(Timing::of(&outcome));
                }
                extra += 1;
            }
            self.notes.extend(far_out_note(&self.rows[index].name, timings));
        }
        Ok(())
    }

    /// One timing run: of row `index`, or of nothing; the `place`th of how many in this phase.
    fn run(
        &mut self,
        index: Option<usize>,
        what: String,
        place: (usize, usize),
        started: Instant,
    ) -> Result<Outcome, ReplayError> {
        let allocator = index.map(|index| &self.options.allocators[index]);
        let facts = self.plan.facts();
        let (events, epochs) = (facts.events, facts.epochs.max(1) as u64);
        let total = events * place.1 as u64;
        let progress = &mut self.progress;
        let mut look = |completed: u64| {
            let done = events * place.0 as u64 + events * completed / epochs;
            let elapsed: Duration = started.elapsed();
            progress(&Progress::new(Phase::Time, what.clone(), done, total, elapsed));
        };
        look(0);
        let (is_memory, pace) = (false, Duration::ZERO);
        let task = Task { allocator, route: None, is_memory, pace, stock: None };
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
            kernel_s: seconds(Field::KernelNs),
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
    let fence = fence(timings.iter().map(|timing| timing.cpu_s));
    let settled = timings.iter().filter(|timing| timing.cpu_s <= fence);
    row.spread = spread(settled.map(ns));
    row.far_out = timings.iter().filter(|timing| timing.cpu_s > fence).count() as u32;
    row.kernel_s = median(timings.iter().map(|timing| timing.kernel_s));
    row.cpu_s = timings.iter().map(|timing| timing.cpu_s).collect();
    row.wall_s = median(timings.iter().map(|timing| timing.wall_s));
    row.wait_s = median(timings.iter().map(|timing| timing.wait_s));
    row.page_faults_minor = median(timings.iter().map(|timing| timing.faults.0 as f64)) as u64;
    row.page_faults_major = median(timings.iter().map(|timing| timing.faults.1 as f64)) as u64;
}

/// What is to be said of runs that took much longer than the others, if any did.
fn far_out_note(name: &str, timings: &[Timing]) -> Option<String> {
    let fence = fence(timings.iter().map(|timing| timing.cpu_s));
    let count = timings.iter().filter(|timing| timing.cpu_s > fence).count();
    let worst = timings.iter().max_by(|a, b| a.cpu_s.total_cmp(&b.cpu_s))?;
    let middle_s = median(timings.iter().map(|one| one.cpu_s));
    if count == 0 || worst.cpu_s < WORTH_A_WORD * middle_s {
        return None;
    }
    let middle = |of: fn(&Timing) -> f64| median(timings.iter().map(of));
    let (cpu_s, kernel_s) = (middle(|one| one.cpu_s), middle(|one| one.kernel_s));
    let in_kernel = (worst.kernel_s - kernel_s) / (worst.cpu_s - cpu_s);
    Some(format!(
        "{name}: {count} of {} timing runs took up to {:.1} times the median, {:.0} % of the \
         excess in the kernel; the spread is told without {}",
        timings.len(),
        worst.cpu_s / cpu_s,
        (in_kernel * 100.0).clamp(0.0, 100.0),
        if count == 1 { "it" } else { "them" },
    ))
}

/// What is to be said of memory runs that went faster than the program.
fn pace_note(facts: &PlanFacts, pace: Duration) -> Option<String> {
    let recorded_s = facts.samples.last().map_or(0.0, |sample| sample.time_s);
    let pace_s = pace.as_secs_f64();
    (recorded_s > pace_s).then(|| {
        format!(
            "memory runs took {pace_s:.1} s for {recorded_s:.1} s of the program; what an \
             allocator gives back by the clock, it gives back later there (--pace)"
        )
    })
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

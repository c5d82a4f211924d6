//! Is the tuner any good? Every setting of its space is measured on each workload, those that lead
//! several times; then the search has its twenty runs, on seeds that it has not seen. How much more
//! CPU time than the best setting of all does the one that it chooses take? Both run in turn for
//! that, and the median of the ratios counts: of many settings that differ by less than runs of one
//! do, the least time of any is a lucky run's, and no setting's.
//!
//! `heapwright-bench-gc tune [--full] [--only WORKLOAD] [--seeds N] [--pause-ms MS] [--search-only]`;
//! with the last, no other setting is measured than those that the search comes to: whether the
//! pause and the limit are kept.

use heapwright_bench::gc_suite::WORKLOADS;
use heapwright_bench::statistics::median;
use heapwright_tune::{Goal, Measured, Options, RunError, Setting, measure, search};
use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

/// The runs that a search has.
const RUNS: usize = 20;
/// The best of the whole space that are measured again, and how often; the least counts.
const FINALISTS: usize = 8;
const FINAL_RUNS: usize = 3;
/// Runs of the choice and of the best of all, in turn.
const PAIRS: usize = 9;
/// The limit of each heap.
const LIMIT_MIB: f64 = 1536.0;

struct Tuning<'a> {
    workload: &'a str,
    scale: &'a str,
    log: &'a Path,
}

impl Tuning<'_> {
    fn run(&self, setting: &Setting, seed: usize) -> Result<Measured, RunError> {
        let program = env::current_exe().map_err(|error| RunError::Start(error.to_string()))?;
        let seed = format!("seed={seed}");
        // The collector's name comes from the environment, which wins.
        let words = ["cell", self.workload, "heapwright", "generational", self.scale, &seed];
        let command: Vec<OsString> =
            [program.into()].into_iter().chain(words.map(OsString::from)).collect();
        measure(&command, setting, Some("1536m"), self.log)
    }

    /// The CPU time of a setting on a seed: the least of some runs.
    fn cpu_s(&self, setting: &Setting, seed: usize, runs: usize) -> f64 {
        let times = (0..runs).filter_map(|_| self.run(setting, seed).ok());
        times.map(|one| one.cpu_s).fold(f64::INFINITY, f64::min)
    }

    /// Runs two settings in turn; the other one begins every second pair.
    fn pairs(
        &self,
        one: &Setting,
        other: &Setting,
        seed: usize,
    ) -> Result<Vec<(Measured, Measured)>, String> {
        let run = |setting| self.run(setting, seed).map_err(|error| error.to_string());
        let pair = |index| {
            if index % 2 == 0 {
                return Ok((run(one)?, run(other)?));
            }
            let second = run(other)?;
            Ok((run(one)?, second))
        };
        (0..PAIRS).map(pair).collect()
    }
}

/// Runs the comparison; returns its table.
pub fn run(words: &[String]) -> Result<String, String> {
    let (mut scale, mut only, mut seeds, mut pause_ms_max) = ("middle", None, 3, None);
    let mut compares = true;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--full" => scale = "full",
            "--quick" => scale = "quick",
            "--test" => scale = "test",
            "--search-only" => compares = false,
            "--only" => only = Some(value()?),
            "--seeds" => seeds = value()?.parse().map_err(|_| "--seeds needs a number")?,
            "--pause-ms" => {
                pause_ms_max = Some(value()?.parse().map_err(|_| "--pause-ms needs a number")?);
            }
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    let log = env::temp_dir().join(format!("heapwright-gc-tune-{}.log", std::process::id()));
    let mut table = String::from(
        "| workload | seed | settings | best of all | CPU s | chosen in 20 runs | CPU s | more | \
         pauses kept | p99 ms | heap MiB |\n|---|--:|--:|---|--:|---|--:|--:|--:|--:|--:|\n",
    );
    for workload in WORKLOADS.into_iter().filter(|one| only.as_deref().is_none_or(|o| o == *one)) {
        let tuning = Tuning { workload, scale, log: &log };
        let mut all: Vec<(f64, Setting)> = Vec::new();
        let mut over = 0;
        let settings = if compares { Setting::all() } else { Vec::new() };
        for setting in settings {
            if let Ok(measured) = tuning.run(&setting, 0) {
                let is_slow = pause_ms_max.is_some_and(|most| measured.pause_ms_p99 > most);
                over += usize::from(measured.heap_peak_mib > LIMIT_MIB);
                all.extend((!is_slow).then_some((measured.cpu_s, setting)));
            }
        }
        eprintln!("{workload}: {} settings, {over} over the limit", all.len());
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (cpu_s, setting) in all.iter_mut().take(FINALISTS) {
            *cpu_s = cpu_s.min(tuning.cpu_s(setting, 0, FINAL_RUNS - 1));
        }
        let best = all.iter().take(FINALISTS).min_by(|a, b| a.0.total_cmp(&b.0));
        let best = best.map(|(_, setting)| setting);
        if compares && best.is_none() {
            return Err("no setting runs".into());
        }
        for seed in 1..=seeds {
            let options = Options { runs: RUNS, goal: Goal::Cpu, pause_ms_max };
            let found = search(options, |setting| tuning.run(setting, seed));
            let chosen = found.map_err(|error| error.to_string())?.trials.swap_remove(0).setting;
            // Runs that nobody chose by, on another seed.
            let best = best.unwrap_or(&chosen);
            let pairs = tuning.pairs(&chosen, best, seed + 1000)?;
            let of = |value: &dyn Fn(&(Measured, Measured)) -> f64| {
                median(&pairs.iter().map(value).collect::<Vec<_>>())
            };
            let more = (of(&|(chosen, best)| chosen.cpu_s / best.cpu_s) - 1.0) * 100.0;
            let keeps = |one: &&(Measured, Measured)| {
                pause_ms_max.is_none_or(|most| one.0.pause_ms_p99 <= most)
            };
            let heap_mib = pairs.iter().map(|(one, _)| one.heap_peak_mib).fold(0.0, f64::max);
            let over = if heap_mib > LIMIT_MIB { " OVER THE LIMIT" } else { "" };
            // Writing into a `String` cannot fail.
            let _ = writeln!(
                table,
                "| {workload} | {seed} | {} | {best} | {:.3} | {chosen} | {:.3} | {more:+.1} % | \
                 {} of {PAIRS} | {:.2} | {heap_mib:.0}{over} |",
                all.len(),
                of(&|(_, best)| best.cpu_s),
                of(&|(chosen, _)| chosen.cpu_s),
                pairs.iter().filter(keeps).count(),
                of(&|(chosen, _)| chosen.pause_ms_p99),
            );
        }
    }
    let _ = std::fs::remove_file(&log);
    Ok(table)
}

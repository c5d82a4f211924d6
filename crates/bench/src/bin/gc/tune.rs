//! Is the tuner any good? Every setting of its space is measured on each workload, and then the
//! search has its twenty runs, on seeds that it has not seen: how much more CPU time than the best
//! setting of all does the one that it chooses take?
//!
//! `heapwright-bench-gc tune [--full] [--only WORKLOAD] [--seeds N] [--pause-ms MS]`

use heapwright_bench::gc_suite::WORKLOADS;
use heapwright_tune::{Goal, Measured, Options, RunError, Setting, measure, search};
use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

/// The runs that a search has.
const RUNS: usize = 20;
/// The best of the whole space that are measured again, beside what the search chose.
const FINALISTS: usize = 3;
/// Runs of each finalist; the least counts, as others on the machine only ever add time.
const FINAL_RUNS: usize = 3;
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
}

/// Runs the comparison; returns its table.
pub fn run(words: &[String]) -> Result<String, String> {
    let (mut scale, mut only, mut seeds, mut pause_ms_max) = ("quick", None, 2, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--full" => scale = "full",
            "--test" => scale = "test",
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
         pause p99 ms | heap MiB |\n|---|--:|--:|---|--:|---|--:|--:|--:|--:|\n",
    );
    for workload in WORKLOADS.into_iter().filter(|one| only.as_deref().is_none_or(|o| o == *one)) {
        let tuning = Tuning { workload, scale, log: &log };
        let mut all: Vec<(f64, Setting)> = Vec::new();
        for setting in Setting::all() {
            if let Ok(measured) = tuning.run(&setting, 0) {
                let is_slow = pause_ms_max.is_some_and(|most| measured.pause_ms_p99 > most);
                all.extend((!is_slow).then_some((measured.cpu_s, setting)));
            }
        }
        eprintln!("{workload}: {} settings", all.len());
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        for seed in 1..=seeds {
            let options = Options { runs: RUNS, goal: Goal::Cpu, pause_ms_max };
            let found = search(options, |setting| tuning.run(setting, seed));
            let chosen = found.map_err(|error| error.to_string())?.trials.swap_remove(0).setting;
            let finalists = all.iter().take(FINALISTS).map(|(_, setting)| setting);
            let best = finalists
                .map(|setting| (tuning.cpu_s(setting, seed, FINAL_RUNS), setting))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            let (best_s, best) = best.ok_or("no setting runs")?;
            let chosen_s = tuning.cpu_s(&chosen, seed, FINAL_RUNS);
            // A run that nobody chose by, for what was promised.
            let last = tuning.run(&chosen, seed + 1000).map_err(|error| error.to_string())?;
            let more = (chosen_s / best_s - 1.0) * 100.0;
            let over = if last.heap_peak_mib > LIMIT_MIB { " OVER THE LIMIT" } else { "" };
            // Writing into a `String` cannot fail.
            let _ = writeln!(
                table,
                "| {workload} | {seed} | {} | {best} | {best_s:.3} | {chosen} | {chosen_s:.3} | \
                 {more:+.1} % | {:.2} | {:.0}{over} |",
                all.len(),
                last.pause_ms_p99,
                last.heap_peak_mib,
            );
        }
    }
    let _ = std::fs::remove_file(&log);
    Ok(table)
}

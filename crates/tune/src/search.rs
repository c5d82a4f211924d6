//! The search: every collector once, with a heap that suits the goal, and those that come near the
//! best once more; then the neighbours of the best, until seven tenths of the runs are used up. Neighbours differ by less than runs of one
//! setting do, so the rest repeats what leads: the first three once more, with the best of another
//! collector if they are all of one; then of the first two the one with fewer runs, which are so
//! compared in turn.
//!
//! The shares come from trying searches on the CPU times of all settings of four programs, with the
//! noise of single runs added (design/gc.md, *Tuning*).

use crate::run::{Measured, RunError};
use crate::setting::{COLLECTORS, Setting};
use serde::Serialize;
use std::cmp::Reverse;

/// Of ten runs so many look for better settings; the rest repeats the best.
const LOOKING_RUNS_OF_TEN: usize = 7;
/// So many go into the final rounds.
const FINALISTS: usize = 3;
/// After the first round so many collectors behind the best have a second run,
const SECOND_LOOKS: usize = 3;
/// if they took at most so many times what it did: one run may have been that unlucky, by memory that
/// is slow to come, and where a collector's only run was, the search looks elsewhere.
const SECOND_LOOK_RATIO: f64 = 1.6;

/// What is to be least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// CPU time.
    Cpu,
    /// Peak resident memory.
    Memory,
    /// The 99th percentile of pauses.
    Pause,
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Runs of the program.
    pub runs: usize,
    /// What is to be least.
    pub goal: Goal,
    /// Settings with a 99th percentile of pauses above this are not chosen, if others are there.
    pub pause_ms_max: Option<f64>,
}

/// A setting and what its runs took.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The setting.
    pub setting: Setting,
    /// The run of least CPU time, with the longest pauses and the most refusals of all its runs: a
    /// pause that was too long once is too long.
    pub measured: Measured,
    /// How many runs there were.
    pub runs: usize,
    /// Whether no other trial is at least as good in CPU, memory and pauses, and better in one.
    pub on_front: bool,
}

/// All trials.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// What was to be least.
    pub goal: Goal,
    /// In order of the goal, best first.
    pub trials: Vec<Trial>,
    /// Settings without a result, and why.
    pub failed: Vec<(Setting, String)>,
    /// Runs that were made.
    pub runs: usize,
}

/// Searches with `run`, which is called at most `options.runs` times.
///
/// # Errors
/// The last run's, if no run succeeded.
pub fn search(
    options: Options,
    mut run: impl FnMut(&Setting) -> Result<Measured, RunError>,
) -> Result<Results, RunError> {
    let mut results =
        Results { goal: options.goal, trials: Vec::new(), failed: Vec::new(), runs: 0 };
    let mut last_error = None;
    let mut try_one = |results: &mut Results, setting: Setting| {
        if results.runs == options.runs {
            return;
        }
        results.runs += 1;
        match run(&setting) {
            Ok(measured) => add(results, setting, measured, options),
            Err(error) => {
                results.failed.push((setting, error.to_string()));
                last_error = Some(error);
            }
        }
    };
    for collector in COLLECTORS {
        let first = Setting::first(collector, options.goal, options.pause_ms_max);
        try_one(&mut results, first);
    }
    for setting in second_looks(&results.trials, options.goal) {
        try_one(&mut results, setting);
    }
    while results.runs < options.runs * LOOKING_RUNS_OF_TEN / 10 {
        let unknown = |setting: &Setting| {
            results.trials.iter().all(|trial| trial.setting != *setting)
                && results.failed.iter().all(|(failed, _)| failed != setting)
        };
        // From the best on: the first that has a neighbour nobody has tried.
        let next = results
            .trials
            .iter()
            .find_map(|trial| trial.setting.neighbours().into_iter().find(|one| unknown(one)));
        match next {
            Some(setting) => try_one(&mut results, setting),
            None => break,
        }
    }
    for setting in finalists(&results.trials) {
        try_one(&mut results, setting);
    }
    while results.runs < options.runs && !results.trials.is_empty() {
        let leading = results.trials.iter().take(2).min_by_key(|trial| trial.runs);
        match leading.map(|trial| trial.setting.clone()) {
            Some(setting) => try_one(&mut results, setting),
            None => break,
        }
    }
    if results.trials.is_empty() {
        return Err(last_error.unwrap_or(RunError::Silent));
    }
    mark_front(&mut results.trials);
    Ok(results)
}

/// The settings behind the first that may only have had an unlucky run. The last of the first round
/// comes first: it uses most memory, and where the machine takes free memory away, what a run has
/// just used is what the next one gets fast.
fn second_looks(trials: &[Trial], goal: Goal) -> Vec<Setting> {
    let value = |trial: &Trial| value(goal, &trial.measured);
    let Some((first, others)) = trials.split_first() else { return Vec::new() };
    let near = others.iter().filter(|trial| value(trial) <= value(first) * SECOND_LOOK_RATIO);
    let mut looks: Vec<_> = near.take(SECOND_LOOKS).map(|trial| trial.setting.clone()).collect();
    looks.sort_by_key(|one| Reverse(COLLECTORS.iter().position(|name| *name == one.collector)));
    looks
}

/// What is to be least.
fn value(goal: Goal, one: &Measured) -> f64 {
    match goal {
        Goal::Cpu => one.cpu_s,
        Goal::Memory => one.peak_rss_kb as f64,
        Goal::Pause => one.pause_ms_p99,
    }
}

/// The first few, and the best of another collector if they are all of one: its only run may have
/// been an unlucky one, after which nobody looked at it again.
fn finalists(trials: &[Trial]) -> Vec<Setting> {
    let (first, others) = trials.split_at(trials.len().min(FINALISTS));
    let is_first =
        |trial: &&Trial| first.iter().any(|one| one.setting.collector == trial.setting.collector);
    let has_others =
        first.windows(2).any(|two| two[0].setting.collector != two[1].setting.collector);
    let other = others.iter().find(|trial| !is_first(trial)).filter(|_| !has_others);
    first.iter().chain(other).map(|trial| trial.setting.clone()).collect()
}

fn add(results: &mut Results, setting: Setting, measured: Measured, options: Options) {
    match results.trials.iter_mut().find(|trial| trial.setting == setting) {
        Some(trial) => {
            trial.runs += 1;
            let before = trial.measured;
            // Others on the machine only ever add time.
            let least = if measured.cpu_s < before.cpu_s { measured } else { before };
            trial.measured = Measured {
                pause_ms_max: before.pause_ms_max.max(measured.pause_ms_max),
                pause_ms_p99: before.pause_ms_p99.max(measured.pause_ms_p99),
                heap_peak_mib: before.heap_peak_mib.max(measured.heap_peak_mib),
                refusals: before.refusals.max(measured.refusals),
                ..least
            };
        }
        None => results.trials.push(Trial { setting, measured, runs: 1, on_front: false }),
    }
    let too_slow = |one: &Measured| {
        one.refusals > 0 || options.pause_ms_max.is_some_and(|most| one.pause_ms_p99 > most)
    };
    results.trials.sort_by(|a, b| {
        let (a, b) = (&a.measured, &b.measured);
        // Where none keeps the pause, the goal is to come near it.
        let order = if too_slow(a) && too_slow(b) {
            a.refusals.cmp(&b.refusals).then(a.pause_ms_p99.total_cmp(&b.pause_ms_p99))
        } else {
            value(options.goal, a).total_cmp(&value(options.goal, b))
        };
        too_slow(a).cmp(&too_slow(b)).then(order)
    });
}

fn mark_front(trials: &mut [Trial]) {
    let all: Vec<Measured> = trials.iter().map(|trial| trial.measured).collect();
    for trial in trials {
        trial.on_front = !all.iter().any(|other| beats(other, &trial.measured));
    }
}

/// Whether `a` is nowhere worse than `b`, and better somewhere.
fn beats(a: &Measured, b: &Measured) -> bool {
    let pairs = [
        (a.cpu_s, b.cpu_s),
        (a.peak_rss_kb as f64, b.peak_rss_kb as f64),
        (a.pause_ms_p99, b.pause_ms_p99),
    ];
    pairs.iter().all(|(a, b)| a <= b) && pairs.iter().any(|(a, b)| a < b)
}

#[cfg(test)]
mod tests {
    use super::{Goal, Options, Trial, search};
    use crate::run::{Measured, RunError};
    use crate::setting::Setting;

    /// A program whose time falls with the heap and has its least at a nursery of 1 MiB.
    fn program(setting: &Setting) -> Measured {
        let nursery = match setting.nursery_kib {
            0 => 3.0,
            kib => (kib as f64 / 1024.0).log2().abs(),
        };
        Measured {
            time_s: 1.0,
            cpu_s: 1.0 + nursery + 100.0 / setting.growth_percent as f64,
            peak_rss_kb: 1000 * setting.growth_percent as u64,
            pause_ms_max: 20.0,
            pause_ms_p99: if setting.collector == "incremental" { 1.0 } else { 10.0 },
            heap_peak_mib: 1.0,
            collections: 1,
            refusals: 0,
        }
    }

    #[test]
    fn the_best_setting_is_found_within_twenty_runs() {
        let options = Options { runs: 20, goal: Goal::Cpu, pause_ms_max: None };
        let mut runs = 0;
        let results = search(options, |setting| {
            runs += 1;
            Ok(program(setting))
        });
        let results = results.expect("every run succeeds");
        assert_eq!((runs, results.runs), (20, 20));
        let best = &results.trials[0];
        assert_eq!((best.setting.collector, best.setting.nursery_kib), ("generational", 1024));
        assert!(best.measured.cpu_s < 1.05 * (1.0 + 100.0 / 700.0) + 0.2, "{best:?}");
        assert!(best.on_front && best.runs > 1, "what leads is repeated");
        assert!(results.trials.iter().any(|trial| !trial.on_front));
    }

    /// The best of twenty runs where the copying collector's runs, counted from 1, cost what
    /// `cpu_s` says.
    fn best_where_copying_costs(cpu_s: impl Fn(usize, &Setting) -> f64) -> Trial {
        let options = Options { runs: 20, goal: Goal::Cpu, pause_ms_max: None };
        let mut copying = 0;
        let results = search(options, |setting| {
            let mut measured = program(setting);
            if setting.collector == "copying" {
                copying += 1;
                measured.cpu_s = cpu_s(copying, setting);
            }
            Ok(measured)
        });
        results.expect("every run succeeds").trials.remove(0)
    }

    #[test]
    fn one_unlucky_run_does_not_put_a_collector_out() {
        // Half of what all others take at the least, but for the first run: after that it is the
        // best but for the generational ones.
        let best = best_where_copying_costs(|run, _| if run == 1 { 4.0 } else { 0.5 });
        assert_eq!((best.setting.collector, best.measured.cpu_s), ("copying", 0.5));
    }

    #[test]
    fn a_collector_whose_first_run_was_slow_gets_a_second_before_its_neighbours_are_tried() {
        // The best, and better with more memory; but its first run is a slow one.
        let best = best_where_copying_costs(|run, setting| {
            let slow = if run == 1 { 2.0 } else { 1.0 };
            slow * (1.5 + 100.0 / setting.growth_percent as f64)
        });
        assert_eq!((best.setting.collector, best.setting.growth_percent), ("copying", 700));
    }

    #[test]
    fn a_pause_that_is_asked_for_comes_before_the_goal() {
        let options = Options { runs: 12, goal: Goal::Cpu, pause_ms_max: Some(5.0) };
        let results = search(options, |setting| Ok(program(setting))).expect("succeeds");
        assert_eq!(results.trials[0].setting.collector, "incremental");
    }

    #[test]
    fn where_no_setting_keeps_the_pause_the_shortest_pause_is_chosen() {
        let options = Options { runs: 12, goal: Goal::Cpu, pause_ms_max: Some(0.1) };
        let results = search(options, |setting| Ok(program(setting))).expect("succeeds");
        assert_eq!(results.trials[0].setting.collector, "incremental");
        assert!(results.trials.iter().any(|trial| trial.setting.collector != "incremental"));
    }

    #[test]
    fn a_program_that_always_fails_is_an_error() {
        let options = Options { runs: 6, goal: Goal::Cpu, pause_ms_max: None };
        assert!(matches!(search(options, |_| Err(RunError::Silent)), Err(RunError::Silent)));
    }
}

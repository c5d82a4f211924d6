//! A workload under each allocator in turn, round by round.

use super::measure::{AtExit, Runnable, Used};
use super::programs::Tools;
use super::results::Row;
use super::workloads::{Real, What, Workload};
use super::{Options, Results, real, spread};
use crate::statistics::{median, paired_ratio};
use heapwright_compare::Subject;

/// What the rounds of one allocator gave; a failure ends it.
struct Runs {
    used: Vec<Used>,
    at_exit: Option<AtExit>,
    failure: Option<String>,
}

/// Runs `workload` and adds its rows. The first subject is the base; what another prints must be
/// what the base prints.
pub(super) fn run(
    workload: &Workload,
    subjects: &[Subject],
    tools: &Tools,
    options: &Options,
    results: &mut Results,
) {
    let runnable = match runnable(workload, tools) {
        Ok(runnable) => runnable,
        Err(reason) => return results.leave_out(workload.name, "all", reason),
    };
    let mut runs: Vec<Runs> =
        subjects.iter().map(|_| Runs { used: Vec::new(), at_exit: None, failure: None }).collect();
    let mut expected: Option<Vec<u8>> = None;
    for round in 0..options.rounds {
        for turn in 0..subjects.len() {
            // Rotated, so that no allocator always follows the same one. The base is first in
            // the first round, which fixes what is printed.
            let index = (turn + round) % subjects.len();
            let (subject, own) = (&subjects[index], &mut runs[index]);
            if own.failure.is_some() {
                continue;
            }
            match once(workload, &runnable, subject, tools) {
                Ok((_, printed)) if *expected.get_or_insert_with(|| printed.clone()) != printed => {
                    own.failure = Some("it prints something else than under the base".into());
                }
                Ok((used, _)) => own.used.push(used),
                Err(reason) => own.failure = Some(reason),
            }
        }
    }
    for (subject, own) in subjects.iter().zip(&mut runs) {
        if own.failure.is_none() && !is_redis(workload) {
            own.at_exit = runnable.at_exit(subject, tools).ok();
        }
    }
    let Some(base) = runs.first().map(|runs| runs.used.clone()) else { return };
    for (subject, own) in subjects.iter().zip(&runs) {
        match &own.failure {
            Some(reason) => results.leave_out(workload.name, &subject.name, reason.clone()),
            None => results.rows.push(row(workload.name, subject, own, &base)),
        }
    }
}

fn row(workload: &str, subject: &Subject, own: &Runs, base: &[Used]) -> Row {
    let of = |what: fn(&Used) -> f64| own.used.iter().map(what).collect::<Vec<f64>>();
    let against = |what: fn(&Used) -> f64| {
        let base: Vec<f64> = base.iter().map(what).collect();
        Some(paired_ratio(&of(what), &base).0)
    };
    let times = of(|used| used.time_s);
    Row {
        time_s: Some(median(&times)),
        cpu_s: Some(median(&of(|used| used.cpu_s))),
        time_ratio: against(|used| used.time_s),
        cpu_ratio: against(|used| used.cpu_s),
        peak_rss_kb: Some(median(&of(|used| used.peak_rss_kb))),
        peak_ratio: against(|used| used.peak_rss_kb),
        minor_faults: Some(median(&of(|used| used.minor_faults))),
        end_rss_kb: own.at_exit.map(|at_exit| at_exit.rss_kb),
        private_dirty_kb: own.at_exit.map(|at_exit| at_exit.private_dirty_kb),
        spread: Some(spread(&times)),
        ..named(workload, subject)
    }
}

/// A row with nothing but its names.
pub(super) fn named(workload: &str, subject: &Subject) -> Row {
    Row {
        workload: workload.to_owned(),
        subject: subject.name.clone(),
        version: subject.version.clone(),
        origin: subject.origin.clone(),
        ..Row::default()
    }
}

fn runnable(workload: &Workload, tools: &Tools) -> Result<Runnable, String> {
    match &workload.what {
        What::Ours(program, arguments) => Ok(Runnable {
            exe: tools.program(program),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
        }),
        What::Real(real, units) => real::runnable(*real, *units, tools),
    }
}

fn once(
    workload: &Workload,
    runnable: &Runnable,
    subject: &Subject,
    tools: &Tools,
) -> Result<(Used, Vec<u8>), String> {
    match workload.what {
        What::Real(Real::Redis, units) => {
            Ok((real::redis(runnable, units, subject, tools)?, Vec::new()))
        }
        _ => runnable.timed(subject, tools),
    }
}

fn is_redis(workload: &Workload) -> bool {
    matches!(workload.what, What::Real(Real::Redis, _))
}

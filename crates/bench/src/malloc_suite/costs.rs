//! Single costs: latencies, their tail, instructions of a pair, memory of a program that does
//! nothing or has come to rest.

use super::measure::Runnable;
use super::programs::Tools;
use super::results::Row;
use super::rounds::named;
use super::{Options, Results, Size, sparse, spread};
use crate::statistics::median;
use heapwright_compare::Subject;
use std::process::Command;

/// Name, arguments of the program `latency` after the repeats.
const LATENCIES: [(&str, &[&str]); 9] = [
    ("pair-16", &["16"]),
    ("pair-64", &["64"]),
    ("pair-1024", &["1024"]),
    ("fifo-10000x16", &["16", "10000"]),
    ("fifo-10000x64", &["64", "10000"]),
    ("fifo-10000x1024", &["1024", "10000"]),
    ("random-10000x16", &["16", "10000", "random"]),
    ("random-10000x64", &["64", "10000", "random"]),
    ("random-10000x1024", &["1024", "10000", "random"]),
];

/// Runs of the program that does nothing; the least counts, since the kernel's figures wander.
const NOTHING_RUNS: usize = 15;

/// Pairs between which instructions are counted.
const PAIRS: [u32; 2] = [1000, 201_000];

/// Measures all that is asked for and adds the rows.
pub(super) fn run(
    subjects: &[Subject],
    tools: &Tools,
    options: &Options,
    results: &mut Results,
    say: &mut dyn FnMut(&str),
) {
    let repeats = if options.size == Size::Full { "3" } else { "1" };
    for (name, arguments) in LATENCIES.iter().filter(|(name, _)| options.wants(name)) {
        say(name);
        let words = [&[repeats], *arguments].concat();
        rows_of_printed(name, &words, subjects, tools, options, results);
    }
    if options.wants("tail") {
        say("tail");
        let repeats = options.size.units(10).to_string();
        let words = [repeats.as_str(), "0", "1", "each"];
        rows_of_printed("tail", &words, subjects, tools, options, results);
    }
    for how in ["frees", "threads", "churn"] {
        let name = format!("idle-{how}");
        if options.wants(&name) {
            say(&name);
            idle(&name, how, subjects, tools, results);
        }
    }
    sparse::run(subjects, tools, options, results, say);
    if options.wants("nothing") {
        say("nothing");
        nothing(subjects, tools, results);
    }
    for (name, bytes) in [("instructions-64", "64"), ("instructions-1024", "1024")] {
        if options.wants(name) {
            say(name);
            instructions(name, bytes, subjects, tools, results);
        }
    }
}

/// Rows of what the program `latency` prints: one number, or three percentiles.
fn rows_of_printed(
    name: &str,
    arguments: &[&str],
    subjects: &[Subject],
    tools: &Tools,
    options: &Options,
    results: &mut Results,
) {
    let runnable = program("latency", arguments, tools);
    let mut printed: Vec<Result<Vec<Vec<f64>>, String>> =
        subjects.iter().map(|_| Ok(Vec::new())).collect();
    for round in 0..options.rounds {
        for turn in 0..subjects.len() {
            let index = (turn + round) % subjects.len();
            let said = runnable.timed(&subjects[index], tools).map(|(_, said)| said);
            match (&mut printed[index], said) {
                (Ok(rows), Ok(said)) => rows.push(numbers(&String::from_utf8_lossy(&said))),
                (own, Err(reason)) => *own = Err(reason),
                (Err(_), Ok(_)) => {}
            }
        }
    }
    for (subject, own) in subjects.iter().zip(printed) {
        let rounds = match own {
            Ok(rounds) => rounds,
            Err(reason) => {
                results.leave_out(name, &subject.name, reason);
                continue;
            }
        };
        let column = |index: usize| {
            rounds.iter().filter_map(|row| row.get(index).copied()).collect::<Vec<f64>>()
        };
        let first = column(0);
        let mut row = Row { spread: Some(spread(&first)), ..named(name, subject) };
        if rounds.iter().all(|row| row.len() == 1) {
            row.ns_per_op = Some(median(&first));
        } else {
            row.ns_p50 = Some(median(&first));
            row.ns_p99 = Some(median(&column(1)));
            row.ns_p999 = Some(median(&column(2)));
        }
        results.rows.push(row);
    }
}

fn nothing(subjects: &[Subject], tools: &Tools, results: &mut Results) {
    let runnable = program("nothing", &[], tools);
    for subject in subjects {
        let runs: Result<Vec<_>, String> =
            (0..NOTHING_RUNS).map(|_| runnable.at_exit(subject, tools)).collect();
        match runs {
            Ok(runs) => {
                let least = |of: fn(&super::measure::AtExit) -> f64| {
                    runs.iter().map(of).fold(f64::INFINITY, f64::min)
                };
                results.rows.push(Row {
                    end_rss_kb: Some(least(|run| run.rss_kb)),
                    private_dirty_kb: Some(least(|run| run.private_dirty_kb)),
                    ..named("nothing", subject)
                });
            }
            Err(reason) => results.leave_out("nothing", &subject.name, reason),
        }
    }
}

/// What is resident after a second and a half without a call, beside what is live.
fn idle(name: &str, how: &str, subjects: &[Subject], tools: &Tools, results: &mut Results) {
    let runnable = program("idle", &["1", how], tools);
    for subject in subjects {
        let said = runnable.timed(subject, tools);
        match said.map(|(_, said)| numbers(&String::from_utf8_lossy(&said))).as_deref() {
            Ok([live_kb, resident_kb, _]) => results.rows.push(Row {
                live_kb: Some(*live_kb),
                end_rss_kb: Some(*resident_kb),
                ..named(name, subject)
            }),
            Ok(_) => results.leave_out(name, &subject.name, "it printed no figures".to_owned()),
            Err(reason) => results.leave_out(name, &subject.name, reason.clone()),
        }
    }
}

/// Instructions of a malloc and free of `bytes`, the loop's own included (five or so), by
/// valgrind's count.
fn instructions(
    name: &str,
    bytes: &str,
    subjects: &[Subject],
    tools: &Tools,
    results: &mut Results,
) {
    for subject in subjects {
        let counts: Result<Vec<f64>, String> =
            PAIRS.iter().map(|pairs| counted(&pairs.to_string(), bytes, subject, tools)).collect();
        match counts.as_deref() {
            // A program that ends early executes as few either way.
            Ok([few, many]) if many - few < f64::from(PAIRS[1] - PAIRS[0]) => {
                let reason = "the program does not run under valgrind".to_owned();
                results.leave_out(name, &subject.name, reason);
            }
            Ok([few, many]) => {
                let pairs = f64::from(PAIRS[1] - PAIRS[0]);
                let instructions = Some((many - few) / pairs);
                results.rows.push(Row { instructions, ..named(name, subject) });
            }
            Ok(_) => {}
            Err(reason) => results.leave_out(name, &subject.name, reason.clone()),
        }
    }
}

fn counted(pairs: &str, bytes: &str, subject: &Subject, tools: &Tools) -> Result<f64, String> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(tools.program("hot")).args([pairs, bytes]).current_dir(tools.directory());
    if let Ok(Some(object)) = &subject.object {
        command.env("LD_PRELOAD", object.path());
    }
    let output = command.output().map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let count = said.lines().find_map(|line| line.split_once("Collected : "));
    let count = count.and_then(|(_, count)| count.trim().parse().ok());
    count.ok_or_else(|| format!("valgrind: {}", output.status))
}

pub(super) fn program(name: &str, arguments: &[&str], tools: &Tools) -> Runnable {
    Runnable {
        exe: tools.program(name),
        arguments: arguments.iter().map(Into::into).collect(),
        environment: Vec::new(),
    }
}

pub(super) fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

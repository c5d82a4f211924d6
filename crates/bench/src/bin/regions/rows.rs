//! Rounds, medians, and how rows are printed.

use std::collections::HashMap;
use std::env;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::Instant;

use heapwright_launch::Machine;
use heapwright_os::cycle_counter;
use serde_json::{Map, Value, json};

use super::measure::{Latency, Probe, Process, Subject, Workload};

const ROUNDS: usize = 7;
const ROUNDS_QUICK: usize = 3;
/// A quick run does one in so many operations.
const QUICK_SHARE: usize = 8;
const LATENCY_COUNT: usize = 200_000;
/// Counts whose difference callgrind is asked about.
const INSTRUCTION_COUNTS: [usize; 2] = [20_000, 40_000];

/// What the command line asks for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) json: bool,
    pub(crate) quick: bool,
    pub(crate) instructions: bool,
    pub(crate) only: Option<String>,
    pub(crate) against: Option<Vec<String>>,
}

impl Options {
    pub(crate) fn wants(&self, workload: &str, subject: &str) -> bool {
        let is_peer = subject != "heapwright" && subject != "floor";
        self.only.as_ref().is_none_or(|only| workload.contains(only.as_str()))
            && (!is_peer
                || self.against.as_ref().is_none_or(|list| list.iter().any(|one| one == subject)))
    }
}

/// A row: its fields in the order of printing.
pub(crate) type Row = Map<String, Value>;

/// The version of a package in this build.
pub(crate) fn version(package: &str) -> Option<&'static str> {
    static VERSIONS: OnceLock<HashMap<&str, &str>> = OnceLock::new();
    let lock = include_str!("../../../../../Cargo.lock");
    let versions = VERSIONS.get_or_init(|| {
        let field = |text: &'static str, name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(value.trim().trim_matches('"'))
        };
        let packages = lock.split("[[package]]");
        packages
            .filter_map(|one| Some((field(one, "name = ")?, field(one, "version = ")?)))
            .collect()
    });
    versions.get(package).copied()
}

/// Cycles of the counter in a nanosecond.
fn cycles_per_ns() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (start, cycles) = (Instant::now(), cycle_counter());
        while start.elapsed().as_millis() < 20 {
            std::hint::spin_loop();
        }
        (cycle_counter() - cycles) as f64 / start.elapsed().as_nanos() as f64
    })
}

/// What the counter itself takes between two readings.
fn cycles_of_nothing() -> u32 {
    let mut probe = Probe::<Latency>::new(10_000, 0);
    probe.each(|_| {});
    let mut samples = probe.samples;
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or(0)
}

/// What so many of an operation's runs in a thousand took at most, with the names of the fields.
const PERCENTILES: [(&str, usize); 3] = [("ns_p50", 500), ("ns_p99", 990), ("ns_p999", 999)];

/// Nanoseconds an operation of `subject`, in one run of `count`.
fn time(workload: &Workload, subject: &Subject, count: usize) -> f64 {
    if workload.process == Process::Fresh {
        let [ns] = in_fresh_process("--run-once", workload, subject, count);
        return ns;
    }
    let mut probe = Probe::new(count, 0);
    (subject.time)(&mut probe);
    probe.elapsed.as_secs_f64() * 1e9 / count as f64
}

/// [`latencies`] in one run of `subject`, wherever that has to be.
fn noted(workload: &Workload, subject: &Subject, count: usize, counter_cycles: u32) -> [f64; 3] {
    match workload.process {
        Process::Shared => latencies(subject, count, counter_cycles),
        Process::Fresh => in_fresh_process("--note-once", workload, subject, count),
    }
}

/// The numbers that this program prints when it is asked by `flag` for one run of `subject`.
fn in_fresh_process<const N: usize>(
    flag: &str,
    workload: &Workload,
    subject: &Subject,
    count: usize,
) -> [f64; N] {
    let output = Command::new(env::current_exe().expect("this program's file"))
        .args([flag, workload.name, &name_of(subject), &count.to_string()])
        .output()
        .expect("this program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let numbers: Vec<f64> =
        text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    numbers.try_into().expect("as many numbers as were asked for")
}

/// A subject's name on the command line.
fn name_of(subject: &Subject) -> String {
    format!("{}{}", subject.name, subject.variant)
}

/// Nanoseconds of each of [`PERCENTILES`] in one run of `subject`.
fn latencies(subject: &Subject, count: usize, counter_cycles: u32) -> [f64; 3] {
    let mut probe = Probe::new(count, counter_cycles);
    (subject.latency)(&mut probe);
    let mut samples = probe.samples;
    samples.sort_unstable();
    PERCENTILES.map(|(_, thousandths)| {
        let cycles = samples.get(samples.len() * thousandths / 1000).copied().unwrap_or(0);
        f64::from(cycles) / cycles_per_ns()
    })
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Each of `count` subjects once, a different one first in each round: whoever comes first meets
/// memory that the host of a virtual machine took back meanwhile, whoever follows what was left.
fn in_turn(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| (round + place) % count)
}

/// All rows that are wanted.
pub(crate) fn measure(workloads: &[Workload], options: &Options) -> Vec<Row> {
    let nothing = cycles_of_nothing();
    let mut rows = Vec::new();
    for workload in workloads {
        let wanted = |one: &&Subject| options.wants(workload.name, one.name);
        let subjects: Vec<&Subject> = workload.subjects.iter().filter(wanted).collect();
        if subjects.is_empty() {
            continue;
        }
        eprintln!("{}: {} subjects", workload.name, subjects.len());
        let (rounds, noted_rounds, count) = match options.quick {
            true => (ROUNDS_QUICK, 1, workload.count / QUICK_SHARE),
            false => (ROUNDS, ROUNDS, workload.count),
        };
        let mut times = vec![Vec::new(); subjects.len()];
        for round in 0..rounds {
            for index in in_turn(round, subjects.len()) {
                times[index].push(time(workload, subjects[index], count));
            }
        }
        let mut tails = vec![[const { Vec::new() }; 3]; subjects.len()];
        for round in 0..noted_rounds {
            for index in in_turn(round, subjects.len()) {
                let seen = noted(workload, subjects[index], LATENCY_COUNT.min(count), nothing);
                tails[index].iter_mut().zip(seen).for_each(|(all, one)| all.push(one));
            }
        }
        for ((subject, times), tails) in subjects.iter().zip(&mut times).zip(&mut tails) {
            let median_ns = median(times);
            let spread = (times[times.len() - 1] - times[0]) / median_ns;
            let mut row = Row::new();
            row.insert("workload".into(), workload.name.into());
            row.insert("subject".into(), subject.name.into());
            row.insert("version".into(), version(subject.package).into());
            row.insert("origin".into(), origin(subject).into());
            row.insert("variant".into(), subject.variant.into());
            row.insert("ns_per_op".into(), rounded(median_ns));
            row.insert("ns_min".into(), rounded(times[0]));
            for ((field, _), all) in PERCENTILES.iter().zip(tails) {
                row.insert((*field).into(), rounded(median(all)));
            }
            if options.instructions {
                row.insert("instructions".into(), instructions(workload, subject).into());
            }
            row.insert("spread".into(), rounded(spread));
            rows.push(row);
        }
    }
    rows
}

fn origin(subject: &Subject) -> &'static str {
    match subject.name {
        "heapwright" => "this build",
        "floor" => "written by hand",
        "malloc" => "the system",
        _ => "crates.io",
    }
}

fn rounded(number: f64) -> Value {
    json!((number * 100.0).round() / 100.0)
}

/// Instructions an operation, loop included, by callgrind, if it is installed.
fn instructions(workload: &Workload, subject: &Subject) -> Option<f64> {
    let collected = |count: usize| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe().ok()?)
            .args(["--run-once", workload.name, &name_of(subject), &count.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stderr).ok()?;
        text.split("Collected :").nth(1)?.split_whitespace().next()?.parse::<u64>().ok()
    };
    let [less, more] = INSTRUCTION_COUNTS;
    let count = collected(more)? as f64 - collected(less)? as f64;
    Some((count / (more - less) as f64 * 10.0).round() / 10.0)
}

/// Runs one subject once and prints its nanoseconds an operation, or with `--note-once` those of
/// each of [`PERCENTILES`]: for rounds in processes of their own, callgrind and profilers.
pub(crate) fn run_once(
    workloads: &[Workload],
    flag: &str,
    [workload, subject, count]: [&str; 3],
) -> ExitCode {
    let workload = workloads.iter().find(|one| one.name == workload);
    let is_meant = |one: &&Subject| name_of(one) == subject;
    let subject = workload.and_then(|one| one.subjects.iter().find(is_meant));
    let (Some(subject), Ok(count)) = (subject, count.parse::<usize>()) else {
        eprintln!("heapwright-bench-regions: no such workload, subject or count");
        return ExitCode::from(125);
    };
    if flag == "--note-once" {
        let [p50, p99, p999] = latencies(subject, count, cycles_of_nothing());
        println!("{p50} {p99} {p999}");
    } else {
        let mut probe = Probe::new(count, 0);
        (subject.time)(&mut probe);
        println!("{}", probe.elapsed.as_secs_f64() * 1e9 / count as f64);
    }
    ExitCode::SUCCESS
}

fn machine() -> Value {
    let machine = Machine::this();
    json!({ "cpu": machine.cpu, "cpus": machine.cpus, "kernel": machine.kernel })
}

/// Rows as a table, or as one JSON object.
pub(crate) fn print(suite: &str, rows: &[Row], options: &Options) {
    if options.json {
        println!("{}", json!({ "suite": suite, "machine": machine(), "rows": rows }));
        return;
    }
    let mut last = "";
    for row in rows {
        let workload = row["workload"].as_str().unwrap_or_default();
        if workload != last {
            println!("\n{workload}");
            last = workload;
        }
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = [text("subject"), text("variant")].join(" ");
        print!("  {name:<28} {:<8}", text("version"));
        for (field, value) in row {
            if value.is_number() {
                print!(" {field} {:<9}", value.to_string());
            }
        }
        println!();
    }
}

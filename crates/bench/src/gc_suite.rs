//! The collectors' suite: four workloads on each of ours, on malloc and on other collectors, each
//! cell in a process of its own, alternating.
//!
//! Question: where is a collector worth its memory and its pauses, and which one? Expected: young
//! death (gcbench, binary_trees) favours generational over malloc; a large live set (graph) and
//! old objects that die at random (lru) favour malloc, and incremental for pauses.

use crate::statistics::median;
use heapwright_launch::{Machine, Running};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The workloads, in the order of the table.
pub const WORKLOADS: [&str; 4] = ["gcbench", "binary_trees", "graph", "lru"];
/// Our collectors.
pub const COLLECTORS: [&str; 5] =
    ["generational", "mark_sweep", "mark_compact", "copying", "incremental"];
/// The workload that is also written with handles.
const HANDLES_WORKLOAD: &str = "gcbench";
/// Everything else; those that are not here are named as missing.
pub const PEERS: [&str; 9] = [
    "malloc",
    "boehm",
    "gc-arena",
    "dumpster",
    "rust-cc",
    "boa_gc",
    "jvm-serial",
    "jvm-g1",
    "jvm-zgc",
];
/// The workload's operations in Java.
const JAVA: &str = include_str!("bin/gc/Bench.java");

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// `heapwright-bench-gc`, which runs the cells.
    pub cells: PathBuf,
    /// Runs of each cell.
    pub rounds: usize,
    /// `full`, `quick` or `test`.
    pub scale: &'static str,
    /// One workload only.
    pub only: Option<String>,
    /// These subjects besides ours and malloc; all when empty.
    pub against: Vec<String>,
    /// Where Java's classes may be written.
    pub directory: PathBuf,
}

/// The share of any window that was left to the mutator, by window in milliseconds.
pub type Utilisation = BTreeMap<String, f64>;

/// Pauses in milliseconds of CPU of the heap's thread.
#[derive(Clone, Debug, Serialize)]
pub struct Pauses {
    /// Half of the pauses do not exceed this.
    pub p50: f64,
    /// 99 % of the pauses do not exceed this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// One cell: medians of times and memory; collections, pauses and utilisation of one of its runs.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// One of [`WORKLOADS`].
    pub workload: String,
    /// `heapwright`, `malloc` or a peer.
    pub subject: String,
    /// The subject's version.
    pub version: String,
    /// Where it comes from.
    pub origin: &'static str,
    /// Our collector, or empty.
    pub variant: String,
    /// Wall time in seconds.
    pub time_s: f64,
    /// CPU time in seconds, all threads.
    pub cpu_s: f64,
    /// What the process took besides the workload, where that counts: a JVM's start and end. Not
    /// in the times above.
    pub start_s: Option<f64>,
    /// Slowest over fastest run, minus 1.
    pub spread: f64,
    /// Largest resident set.
    pub peak_rss_kb: u64,
    /// Resident set at the end.
    pub end_rss_kb: u64,
    /// Collections, where the subject counts them.
    pub collections: Option<u64>,
    /// Pauses, where the subject tells them.
    pub pause_ms: Option<Pauses>,
    /// As `pause_ms`, of minor collections alone.
    pub minor_pause_ms: Option<Pauses>,
    /// What the last full collection left, with the holes that it cannot give out, in MiB.
    pub live_mb: Option<f64>,
    /// Longest time between two ticks of the mutator.
    pub gap_ms_max: f64,
    /// Minimum mutator utilisation.
    pub mmu: Option<Utilisation>,
    /// Time over that of malloc on the same workload.
    pub malloc_ratio: Option<f64>,
    checksum: u64,
}

/// All rows, and what could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Always `gc`.
    pub suite: &'static str,
    /// CPU, kernel.
    pub machine: String,
    /// The scale of the workloads.
    pub scale: &'static str,
    /// One for each cell.
    pub rows: Vec<Row>,
    /// Cells without a result, and why.
    pub missing: Vec<(String, String)>,
}

/// Runs the suite; `say` gets a line of progress for each run.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Results {
    let mut results = Results {
        suite: "gc",
        machine: machine(),
        scale: options.scale,
        rows: Vec::new(),
        missing: Vec::new(),
    };
    let java = compile_java(&options.directory);
    for workload in WORKLOADS {
        if options.only.as_deref().is_some_and(|only| only != workload) {
            continue;
        }
        let ours = COLLECTORS.map(|collector| ("heapwright", collector));
        // The interface for programs that never leave a mutation, on the default collector.
        let handles = (workload == HANDLES_WORKLOAD).then_some(("handles", COLLECTORS[0]));
        let peers = PEERS.into_iter().filter(|peer| {
            *peer == "malloc"
                || options.against.is_empty()
                || options.against.iter().any(|name| name == peer)
        });
        let cells: Vec<_> =
            ours.into_iter().chain(handles).chain(peers.map(|peer| (peer, ""))).collect();
        let mut runs: Vec<Vec<Value>> = vec![Vec::new(); cells.len()];
        for round in 0..options.rounds {
            for step in 0..cells.len() {
                // There and back: what a process finds of the machine's memory is what the one
                // before it gave back.
                let at = if round % 2 == 0 { step } else { cells.len() - 1 - step };
                let ((subject, variant), runs) = (cells[at], &mut runs[at]);
                let name = format!("{workload} {subject} {variant}");
                let name = name.trim_end();
                if results.missing.iter().any(|(missing, _)| missing == name) {
                    continue;
                }
                let begin = Instant::now();
                let result = match subject.strip_prefix("jvm-") {
                    Some(collector) => java
                        .as_deref()
                        .map_err(Clone::clone)
                        .and_then(|classes| on_jvm(classes, workload, collector, options.scale)),
                    None => on_cell(options, workload, subject, variant),
                };
                match result {
                    Ok(run) => {
                        say(&format!("{name}: {:.1} s", begin.elapsed().as_secs_f64()));
                        runs.push(run);
                    }
                    Err(reason) => results.missing.push((name.to_owned(), reason)),
                }
            }
        }
        let first = results.rows.len();
        for ((subject, variant), runs) in cells.iter().zip(&runs) {
            if !runs.is_empty() {
                results.rows.push(row(workload, subject, variant, runs));
            }
            if runs.iter().any(|run| run["checksum"] != runs[0]["checksum"]) {
                let name = format!("{workload} {subject} {variant}");
                results.missing.push((name, "its checksum differs between rounds".into()));
            }
        }
        compare(&mut results.rows[first..], &mut results.missing);
    }
    results
}

/// Fills in the ratios, and notes subjects that did not do the same.
fn compare(rows: &mut [Row], missing: &mut Vec<(String, String)>) {
    let malloc = rows.iter().find(|row| row.subject == "malloc");
    let Some((time_s, checksum)) = malloc.map(|row| (row.time_s, row.checksum)) else { return };
    for row in rows {
        row.malloc_ratio = Some(row.time_s / time_s);
        if row.checksum != checksum {
            let name = format!("{} {} {}", row.workload, row.subject, row.variant);
            missing.push((name, "its checksum is another".into()));
        }
    }
}

fn row(workload: &str, subject: &str, variant: &str, runs: &[Value]) -> Row {
    let all =
        |field: &str| -> Vec<f64> { runs.iter().filter_map(|run| run[field].as_f64()).collect() };
    let middle = |field: &str| match all(field) {
        values if values.is_empty() => 0.0,
        values => median(&values),
    };
    let times = all("time_s");
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    let most = times.iter().copied().fold(0.0, f64::max);
    let run = &runs[runs.len() / 2];
    let pauses = |field: &str| {
        let pause = |name: &str| run[field][name].as_f64();
        Some(Pauses { p50: pause("p50")?, p99: pause("p99")?, max: pause("max")? })
    };
    let (version, origin) = origin(subject);
    Row {
        workload: workload.to_owned(),
        subject: subject.to_owned(),
        version: run["version"].as_str().unwrap_or(version).to_owned(),
        origin,
        variant: variant.to_owned(),
        time_s: middle("time_s"),
        cpu_s: middle("cpu_s"),
        start_s: run["start_s"].as_f64(),
        spread: most / least - 1.0,
        peak_rss_kb: middle("peak_rss_kb") as u64,
        end_rss_kb: middle("end_rss_kb") as u64,
        collections: run["collections"].as_u64(),
        pause_ms: pauses("pause_ms"),
        minor_pause_ms: pauses("minor_pause_ms"),
        live_mb: run["live_mb"].as_f64(),
        gap_ms_max: middle("gap_ms_max"),
        mmu: serde_json::from_value(run["mmu"].clone()).ok(),
        malloc_ratio: None,
        checksum: run["checksum"].as_u64().unwrap_or(0),
    }
}

fn origin(subject: &str) -> (&'static str, &'static str) {
    match subject {
        "heapwright" | "handles" => (env!("CARGO_PKG_VERSION"), "this workspace"),
        "malloc" => ("", "the system's C library"),
        "boehm" => ("", "libgc.so.1 of the system"),
        "gc-arena" => {
            ("0.7", "crates.io; trees with its stop-the-world pacing, the graph with its default")
        }
        "dumpster" => ("2.1", "crates.io"),
        "rust-cc" => ("0.6", "crates.io"),
        "boa_gc" => ("0.22", "crates.io"),
        _ => ("", "java of the path"),
    }
}

/// Our settings for a workload: what gives a heap of about three times the live bytes, as the
/// JVM's is fixed to; or less, where that is asked.
fn settings(workload: &str, collector: &str) -> &'static [&'static str] {
    match (workload, collector) {
        ("gcbench", _) => &["limit=195m", "growth=300", "trigger=32m"],
        ("binary_trees", _) => &["growth=300", "trigger=32m"],
        // For memory of at most 1.6 times what is live.
        ("graph", _) => &["growth=160"],
        // Twice the 113 MiB that are live. The copies alone are as much, and what is allocated
        // while a cycle in slices runs is more.
        ("lru", "copying" | "incremental") => &[],
        ("lru", _) => &["limit=226m"],
        _ => &[],
    }
}

fn on_cell(
    options: &Options,
    workload: &str,
    subject: &str,
    variant: &str,
) -> Result<Value, String> {
    let mut command = Command::new(&options.cells);
    command.args(["cell", workload, subject, variant, options.scale]);
    if matches!(subject, "heapwright" | "handles") && options.scale == "full" {
        command.args(settings(workload, variant));
    }
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(message.lines().next().unwrap_or("failed").to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn compile_java(directory: &Path) -> Result<PathBuf, String> {
    let source = directory.join("Bench.java");
    fs::write(&source, JAVA).map_err(|error| error.to_string())?;
    let compiled = Command::new("javac").arg("-d").arg(directory).arg(&source).output();
    match compiled {
        Ok(output) if output.status.success() => Ok(directory.to_owned()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(_) => Err("no javac here".into()),
    }
}

fn on_jvm(classes: &Path, workload: &str, collector: &str, scale: &str) -> Result<Value, String> {
    // Three times the smallest heap that runs the full workload.
    let (size, megabytes) = match (workload, scale) {
        ("gcbench", "full") => (18, 195),
        ("gcbench", "quick") => (16, 64),
        ("binary_trees", "full") => (18, 81),
        ("binary_trees", "quick") => (14, 64),
        ("graph", "full") => (8 << 20, 1860),
        ("graph", "quick") => (1 << 20, 240),
        ("lru", "full") => (500_000, 351),
        ("lru", "quick") => (62_500, 64),
        ("graph", _) => (8 << 10, 64),
        ("lru", _) => (2_000, 64),
        _ => (8, 64),
    };
    let option = match collector {
        "serial" => "-XX:+UseSerialGC",
        "g1" => "-XX:+UseG1GC",
        _ => "-XX:+UseZGC",
    };
    let memory = [format!("-Xms{megabytes}m"), format!("-Xmx{megabytes}m")];
    let mut command = Command::new("java");
    command.arg(option).args(memory).arg("-cp").arg(classes);
    command.args(["Bench", workload, &size.to_string()]).stdout(Stdio::piped());
    let mut running = Running::start_in_our_group(&mut command).map_err(|e| e.to_string())?;
    let mut text = String::new();
    if let Some(mut stdout) = running.take_stdout() {
        stdout.read_to_string(&mut text).map_err(|error| error.to_string())?;
    }
    let ended = running.wait().map_err(|error| error.to_string())?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [sum, seconds, cpu, gap, collections] = words[..] else {
        return Err(format!("java: {}", ended.status));
    };
    let sum: i64 = sum.parse().map_err(|_| "no checksum".to_owned())?;
    // The times are those of the workload, measured inside as all others are: without the start
    // of the machine, with what its compiler needs meanwhile.
    let number = |word: &str| word.parse::<f64>().unwrap_or(0.0);
    Ok(serde_json::json!({
        "checksum": sum as u64,
        "time_s": number(seconds),
        "cpu_s": number(cpu),
        "start_s": ended.wall.as_secs_f64() - number(seconds),
        "peak_rss_kb": ended.usage.peak_rss_bytes >> 10,
        "gap_ms_max": number(gap),
        "collections": collections.parse::<u64>().ok(),
        "version": "java",
    }))
}

fn machine() -> String {
    let Machine { cpu, cpus, kernel, .. } = Machine::this();
    format!("{cpus} x {cpu}, Linux {kernel}")
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; scale {}", self.machine, self.scale)?;
        writeln!(
            f,
            "| workload | subject | time s | x malloc | spread | CPU s | peak MB | collections | \
             pause p50/p99/max ms | gap ms | left in 20 ms |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for row in &self.rows {
            let pause = row.pause_ms.as_ref().map_or(String::new(), |pause| {
                format!("{:.2} / {:.2} / {:.2}", pause.p50, pause.p99, pause.max)
            });
            let left = row.mmu.as_ref().and_then(|mmu| mmu.get("20"));
            writeln!(
                f,
                "| {} | {} {} | {:.3} | {:.2} | {:.0} % | {:.3} | {} | {} | {pause} | {:.1} | {} |",
                row.workload,
                row.subject,
                row.variant,
                row.time_s,
                row.malloc_ratio.unwrap_or(f64::NAN),
                row.spread * 100.0,
                row.cpu_s,
                row.peak_rss_kb >> 10,
                row.collections.map_or(String::new(), |count| count.to_string()),
                row.gap_ms_max,
                left.map_or(String::new(), |left| format!("{:.0} %", left * 100.0)),
            )?;
        }
        for (name, reason) in &self.missing {
            writeln!(f, "- not measured: {name}: {reason}")?;
        }
        let losses = self.rows.iter().filter(|row| {
            row.subject == "heapwright" && row.malloc_ratio.is_some_and(|ratio| ratio > 1.0)
        });
        for row in losses {
            let ratio = row.malloc_ratio.unwrap_or(f64::NAN);
            writeln!(f, "- Loss: {} {} takes {ratio:.2} x malloc.", row.workload, row.variant)?;
        }
        Ok(())
    }
}

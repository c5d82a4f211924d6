//! What the collectors are asked to reach, each figure beside what this build gives.
//!
//! `heapwright-bench-gc figures [--rounds N] [--pairs N] [--only PART] [--without DIRECTORY]`
//!
//! `DIRECTORY/WHAT/release` has this program built with `--cfg heapwright_gc_without="WHAT"`; see
//! `design/gc.md`, *Barrier*, for what has to be left out for which. `cargo xtask bench gc-figures`
//! builds them and runs this.

use crate::tune;
use crate::turns::in_turn;
use crate::workload::{Graph, Scale};
use heapwright_bench::gc_suite::{self, Options, Results, Row};
use heapwright_bench::in_directory;
use heapwright_bench::statistics::{median, paired_ratio};
use heapwright_launch::Running;
use serde_json::Value;
use std::env;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PARTS: [&str; 7] = ["gcbench", "graph", "lru", "slices", "barrier", "prefetch", "tuner"];
/// A heap that never collects: a build without the barrier is unsound otherwise.
const NEVER: [&str; 3] = ["nursery=3g", "limit=16g", "trigger=16g"];

/// The table, line by line.
struct Figures {
    rounds: usize,
    pairs: usize,
    without: PathBuf,
    text: String,
}

/// Runs the parts that are asked for; returns the table.
pub fn run(words: &[String]) -> Result<String, String> {
    let me = env::current_exe().map_err(|error| error.to_string())?;
    let without = me.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let mut figures = Figures {
        rounds: 5,
        pairs: 15,
        without: without.join("gc-without"),
        text: String::from("| figure | asked | measured | holds |\n|---|--:|--:|---|\n"),
    };
    let mut only = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{word} needs a number"));
        match word.as_str() {
            "--rounds" => figures.rounds = number()?,
            "--pairs" => figures.pairs = number()?,
            "--without" => figures.without = value.into(),
            "--only" if PARTS.contains(&value.as_str()) => only = Some(value.as_str()),
            "--only" => return Err(format!("no part `{value}`: {}", PARTS.join(", "))),
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    for part in PARTS.into_iter().filter(|part| only.is_none_or(|only| only == *part)) {
        match part {
            "gcbench" => figures.gcbench(&me)?,
            "graph" => figures.graph(&me)?,
            "lru" => figures.lru(&me)?,
            "slices" => figures.slices(&me)?,
            "barrier" => figures.barrier()?,
            "prefetch" => figures.prefetch(&me)?,
            _ => figures.tuner()?,
        }
    }
    Ok(figures.text)
}

impl Figures {
    /// One line; `value` is none where a peer is missing.
    fn at_most(&mut self, figure: &str, most: f64, value: Option<f64>, unit: &str) {
        let found = value.map_or("not measured".to_owned(), |value| format!("{value:.2}{unit}"));
        let holds = value.map_or("", |value| if value <= most { "yes" } else { "NO" });
        // Writing into a `String` cannot fail, here and below.
        let _ = writeln!(self.text, "| {figure} | ≤ {most}{unit} | {found} | {holds} |");
    }

    fn at_least(&mut self, figure: &str, least: f64, value: Option<f64>, unit: &str) {
        let found = value.map_or("not measured".to_owned(), |value| format!("{value:.2}{unit}"));
        let holds = value.map_or("", |value| if value >= least { "yes" } else { "NO" });
        let _ = writeln!(self.text, "| {figure} | ≥ {least}{unit} | {found} | {holds} |");
    }

    /// A workload's rows, beside `peers` and malloc; the suite's table goes to standard error.
    fn suite(&self, me: &Path, workload: &str, peers: &[&str]) -> Result<Results, String> {
        let directory = env::temp_dir().join(format!("heapwright-gc-{}", std::process::id()));
        let options = Options {
            cells: me.to_owned(),
            rounds: self.rounds,
            scale: "full",
            only: Some(workload.to_owned()),
            against: peers.iter().map(|peer| (*peer).to_owned()).collect(),
            directory: directory.clone(),
        };
        let results = in_directory(&directory, || gc_suite::run(&options, &mut |_| {}))?;
        eprintln!("{results}");
        Ok(results)
    }

    fn gcbench(&mut self, me: &Path) -> Result<(), String> {
        let results = self.suite(me, "gcbench", &["boehm", "jvm-serial", "gc-arena"])?;
        let ours = ("heapwright", "generational");
        self.at_most("GCBench, of malloc", 0.35, ratio(&results, ours, "malloc"), "");
        self.at_most("GCBench, of Boehm", 0.35, ratio(&results, ours, "boehm"), "");
        self.at_most("GCBench, of Serial", 0.80, ratio(&results, ours, "jvm-serial"), "");
        let arena = ratio(&results, ours, "gc-arena").map(|ratio| 1.0 / ratio);
        self.at_least("GCBench, faster than gc-arena", 10.0, arena, " x");
        let handles = ratio(&results, ("handles", "generational"), "malloc");
        self.at_most("GCBench by handles, of malloc", 0.55, handles, "");
        for variant in ["mark_sweep", "mark_compact", "copying"] {
            let value = ratio(&results, ("heapwright", variant), "boehm");
            self.at_most(&format!("GCBench, {variant}, of Boehm"), 1.0, value, "");
        }
        self.nursery(&results, true);
        Ok(())
    }

    fn graph(&mut self, me: &Path) -> Result<(), String> {
        let results = self.suite(me, "graph", &["jvm-serial"])?;
        let ours = ("heapwright", "generational");
        self.at_most("graph, of Serial", 1.25, ratio(&results, ours, "jvm-serial"), "");
        // Without the workload's own list of places, four bytes a node, which is in no heap.
        let list_mb = Graph::of(Scale::Full).node_count as f64 * 4.0 / (1 << 20) as f64;
        self.at_most("graph, resident of live", 1.6, resident_of_live(&results, list_mb), "");
        let compact = row(&results, ("heapwright", "mark_compact"));
        let longest = compact.and_then(|row| Some(row.pause_ms.as_ref()?.max));
        self.at_most("graph, full mark-compact, longest", 550.0, longest, " ms");
        self.nursery(&results, false);
        Ok(())
    }

    fn lru(&mut self, me: &Path) -> Result<(), String> {
        let results = self.suite(me, "lru", &["boehm"])?;
        let ours = ("heapwright", "generational");
        self.at_most("LRU, of malloc", 1.8, ratio(&results, ours, "malloc"), "");
        self.at_most("LRU, of Boehm", 0.8, ratio(&results, ours, "boehm"), "");
        self.at_most("LRU, resident of live", 2.0, resident_of_live(&results, 0.0), "");
        self.nursery(&results, false);
        Ok(())
    }

    fn nursery(&mut self, results: &Results, dies_young: bool) {
        let pauses =
            row(results, ("heapwright", "generational")).and_then(|row| row.minor_pause_ms.clone());
        let name = &results.rows[0].workload;
        if dies_young {
            let p50 = pauses.as_ref().map(|pauses| pauses.p50);
            self.at_most(&format!("{name}, nursery pause, p50"), 0.2, p50, " ms");
        }
        let max = pauses.map(|pauses| pauses.max);
        self.at_most(&format!("{name}, nursery pause, longest"), 10.0, max, " ms");
    }

    fn slices(&mut self, me: &Path) -> Result<(), String> {
        const TARGET: &str = "slice_us=5000";
        let (mut p99, mut max, mut left): (f64, f64, f64) = (0.0, 0.0, 1.0);
        let mut times = Vec::new();
        for _ in 0..2 {
            let (run, _) = cell(me, &["graph", "heapwright", "incremental", "full", TARGET])?;
            let pause = |name: &str| run["pause_ms"][name].as_f64().unwrap_or(f64::NAN);
            (p99, max) = (p99.max(pause("p99")), max.max(pause("max")));
            left = left.min(run["mmu"]["20"].as_f64().unwrap_or(f64::NAN));
            times.push(run["time_s"].as_f64().unwrap_or(f64::NAN));
        }
        self.at_most("graph, incremental, target 5 ms: p99 slice", 5.0, Some(p99), " ms");
        self.at_most("its longest slice", 10.0, Some(max), " ms");
        self.at_least("its utilisation over 20 ms", 50.0, Some(left * 100.0), " %");
        let arena = cell(me, &["graph", "gc-arena", "", "full"]).ok();
        let arena = arena.and_then(|(run, _)| run["time_s"].as_f64());
        self.at_most("its time, of gc-arena", 0.6, arena.map(|arena| median(&times) / arena), "");
        // An eighth of the nodes.
        let (run, _) = cell(me, &["graph", "heapwright", "incremental", "quick", TARGET])?;
        let small = run["pause_ms"]["max"].as_f64();
        let more = small.map(|small| (max / small - 1.0) * 100.0);
        self.at_most("largest slice at 8 times the live set, more", 20.0, more, " %");
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), String> {
        for (workload, scale) in
            [("gcbench", "full"), ("binary_trees", "full"), ("lru", "full"), ("graph", "quick")]
        {
            // Trees write no young reference into an old object, so their heaps may collect.
            let settings = match workload {
                "lru" | "graph" => &NEVER[..],
                _ => &["growth=300", "trigger=32m"],
            };
            let words: Vec<&str> = [workload, "heapwright", "generational", scale]
                .into_iter()
                .chain(settings.iter().copied())
                .collect();
            let [with, without] = ["minor", "barrier"].map(|what| self.build(what));
            let (mut with_ns, mut without_ns) = (Vec::new(), Vec::new());
            for _ in 0..self.pairs {
                for [with_one, without_one] in in_turn([&with, &without], &words)? {
                    with_ns.push(with_one);
                    without_ns.push(without_one);
                }
            }
            let (middle, _, _) = paired_ratio(&with_ns, &without_ns);
            let figure = format!("barrier, {workload} ({scale}), CPU, {} turns", with_ns.len());
            self.at_most(&figure, 3.0, Some((middle - 1.0) * 100.0), " %");
        }
        Ok(())
    }

    fn prefetch(&mut self, me: &Path) -> Result<(), String> {
        let without = self.build("prefetch");
        for variant in ["mark_sweep", "mark_compact"] {
            let words = ["web", "heapwright", variant, "full"];
            let full = |program: &Path| {
                let (run, _) = cell(program, &words)?;
                run["full_pause_ms"]["p50"].as_f64().ok_or("no collection".to_owned())
            };
            let (mut with_ms, mut without_ms) = (Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                with_ms.push(full(me)?);
                without_ms.push(full(&without)?);
            }
            let (ratio, _, _) = paired_ratio(&without_ms, &with_ms);
            let figure = format!("marking with prefetch, {variant}, whole collections");
            self.at_least(&figure, 3.0, Some(ratio), " x");
        }
        Ok(())
    }

    fn tuner(&mut self) -> Result<(), String> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        self.text.push_str("\nTuner: CPU against the best of all settings.\n\n");
        self.text += &tune::run(&words("--seeds 4"))?;
        self.text.push_str("\nTuner: a pause target of 5 ms.\n\n");
        self.text += &tune::run(&words("--seeds 1 --pause-ms 5 --search-only"))?;
        Ok(())
    }

    /// This program, built without `what`.
    fn build(&self, what: &str) -> PathBuf {
        self.without.join(what).join("release/heapwright-bench-gc")
    }
}

fn row<'a>(results: &'a Results, (subject, variant): (&str, &str)) -> Option<&'a Row> {
    results.rows.iter().find(|row| row.subject == subject && row.variant == variant)
}

/// Wall time of ours over that of a peer.
fn ratio(results: &Results, ours: (&str, &str), peer: &str) -> Option<f64> {
    Some(row(results, ours)?.time_s / row(results, (peer, ""))?.time_s)
}

/// The generational heap's peak, less `without_mb`, over what mark-compact's last collection left.
fn resident_of_live(results: &Results, without_mb: f64) -> Option<f64> {
    let peak_mb = row(results, ("heapwright", "generational"))?.peak_rss_kb as f64 / 1024.0;
    let live_mb = row(results, ("heapwright", "mark_compact"))?.live_mb?;
    Some((peak_mb - without_mb) / live_mb)
}

/// Runs one cell; what it prints, and its user CPU time in seconds.
fn cell(program: &Path, words: &[&str]) -> Result<(Value, f64), String> {
    let named = |error: std::io::Error| format!("{}: {error}", program.display());
    let mut command = Command::new(program);
    command.arg("cell").args(words).stdout(Stdio::piped());
    let mut run = Running::start(&mut command).map_err(named)?;
    let mut output = run.take_stdout().ok_or("no output")?;
    let mut text = String::new();
    output.read_to_string(&mut text).map_err(named)?;
    let ended = run.wait().map_err(named)?;
    let json = serde_json::from_str(&text).map_err(|error| format!("{words:?}: {error}"))?;
    Ok((json, ended.usage.user.as_secs_f64()))
}

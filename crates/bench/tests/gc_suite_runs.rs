//! The collectors' suite runs once, small, with ours and the system's malloc only.

use heapwright_bench::gc_suite::{COLLECTORS, Options, WORKLOADS, run};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[test]
fn every_collector_does_every_workload_as_malloc_does() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        cells: PathBuf::from(env!("CARGO_BIN_EXE_heapwright-bench-gc")),
        rounds: 1,
        scale: "test",
        only: None,
        against: vec!["malloc".into()],
        directory: directory.path().to_owned(),
    };
    let results = run(&options, &mut |_| {});
    // A checksum that is another is named as missing, too.
    assert!(results.missing.is_empty(), "{:?}", results.missing);
    // One workload is written with handles, too.
    assert_eq!(results.rows.len(), WORKLOADS.len() * (COLLECTORS.len() + 1) + 1);
    for row in &results.rows {
        assert!(row.time_s > 0.0 && row.peak_rss_kb > 0, "{} {}", row.workload, row.subject);
        assert!(row.malloc_ratio.is_some_and(|ratio| ratio > 0.0));
        let is_ours = row.subject != "malloc";
        assert_eq!(row.mmu.as_ref().map_or(0, |mmu| mmu.len()), if is_ours { 5 } else { 0 });
        assert_eq!(row.collections.is_some(), is_ours);
    }
    let json = serde_json::to_value(&results).unwrap();
    assert_eq!(json["suite"], "gc");
    assert!(json["rows"][0]["pause_ms"]["p99"].is_number());
    assert!(results.to_string().contains("| lru | malloc"));
}

#[test]
fn a_cell_that_runs_in_turn_stops_where_it_is_told_and_does_the_same_work() {
    let cell = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heapwright-bench-gc"));
        command.args(["cell", "lru", "heapwright", "generational", "test"]).args(more);
        command
    };
    let checksum =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["checksum"].clone();
    let whole = cell(&[]).output().unwrap();

    let mut child =
        cell(&["turns=1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut commands = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    let mut turn = |command: &str| {
        writeln!(commands, "{command}").unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        line
    };
    for looks in ["1", "3"] {
        let line = turn(looks);
        let (reached, cpu_ns) = line.trim().split_once(' ').unwrap();
        assert_eq!(reached, looks);
        assert!(cpu_ns.parse::<u64>().unwrap() > 0);
    }
    let last = turn("18446744073709551615");
    assert_eq!(checksum(&last), checksum(str::from_utf8(&whole.stdout).unwrap()));
    assert!(child.wait().unwrap().success());

    // Whoever gives the turns may be gone.
    let mut alone = cell(&["turns=1"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(alone.wait().unwrap().code(), Some(1));
}

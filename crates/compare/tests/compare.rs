//! Whole comparisons of tiny programs: figures, sameness, failures, servers, limits.

use heapwright_compare::{
    CompareError, CompareOptions, Comparison, Observer, Row, Subject, compare, write_table,
};
use heapwright_testkit::programs::{compile, compile_with};
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn wasteful() -> Subject {
    let object = compile_with("wasteful_malloc", &["-shared", "-fPIC"]);
    Subject::at_path(&object).expect("a usable object")
}

fn options(program: &Path, arguments: &[&str]) -> CompareOptions {
    let command = std::iter::once(program.into()).chain(arguments.iter().map(OsString::from));
    let mut options = CompareOptions::new(command.collect(), vec![wasteful()]);
    options.rounds = 3;
    options
}

fn row<'a>(comparison: &'a Comparison, name: &str) -> &'a Row {
    comparison.rows.iter().find(|row| row.name == name).expect("the row")
}

#[test]
fn an_allocator_that_wastes_memory_shows_it() {
    let comparison = compare(&options(&compile("workload"), &["300"]), &()).expect("compared");
    assert_eq!((comparison.schema, comparison.rounds, comparison.exit_status), (1, 3, 0));
    assert_eq!(comparison.rows[0].name, "system");
    assert!(comparison.rows[0].version.starts_with("glibc "));
    let row = row(&comparison, "wasteful_malloc");
    assert_eq!((row.failure.as_str(), row.repeats, row.same_output), ("", 3, Some(true)));
    let figures = row.figures.expect("figures");
    assert!(figures.peak_rss_kb.median > 30_000.0, "{}", figures.peak_rss_kb.median);
    assert!(figures.cpu_s.median > 0.0 && figures.wall_s.min <= figures.wall_s.max);
    let peak = row.ratios.and_then(|ratios| ratios.peak_rss).expect("a ratio");
    // Twice the bytes for each block, so well above the noise.
    assert!(peak.low > 1.5 && peak.differs(), "{peak:?}");
    assert!(comparison.notes.is_empty(), "{:?}", comparison.notes);
}

#[test]
fn a_comparison_survives_json() {
    let comparison = compare(&options(&compile("status"), &["0", "text"]), &()).expect("compared");
    let json = serde_json::to_string(&comparison).expect("written");
    let again: Comparison = serde_json::from_str(&json).expect("read");
    assert_eq!(again.rows.len(), 2);
    assert_eq!(again.rows[1].ratios.is_some(), comparison.rows[1].ratios.is_some());
}

#[test]
fn an_allocator_under_which_the_program_crashes_keeps_its_row() {
    let program = compile("dislikes_preload");
    let comparison = compare(&options(&program, &["wasteful", "crash"]), &()).expect("compared");
    let crashed = row(&comparison, "wasteful_malloc");
    assert_eq!(crashed.failure, "killed by signal 11 (SIGSEGV) instead of exit status 0");
    assert!(crashed.figures.is_none() && crashed.same_output.is_none());
    assert!(row(&comparison, "system").figures.is_some());
    let mut table = Vec::new();
    write_table(&comparison, false, &mut table).expect("written");
    let table = String::from_utf8(table).expect("text");
    assert!(table.contains("wasteful_malloc failed: killed by signal 11"), "{table}");
}

#[test]
fn another_output_under_an_allocator_is_told() {
    let program = compile("dislikes_preload");
    let comparison = compare(&options(&program, &["wasteful", "differ"]), &()).expect("compared");
    assert_eq!(row(&comparison, "wasteful_malloc").same_output, Some(false));
    assert!(row(&comparison, "wasteful_malloc").failure.is_empty());
}

#[test]
fn output_that_varies_by_itself_is_not_judged() {
    let comparison = compare(&options(&compile("varying_output"), &[]), &()).expect("compared");
    assert!(comparison.rows.iter().all(|row| row.same_output.is_none()));
    let note = "output differs between runs of the same allocator";
    assert!(comparison.notes.iter().any(|text| text.contains(note)), "{:?}", comparison.notes);
}

#[test]
fn an_allocator_under_which_the_program_hangs_is_given_up() {
    let mut options = options(&compile("dislikes_preload"), &["wasteful", "hang"]);
    options.run_limit = Some(Duration::from_millis(300));
    let comparison = compare(&options, &()).expect("compared");
    let failure = &row(&comparison, "wasteful_malloc").failure;
    assert_eq!(failure, "still running after 0.3 s, stopped");
}

#[test]
fn a_programs_own_failure_is_kept_and_noted() {
    let comparison = compare(&options(&compile("status"), &["3"]), &()).expect("compared");
    assert_eq!(comparison.exit_status, 3);
    assert!(row(&comparison, "wasteful_malloc").failure.is_empty());
    assert!(
        comparison.notes.iter().any(|note| note == "the program itself ends with exit status 3")
    );
}

#[test]
fn a_missing_object_is_a_row_that_says_so() {
    let mut options = options(&compile("status"), &["0"]);
    let missing = heapwright_launch::Objects::in_directory("/nonexistent".into());
    options.subjects = Subject::all(&missing);
    let comparison = compare(&options, &()).expect("compared");
    assert_eq!(comparison.rows.len(), 5);
    let failure = &row(&comparison, "jemalloc").failure;
    assert!(failure.contains("libheapwright_peer_jemalloc.so is missing"), "{failure}");
}

#[test]
fn what_preloading_cannot_reach_is_refused() {
    let program = compile_with("status", &["-static"]);
    let error = compare(&options(&program, &["0"]), &()).expect_err("static");
    assert!(matches!(error, CompareError::OutOfReach { .. }));
    assert!(error.to_string().contains("is linked statically"), "{error}");
    let error = compare(&options(Path::new("/no/such/program"), &[]), &()).expect_err("missing");
    assert!(matches!(&error, CompareError::Program(inner) if inner.exit_status() == 127));
}

#[test]
fn a_server_is_driven_and_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let socket = socket.to_str().expect("a plain path");
    let mut options = options(&compile("server"), &[socket, "20"]);
    options.rounds = 2;
    let client = compile("client");
    options.load = Some(format!("{} {socket} 50 2000", client.display()).into());
    let comparison = compare(&options, &()).expect("compared");
    for row in &comparison.rows {
        assert_eq!(row.failure, "", "{}", row.name);
        assert_eq!((row.repeats, row.same_output), (2, None));
        assert!(row.figures.is_some_and(|figures| figures.cpu_s.median > 0.0));
    }
    options.load = Some("exit 9".into());
    let error = compare(&options, &()).expect_err("the load fails");
    assert!(error.to_string().contains("the load failed (exit status 9)"), "{error}");
}

#[test]
fn a_server_that_ends_before_its_load_fails_by_name() {
    let mut options = options(&compile("status"), &["4"]);
    options.load = Some("true".into());
    let error = compare(&options, &()).expect_err("no server");
    assert!(
        error.to_string().contains("the server ended before its load (exit status 4)"),
        "{error}"
    );
}

/// Wants to stop when the given run starts.
struct StopAt(u32, AtomicU32);

impl Observer for StopAt {
    fn run_starts(&self, index: u32, _count: u32, _subject: &str) {
        // Relaxed: a plain flag of one thread for another, with no data behind it.
        self.1.store(index, Ordering::Relaxed);
    }

    fn interrupted(&self) -> bool {
        self.1.load(Ordering::Relaxed) >= self.0
    }
}

#[test]
fn an_interrupted_comparison_keeps_the_rounds_that_ended() {
    let mut options = options(Path::new("/bin/sleep"), &["0.05"]);
    options.rounds = 50;
    // Run 0 is the warming one, 1 to 4 are two rounds.
    let comparison = compare(&options, &StopAt(5, AtomicU32::new(0))).expect("compared");
    assert_eq!(comparison.rounds, 2);
    assert!(comparison.rows.iter().all(|row| row.repeats == 2));
    let error = compare(&options, &StopAt(2, AtomicU32::new(0))).expect_err("too early");
    assert!(matches!(error, CompareError::Interrupted));
}

#[test]
fn a_time_limit_ends_the_rounds_early() {
    let mut options = options(&compile("status"), &["0"]);
    options.time_limit = Duration::ZERO;
    let comparison = compare(&options, &()).expect("compared");
    assert_eq!(comparison.rounds, 1);
    assert!(comparison.notes.iter().any(|note| note.contains("--time-limit")));
}

#[test]
fn the_first_runs_output_can_be_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = options(&compile("status"), &["0", "kept text"]);
    options.stdout_copy = Some(directory.path().join("stdout"));
    compare(&options, &()).expect("compared");
    let text = std::fs::read_to_string(directory.path().join("stdout")).expect("read");
    assert_eq!(text, "kept text\n");
    options.stdout_copy = Some(directory.path().join("no/such/directory"));
    assert!(matches!(compare(&options, &()), Err(CompareError::StdoutCopy(..))));
}

//! The tuner measures a program that takes its settings from the environment.

use heapwright_tune::{Goal, Options, RunError, Setting, html, measure, search};
use std::ffi::OsString;

fn program() -> Vec<OsString> {
    let cells = env!("CARGO_BIN_EXE_heapwright-bench-gc");
    [cells, "cell", "gcbench", "heapwright", "generational", "test"].map(OsString::from).into()
}

#[test]
fn a_program_is_tuned_and_its_settings_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let options = Options { runs: 6, goal: Goal::Cpu, pause_ms_max: None };
    let results = search(options, |setting| measure(&program(), setting, Some("64m"), &log));
    let results = results.expect("the program runs under every collector");
    assert_eq!((results.runs, results.failed.len()), (6, 0));
    assert!(results.trials.len() >= 5 && results.trials[0].on_front);
    for trial in &results.trials {
        assert!(trial.measured.peak_rss_kb > 0 && trial.measured.time_s > 0.0);
    }
    let page = html(&results, "a program <&>");
    assert!(page.contains("a program &lt;&amp;>") && page.contains("class=\"chosen\""));
    let mut config = heapwright_gc::Config::default();
    config.set_lines(&results.trials[0].setting.lines()).expect("the heap reads what is written");
    assert_eq!(config.collector.name(), results.trials[0].setting.collector);
}

#[test]
fn a_program_without_a_heap_is_no_result() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let setting = Setting::of("mark_sweep");
    let silent = measure(&["true".into()], &setting, None, &log);
    assert!(matches!(silent, Err(RunError::Silent)));
    let failed = measure(&["false".into()], &setting, None, &log);
    assert!(matches!(failed, Err(RunError::Status(_))));
    let missing = measure(&["/nonexistent/program".into()], &setting, None, &log);
    assert!(matches!(missing, Err(RunError::Start(_))));
}

//! The suite runs once, small, with ours and the system only.

use heapwright_bench::Scale;
use heapwright_bench::record_suite::{Options, run};
use std::path::{Path, PathBuf};

/// The binary, where the objects are: in what `cargo xtask build` left.
fn heapwright() -> Option<PathBuf> {
    let given = std::env::var_os("HEAPWRIGHT_LIB_DIR").map(PathBuf::from);
    let test = std::env::current_exe().ok()?;
    let built = test.ancestors().nth(3).map(|target| target.join("release"));
    let complete = |place: &PathBuf| {
        ["heapwright", "libheapwright_recorder.so"].iter().all(|file| place.join(file).is_file())
    };
    [given, built].into_iter().flatten().find(complete).map(|place| place.join("heapwright"))
}

fn options(heapwright: &Path, directory: &Path) -> Options {
    Options {
        heapwright: heapwright.to_owned(),
        directory: directory.to_owned(),
        scale: Scale::Quick,
        rounds: 1,
        against_heaptrack: false,
        only: None,
    }
}

#[test]
fn every_program_is_recorded_without_loss_or_named_as_missing() {
    let Some(heapwright) = heapwright() else {
        eprintln!("skipped: `cargo xtask build` has not been run");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let results = run(&options(&heapwright, directory.path()), &mut |_| {});
    for (name, reason) in &results.missing {
        let is_absent = reason.contains("not installed") || reason.contains("cannot be run");
        assert!(is_absent || name == "heaptrack", "{name}: {reason}");
    }
    for row in results.rows.iter().filter(|row| row.subject == "heapwright") {
        assert!(row.events > 100, "{}: {} events", row.workload, row.events);
        assert_eq!(row.dropped, 0, "{}", row.workload);
        let complete = row.stacks_complete.expect("a recording that can be read");
        assert!(complete > 0.9, "{}: {complete} of the stacks are complete", row.workload);
        assert!(row.bytes_per_event > 0.0 && row.cpu_s > 0.0, "{}", row.workload);
    }
    assert_eq!(results.rows.len() % 2, 0, "a program lacks a tool");
    assert!(!results.rows.is_empty(), "{:?}", results.missing);
    let text = results.to_string();
    assert!(text.contains("| program | events |"), "{text}");
}

#[test]
fn a_binary_that_is_missing_is_a_reason_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(Path::new("/nonexistent/heapwright"), directory.path());
    options.only = Some("sqlite3".into());
    let results = run(&options, &mut |_| {});
    assert!(results.rows.is_empty());
    assert!(results.missing.iter().any(|(name, _)| name == "sqlite3"), "{:?}", results.missing);
    assert!(results.sampled.is_err());
}

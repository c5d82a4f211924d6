//! The malloc suite runs once, tiny, with ours and the system's only.

use heapwright_bench::malloc_suite::{BASE, Options, Size, run};
use std::path::{Path, PathBuf};

/// Where the objects are: in what `cargo xtask build` left.
fn objects() -> Option<PathBuf> {
    let given = std::env::var_os("HEAPWRIGHT_LIB_DIR").map(PathBuf::from);
    let test = std::env::current_exe().ok()?;
    let built = test.ancestors().nth(3).map(|target| target.join("release"));
    let complete = |place: &PathBuf| place.join("libheapwright_preload.so").is_file();
    [given, built].into_iter().flatten().find(complete)
}

fn options(objects: &Path, directory: &Path, only: &[&str]) -> Options {
    Options {
        objects: objects.to_owned(),
        directory: directory.to_owned(),
        size: Size::Tiny,
        rounds: 1,
        against: Some(Vec::new()),
        only: only.iter().map(|&name| name.to_owned()).collect(),
    }
}

#[test]
fn every_workload_prints_the_same_under_ours_or_is_named_as_missing() {
    let Some(objects) = objects() else {
        eprintln!("skipped: `cargo xtask build` has not been run");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let results = run(&options(&objects, directory.path(), &[]), &mut |_| {}).unwrap();
    for missing in &results.missing {
        let absent = ["is not installed", "cannot be run", "valgrind"];
        let is_absent = absent.iter().any(|reason| missing.reason.contains(reason));
        assert!(is_absent, "{missing:?}");
    }
    for row in &results.rows {
        let measured = [row.time_s, row.ns_per_op, row.ns_p50, row.instructions];
        let of_memory = [row.private_dirty_kb, row.live_kb];
        let of_merging = [row.next_ratio, row.us_per_page, row.held_up_us];
        let measured = [&measured[..], &of_memory, &of_merging].concat();
        let is_of_peaks = row.workload.ends_with("-peak") && row.peak_rss_kb.is_some();
        assert!(measured.iter().any(Option::is_some) || is_of_peaks, "{row:?}");
        assert!(row.peak_rss_kb.is_none_or(|kib| kib > 500.0), "{row:?}");
    }
    assert_eq!(results.rows.len() % 2, 0, "a workload lacks an allocator");
    let mean = results.means.iter().find(|mean| mean.subject == "heapwright").unwrap();
    assert!(mean.workloads >= 22 && mean.peak_ratio > 0.1, "{mean:?}");
    let base = results.means.iter().find(|mean| mean.subject == BASE).unwrap();
    assert!((base.time_ratio - 1.0).abs() < 1e-9);
    let text = results.to_string();
    assert!(text.contains("| geometric mean against malloc | time |"), "{text}");
    assert!(text.contains("| larsonN |"), "{text}");
}

#[test]
fn an_allocator_that_is_missing_is_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(Path::new("/nonexistent"), directory.path(), &["cfrac"]);
    let reason = run(&options, &mut |_| {}).unwrap_err();
    assert!(reason.contains("libheapwright_preload.so is missing"), "{reason}");
}

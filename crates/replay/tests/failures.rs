//! Promise: what cannot be replayed is refused by name; an allocator that fails is one row;
//! the caller is told how far things are.

mod objects;
mod replaying;
mod synthetic;

use std::path::{Path, PathBuf};
use std::time::Duration;

use heapwright_format::file::SessionInfo;
use heapwright_replay::{AllocatorSpec, ReplayError, Shape};
use replaying::{options, row, run};
use synthetic::Program;

fn small_program(folder: &Path) -> PathBuf {
    let path = folder.join("small.hwr");
    let mut program = Program::new(&path, 0);
    for round in 0..30_000 {
        let block = program.malloc(round % 2, 100);
        program.free(0, block);
    }
    program.finish();
    path
}

#[test]
fn a_crash_is_a_row_that_names_the_signal_and_leaves_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = small_program(folder.path());
    let crashing = objects::build(folder.path(), "crash", &[]);
    let observer = objects::build(folder.path(), "observer", &[]);
    let report = run(&path, &options(&[&crashing, &observer])).expect("a replay");
    assert!(row(&report, 0).memory.is_some());
    assert!(row(&report, 2).memory.is_some());
    assert!(row(&report, 2).cpu_s.len() == 1);
    let failure = &report.allocators[1].failure;
    assert!(failure.contains("SIGABRT") && failure.contains(" % of the recording"), "{failure}");
    assert!(report.allocators[1].memory.is_none());
}

#[test]
fn a_hang_is_ended_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = small_program(folder.path());
    let hanging = objects::build(folder.path(), "crash", &["-DHANG"]);
    let mut options = options(&[&hanging]);
    options.stall_limit = Duration::from_secs(2);
    let report = run(&path, &options).expect("a replay");
    assert!(row(&report, 0).memory.is_some());
    let failure = &report.allocators[1].failure;
    assert!(failure.contains("no further for 2 s"), "{failure}");
}

#[test]
fn an_object_that_is_no_allocator_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = small_program(folder.path());
    let empty = objects::build(folder.path(), "empty", &[]);
    let report = run(&path, &options(&[&empty])).expect("a replay");
    let failure = &report.allocators[1].failure;
    assert!(failure.contains("does not replace malloc"), "{failure}");
}

#[test]
fn a_missing_object_stops_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = small_program(folder.path());
    let missing = folder.path().join("libnone.so");
    let error = run(&path, &options(&[&missing])).expect_err("no such object");
    assert!(matches!(error, ReplayError::Allocator { .. }));
    assert!(error.to_string().contains("libnone.so"), "{error}");
}

#[test]
fn a_sampled_recording_is_refused_with_what_it_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sampled.hwr");
    let session = SessionInfo { sample_bytes: 524_288, ..SessionInfo::default() };
    let mut program = Program::with_session(&path, session);
    program.malloc(0, 10);
    program.finish();
    let error = run(&path, &options(&[])).expect_err("sampled");
    assert!(matches!(error, ReplayError::Sampled { sample_bytes: 524_288, .. }));
    let text = error.to_string();
    for word in ["sampled.hwr", "524288", "call sites", "without --sample"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_recording_without_events_or_processes_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("empty.hwr");
    Program::new(&path, 0).finish();
    let error = run(&path, &options(&[])).expect_err("no events");
    assert!(matches!(error, ReplayError::NoEvents { pid: 4242, .. }), "{error}");
    let mut options = options(&[]);
    options.process = Some(7);
    let error = run(&path, &options).expect_err("no such process");
    assert!(matches!(error, ReplayError::NoProcess { process: 7, count: 1, .. }), "{error}");
}

#[test]
fn a_recording_with_nothing_but_thread_ends_is_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ends.hwr");
    let mut program = Program::new(&path, 0);
    program.end_thread(1);
    program.end_thread(2);
    program.finish();
    let report = run(&path, &options(&[])).expect("a replay");
    assert_eq!((report.operations, row(&report, 0).threads), (0, 2));
}

/// Epochs in which no thread has anything to do, before, between and after others.
#[test]
fn failed_allocations_hold_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("failed.hwr");
    for shape in [Shape::default(), Shape::strict()] {
        let mut program = Program::new(&path, 0);
        for _ in 0..3 {
            (0..500).for_each(|_| program.fail(0, 1 << 40));
            let block = program.malloc(1, 100);
            (0..500).for_each(|_| program.fail(1, 1 << 40));
            program.free(2, block);
        }
        program.finish();
        let mut options = options(&[]);
        options.shape = shape;
        let report = run(&path, &options).expect("a replay");
        assert_eq!((report.operations, row(&report, 0).threads), (6, 2));

        let mut program = Program::new(&path, 0);
        (0..50).for_each(|_| program.fail(0, 1 << 40));
        program.finish();
        let report = run(&path, &options).expect("a replay");
        assert_eq!((report.operations, row(&report, 0).threads), (0, 0));
    }
}

#[test]
fn a_path_that_the_loader_would_split_is_refused() {
    let spec = AllocatorSpec::object(Path::new("/tmp/two words/libfoo.so"));
    let error = spec.check().expect_err("a space");
    assert!(error.to_string().contains("space or a colon"), "{error}");
}

#[test]
fn the_figures_go_to_json_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = small_program(folder.path());
    let report = run(&path, &options(&[])).expect("a replay");
    let text = serde_json::to_string(&report).expect("figures");
    let back: heapwright_replay::ReplayReport = serde_json::from_str(&text).expect("figures");
    let timeline = |report: &heapwright_replay::ReplayReport| {
        report.allocators[0].memory.as_ref().map(|memory| memory.timeline.len())
    };
    assert!(timeline(&back).is_some_and(|points| points > 100));
    assert_eq!(timeline(&back), timeline(&report));
    assert_eq!(back.operations, 60_000);
    assert!(back.allocators[0].version.starts_with("glibc ") || cfg!(not(target_env = "gnu")));
}

#[test]
fn progress_reaches_the_end_of_each_phase() {
    use heapwright_replay::{Phase, replay};
    let folder = tempfile::tempdir().expect("a folder");
    let path = small_program(folder.path());
    let recording = heapwright_format::file::Recording::open(&path).expect("a recording");
    let mut phases = Vec::new();
    let mut looks = 0;
    replay(&recording, &options(&[]), &mut |progress| {
        assert!(progress.done <= progress.total, "{progress:?}");
        phases.push(progress.phase);
        looks += 1;
    })
    .expect("a replay");
    phases.dedup();
    assert_eq!(phases, [Phase::Memory, Phase::Time]);
    assert!(looks >= 3);
}

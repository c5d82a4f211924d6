//! Rust programs that record their own allocator.

use std::path::{Path, PathBuf};

use heapwright_format::{AllocKind, FreeKind};

use crate::recorded::{Facts, Run, is_own, printed, record_apart, record_command, words};

fn rust_program() -> PathBuf {
    crate::recorded::example().with_file_name("rust_program")
}

#[track_caller]
fn expect_all(run: &Run) -> Facts {
    assert_eq!(run.outcome.exit_status, Some(0), "{}", run.stdout);
    run.expect_whole();
    let counts = run.counts()[0];
    let facts = run.facts_of(counts.pid);
    let born = |kind| facts.own_births().filter(|birth| birth.kind == kind).count() as u64;
    assert_eq!(
        (born(AllocKind::Rust), born(AllocKind::RustZeroed)),
        (counts.malloc, counts.calloc)
    );
    let resized = facts.resizings.iter().filter(|resizing| is_own(resizing.size)).count() as u64;
    assert_eq!(resized, counts.realloc);
    let freed = facts.deaths.iter().filter(|&&(kind, size)| kind == FreeKind::Rust && is_own(size));
    assert_eq!(freed.count() as u64, counts.free);
    assert_eq!(born(AllocKind::Malloc), 0, "what the allocator asks of C is its own affair");
    let bytes: u64 = facts.own_births().map(|birth| birth.size).sum::<u64>()
        + facts
            .resizings
            .iter()
            .map(|resizing| resizing.size)
            .filter(|&size| is_own(size))
            .sum::<u64>();
    assert_eq!(bytes, counts.bytes);
    assert!(facts.own_births().all(|birth| birth.align_log2 == 0 || birth.align_log2 > 4));
    facts.expect_complete_stacks();
    facts
}

#[test]
fn a_rust_programs_own_allocator_is_recorded_through_the_preloaded_recorder() {
    let facts = expect_all(&record_command(words(&rust_program(), &[]), |_| {}));
    assert_eq!(facts.own_live(), 400);
    // C's own calls, by the same threads, are in the same streams.
    assert!(facts.births.iter().any(|birth| birth.kind == AllocKind::Malloc));
}

#[test]
fn a_rust_program_without_the_preloaded_recorder_records_by_itself() {
    let program = rust_program();
    let bare = words(Path::new("env"), &["-u", "LD_PRELOAD", program.to_str().expect("text")]);
    let facts = expect_all(&record_command(bare, |_| {}));
    assert!(facts.births.iter().all(|birth| birth.kind != AllocKind::Malloc));
}

#[test]
fn a_rust_program_outside_a_recording_runs_as_ever() {
    let output = std::process::Command::new(rust_program()).output().expect("it starts");
    assert!(output.status.success() && output.stdout.starts_with(b"counts pid="));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("none.hwr");
    // The spool's variable without a spool.
    let mut command = record_apart(&file, &words(&rust_program(), &[]), |_| {});
    let output = command.output().expect("it starts");
    assert_eq!(printed(&output, "exit_status"), 0);
    let stale = std::process::Command::new(rust_program())
        .env("HEAPWRIGHT_SPOOL", directory.path())
        .output()
        .expect("it starts");
    assert!(stale.status.success() && stale.stderr.is_empty());
}

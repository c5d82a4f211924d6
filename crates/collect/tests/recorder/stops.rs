//! Recordings that end before the program does.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use heapwright_collect::{AfterStop, StopReason};
use heapwright_format::file::Recording;

use crate::recorded::{Facts, Run, is_own, printed, program, record_apart, record_command, words};

/// The file is whole, and what it holds fits together.
#[track_caller]
fn expect_consistent(run: &Run) {
    assert_eq!(run.recording.problems(), []);
    let facts = Facts::of(&run.recording, 0);
    assert!(facts.births.len() > 1000);
    assert!(facts.births.iter().filter(|birth| is_own(birth.size)).all(|birth| birth.is_complete));
    // Threads are cut one after the other: a free may be in while its allocation is not.
    let misfits = facts.matches.unknown_frees + facts.matches.lost_frees;
    assert!(misfits * 100 <= facts.births.len() as u64, "{:?}", facts.matches);
}

#[test]
fn a_time_limit_ends_the_recording_and_the_program_goes_on() {
    let run = record_command(words(&program("churns"), &["2", "400"]), |options| {
        options.time_limit = Some(Duration::from_millis(120));
    });
    assert_eq!((run.outcome.reason, run.outcome.exit_status), (StopReason::Time, Some(4)));
    assert_eq!(run.stdout, "went on\n");
    assert_eq!(run.recording.end().map(|end| end.reason.as_str()), Some("time"));
    assert!(run.recording.processes()[0].end.as_ref().is_some_and(|end| end.running));
    expect_consistent(&run);
}

#[test]
fn a_size_limit_ends_the_recording_soon_after() {
    let limit = 100 << 10;
    let run = record_command(words(&program("churns"), &["2", "4000"]), |options| {
        options.bytes_max = Some(limit);
    });
    assert_eq!((run.outcome.reason, run.stdout.as_str()), (StopReason::Size, "went on\n"));
    // Whatever lay in the rings when the limit was reached still comes.
    assert!((limit..limit + (4 << 20)).contains(&run.outcome.bytes), "{}", run.outcome.bytes);
    expect_consistent(&run);
}

#[test]
fn a_stop_in_the_middle_of_64_threads_gives_a_whole_file() {
    let run = record_command(words(&program("churns"), &["64", "600"]), |options| {
        options.time_limit = Some(Duration::from_millis(50));
    });
    assert_eq!((run.outcome.exit_status, run.stdout.as_str()), (Some(4), "went on\n"));
    assert_eq!(run.recording.problems(), []);
    assert!(Facts::of(&run.recording, 0).threads > 2, "as many as had begun");
}

#[test]
fn after_a_stop_the_program_is_stopped_or_left_as_asked() {
    let run = record_command(words(&program("churns"), &["1", "60000"]), |options| {
        options.time_limit = Some(Duration::from_millis(200));
        options.after_stop = AfterStop::Terminate;
    });
    assert_eq!((run.outcome.reason, run.outcome.exit_status), (StopReason::Time, Some(9)));
    let start = Instant::now();
    let run = record_command(words(&program("churns"), &["1", "3000"]), |options| {
        options.time_limit = Some(Duration::from_millis(200));
        options.after_stop = AfterStop::Leave;
    });
    assert_eq!((run.outcome.reason, run.outcome.exit_status), (StopReason::Time, None));
    // It ends well although its collector and spool are gone (the file of its output is not).
    let output = run.directory.path().join("stdout");
    while !std::fs::read_to_string(&output).expect("text").contains("went on") {
        assert!(start.elapsed() < Duration::from_secs(30), "the program stands still");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_interrupt_ends_the_recording_and_not_the_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("interrupted.hwr");
    let churns = words(&program("churns"), &["2", "1500"]);
    let mut command: Command = record_apart(&file, &churns, |_| {});
    let apart = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(500));
    // SAFETY: sends a signal to our child.
    unsafe { libc::kill(apart.id() as i32, libc::SIGINT) };
    let output = apart.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "went on\n");
    assert_eq!(printed(&output, "exit_status"), 4);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Interrupted"));
    let recording = Recording::open(&file).expect("a recording");
    assert_eq!(recording.problems(), []);
    assert_eq!(recording.end().map(|end| end.reason.as_str()), Some("interrupted"));
}

#[test]
fn a_load_drives_a_server_which_is_then_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let socket = socket.to_str().expect("text");
    for (manner, status) in [("polite", 0), ("stubborn", 137)] {
        if manner == "stubborn" && std::env::var_os("HEAPWRIGHT_SLOW_TESTS").is_none() {
            continue; // Asking twice in vain takes 20 s.
        }
        let server = words(&program("server"), &[socket, "0", manner]);
        let client = words(&program("client"), &[socket, "20", "50"]);
        let run = record_command(server, |options| {
            options.load = Some(client);
        });
        let ends = (run.outcome.reason, run.outcome.load_status, run.outcome.exit_status);
        assert_eq!(ends, (StopReason::Load, Some(0), Some(status)));
        assert_eq!(run.recording.problems(), []);
        assert!(Facts::of(&run.recording, 0).births.len() >= 20 * 50);
    }
}

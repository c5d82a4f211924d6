//! Whatever cannot be watched says what it is.

mod program;

use std::fs;
use std::process::Command;

use heapwright_core::live_page::{VERSION, WORD_VERSION};
use heapwright_monitor::{MonitorError, Request, Watched, directories, watched_processes};
use program::{PATIENCE, Program};

fn error_of(text: &str) -> MonitorError {
    Watched::open(text, &directories()).expect_err(text)
}

#[test]
fn a_process_that_is_not_ours_or_not_there_says_so() {
    let own = std::process::id();
    assert!(matches!(error_of(&own.to_string()), MonitorError::NotOurs(pid) if pid == own));
    let mut child = Command::new("true").spawn().expect("true");
    let pid = child.id();
    child.wait().expect("a child");
    assert!(matches!(error_of(&pid.to_string()), MonitorError::Exited(gone) if gone == pid));
    let error = error_of("no such program at all");
    assert!(matches!(&error, MonitorError::NoSuchName(_)));
    assert!(error.to_string().contains("no such program at all"));
    // Process 1 is root's, or ours where everything is root's.
    match error_of("1") {
        MonitorError::OtherUser { pid: 1, uid: 0 } | MonitorError::NotOurs(1) => {}
        other => panic!("{other}"),
    }
}

#[test]
fn another_version_and_a_damaged_page_are_refused() {
    let program = Program::start("nothing", &[]);
    let directories = program.directories();
    let path = program.watched().page_path().to_owned();
    let patch = |word: usize, value: u64| {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(&path).expect("our own file");
        file.write_all_at(&value.to_ne_bytes(), word as u64 * 8).expect("written");
    };
    let open = || Watched::open(&program.pid().to_string(), &directories);
    patch(WORD_VERSION, VERSION + 1);
    let error = open().expect_err("another version");
    assert!(matches!(error, MonitorError::OtherVersion { theirs, .. } if theirs == VERSION + 1));
    patch(WORD_VERSION, VERSION);
    assert!(open().is_ok());
    patch(0, 42);
    assert!(
        matches!(open().expect_err("damaged"), MonitorError::Damaged(damaged) if damaged == path)
    );
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let mut program = Program::start("nothing", &[]);
    let page = program.watched().page_path().to_owned();
    program.kill();
    assert!(page.exists());
    assert_eq!(watched_processes(&program.directories()), []);
    assert!(!page.exists());
}

#[test]
fn an_idle_process_without_a_thread_is_silent() {
    let program = Program::start("nothing", &[("HEAPWRIGHT_WATCH", "passive")]);
    let watched = program.watched();
    let short = std::time::Duration::from_millis(50);
    // It may still be on its way to reading its input, and answer until it is there.
    let start = std::time::Instant::now();
    let error = loop {
        match watched.ask(Request::Release, short) {
            Ok(()) => assert!(start.elapsed() < PATIENCE, "it waits for its input"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MonitorError::Silent { .. }), "{error}");
    assert!(error.to_string().contains("next"));
    // The next allocation answers, this request or a later one.
    program.step("large");
    program.step("more");
    program.line();
    let asker = std::thread::spawn(move || watched.ask(Request::Figures, PATIENCE));
    while !asker.is_finished() {
        program.step("large");
        program.line();
        program.step("more");
        std::thread::sleep(short);
    }
    asker.join().expect("no panic").expect("answered");
}

#[test]
fn two_of_one_name_have_to_be_told_apart() {
    let first = Program::start("nothing", &[]);
    let second = Program::start("nothing", &[]);
    let directories = [first.directories(), second.directories()].concat();
    let error = Watched::open("watched_program", &directories).expect_err("ambiguous");
    let MonitorError::Ambiguous { pids, .. } = &error else { panic!("{error}") };
    assert!(pids.contains(&first.pid()) && pids.contains(&second.pid()));
}

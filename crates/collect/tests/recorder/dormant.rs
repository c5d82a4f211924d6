//! Programs that carry a dormant recorder and are recorded in the middle of their lives.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use heapwright_collect::{AttachProblem, RecordError, RecordOutcome, StopReason, Target, record};
use heapwright_format::file::Recording;

use crate::recorded::{Facts, is_root, options_for, program, recorder};

/// A running program with a dormant recorder; killed when dropped.
struct Dormant {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Dormant {
    /// With so many threads, until it is told to end; a minute at most.
    fn start(threads: u32, way: Option<&str>) -> Self {
        let mut command = Command::new(program("dormant"));
        command.args([threads.to_string().as_str(), "60000"]).args(way).stdin(Stdio::piped());
        command.env("LD_PRELOAD", recorder()).env("HEAPWRIGHT_DORMANT", "1");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        Self { child, stdout }
    }

    fn control_file(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm/heapwright-dormant-{}", self.child.id()))
    }

    /// It ends as it would have without us, and leaves nothing.
    #[track_caller]
    fn expect_unharmed(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        assert!(rest.ends_with("went on\n"), "{rest}");
        assert_eq!(self.child.wait().expect("its status").code(), Some(4));
        assert!(!self.control_file().exists());
    }
}

impl Drop for Dormant {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn attach(pid: u32, time: Duration) -> Result<(RecordOutcome, Recording), RecordError> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("attached.hwr");
    let mut options = options_for(Target::Process(pid), file.clone());
    options.time_limit = Some(time);
    let outcome = record(options)?;
    let recording = Recording::open(&file).expect("a recording");
    assert_eq!(recording.problems(), []);
    Ok((outcome, recording))
}

/// Threads of a recording that began in the middle: whole, and with older objects.
#[track_caller]
fn expect_middle(outcome: &RecordOutcome, recording: &Recording, threads: usize) -> Facts {
    assert_eq!((outcome.reason, outcome.exit_status), (StopReason::Time, None));
    assert_eq!((outcome.dropped, outcome.lost_processes), (0, 0), "{outcome:?}");
    assert!(recording.processes()[0].info.attached);
    let facts = Facts::of(recording, 0);
    assert_eq!(facts.threads, threads);
    assert!(facts.own_births().count() > 1000, "{:?}", facts.matches);
    facts.expect_complete_stacks();
    facts
}

#[test]
fn a_running_program_is_recorded_again_and_again_and_goes_on() {
    let dormant = Dormant::start(3, None);
    let facts: Vec<Facts> = (0..3)
        .map(|_| {
            let (outcome, recording) =
                attach(dormant.child.id(), Duration::from_millis(400)).expect("it is dormant");
            expect_middle(&outcome, &recording, 3)
        })
        .collect();
    for one in &facts {
        // What each thread kept from before, and at a further time perhaps a call that only told
        // it that the session before is over.
        // (A thread that hardly ran in that second has freed fewer.)
        let unknown = one.matches.unknown_frees;
        assert!((64..=3 * 64 + 3).contains(&unknown), "{:?}", one.matches);
        assert_eq!(one.matches.lost_frees, 0);
    }
    dormant.expect_unharmed();
}

#[test]
fn forked_children_follow_and_so_do_programs_they_become() {
    let dormant = Dormant::start(1, Some("forks"));
    let (outcome, recording) =
        attach(dormant.child.id(), Duration::from_millis(1500)).expect("it is dormant");
    assert!(outcome.processes >= 5, "{outcome:?}");
    let parent = recording.processes().iter().position(|one| one.info.pid == dormant.child.id());
    assert!(Facts::of(&recording, parent.expect("recorded")).own_births().count() > 100);
    let children = (0..recording.processes().len()).filter(|&index| Some(index) != parent);
    let whole = children.filter(|&index| {
        let facts = Facts::of(&recording, index);
        (facts.own_births().count(), facts.own_live()) == (100, 0)
    });
    assert!(whole.count() >= 4);
    dormant.expect_unharmed();
    let dormant = Dormant::start(1, Some("execs"));
    let (outcome, recording) =
        attach(dormant.child.id(), Duration::from_millis(1500)).expect("it is dormant");
    assert_eq!(outcome.processes, 2, "{:?}", recording.processes());
    dormant.expect_unharmed();
}

#[test]
fn without_a_recording_it_costs_no_event_and_leaves_no_file() {
    let dormant = Dormant::start(2, None);
    assert!(dormant.control_file().exists());
    dormant.expect_unharmed();
}

#[test]
fn who_cannot_be_recorded_is_told_apart() {
    let problem = |pid| match attach(pid, Duration::from_millis(50)) {
        Err(RecordError::Attach { problem, .. }) => problem,
        other => panic!("{:?}", other.map(|(outcome, _)| outcome)),
    };
    assert!(matches!(problem(0x3fff_ffff), AttachProblem::NoProcess));
    assert!(matches!(problem(std::process::id()), AttachProblem::NotDormant { ancestor: None }));
    if !is_root() {
        assert!(matches!(problem(1), AttachProblem::OtherUser { uid: 0 }));
    }
    let confined = Dormant::start(1, Some("confined"));
    let pid = confined.child.id();
    let refused = attach(pid, Duration::from_secs(5)).err();
    let is_confined = |error: &RecordError| {
        matches!(error, RecordError::Attach { problem: AttachProblem::Confined, .. })
    };
    assert!(refused.as_ref().is_some_and(is_confined), "{refused:?}");
    confined.expect_unharmed();
    let dormant = Dormant::start(1, None);
    let pid = dormant.child.id();
    let first = std::thread::spawn(move || attach(pid, Duration::from_secs(3)).map(drop));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(matches!(problem(pid), AttachProblem::BeingRecorded));
    first.join().expect("no panic").expect("recorded");
    dormant.expect_unharmed();
    let other = Dormant::start(1, None);
    let file = std::fs::OpenOptions::new().write(true).open(other.control_file()).expect("ours");
    std::os::unix::fs::FileExt::write_at(&file, &[9], 8).expect("the version's byte");
    assert!(matches!(problem(other.child.id()), AttachProblem::OtherVersion { found: 9 }));
    other.expect_unharmed();
}

#[test]
fn a_killed_collector_leaves_the_program_running_and_free() {
    let dormant = Dormant::start(2, None);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("killed.hwr");
    let mut apart = Command::new(crate::recorded::example());
    apart.arg("--pid").arg(dormant.child.id().to_string()).arg(&file).env_remove("LD_PRELOAD");
    let mut apart = apart.spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(300));
    apart.kill().expect("killed");
    apart.wait().expect("waited for");
    // A thread asks for the collector when its ring is full.
    let is_off = || std::fs::read(dormant.control_file()).expect("readable")[..4] == [0; 4];
    let start = Instant::now();
    while !is_off() {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not switch itself off");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (outcome, recording) =
        attach(dormant.child.id(), Duration::from_millis(250)).expect("it is dormant again");
    expect_middle(&outcome, &recording, 2);
    dormant.expect_unharmed();
}

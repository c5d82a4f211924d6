//! The collector in trouble: the program must not notice.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use heapwright_format::file::Recording;

use crate::recorded::{Facts, is_root, printed, program, record_apart, words};

#[test]
fn a_killed_collector_does_not_stop_the_program_and_leaves_a_readable_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("killed.hwr");
    let output = directory.path().join("stdout");
    let churns = words(&program("churns"), &["4", "1500"]);
    let mut command = record_apart(&file, &churns, |_| {});
    let stdout = std::fs::File::create(&output).expect("a file");
    let mut apart = command.stdout(stdout).stderr(Stdio::null()).spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(500));
    apart.kill().expect("it runs");
    let start = Instant::now();
    // Not waited for yet: the dead collector is a zombie, which must not pass for a live one.
    while !std::fs::read_to_string(&output).expect("text").contains("went on") {
        assert!(start.elapsed() < Duration::from_secs(30), "the program stands still");
        std::thread::sleep(Duration::from_millis(20));
    }
    apart.wait().expect("it was killed");
    let recording = Recording::open(&file).expect("what was written can be read");
    assert!(recording.end().is_none() && !recording.problems().is_empty());
    assert!(recording.processes()[0].events > 10_000);
    let mut events = heapwright_format::merge::MergedEvents::new(&recording, 0);
    assert!(events.by_ref().count() > 10_000);
}

#[test]
fn the_spool_of_a_killed_collector_is_removed_by_the_next_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("killed.hwr");
    let spools = directory.path().join("spools");
    std::fs::create_dir(&spools).expect("a directory");
    let count = || std::fs::read_dir(&spools).expect("a directory").count();
    let record = |arguments: &[&str]| {
        let mut command = record_apart(&file, &words(&program("churns"), arguments), |_| {});
        command.env("HEAPWRIGHT_SPOOL_DIR", &spools).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut apart = record(&["1", "900"]).spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(count(), 1);
    apart.kill().and_then(|()| apart.wait()).expect("it was killed");
    assert_eq!(count(), 1, "nobody was left to remove it");
    assert!(record(&["1", "100"]).status().expect("it runs").success());
    assert_eq!(count(), 0);
}

/// Runs `simple` in a loop of recordings onto a place with too little room.
fn expect_full(file: &Path, prepare: impl FnOnce(&mut Command)) {
    let churns = words(
        Path::new("sh"),
        &[
            "-c",
            "ulimit -f unlimited; exec \"$0\" 2 2500",
            program("churns").to_str().expect("text"),
        ],
    );
    let output = record_apart(file, &churns, prepare).output().expect("it starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "went on\n", "{output:?}");
    assert_eq!(printed(&output, "exit_status"), 4);
    assert!(printed(&output, "unwritten_events") > 1000, "{output:?}");
    let recording = Recording::open(file).expect("what was written can be read");
    let events: u64 = recording.processes().iter().map(|process| process.events).sum();
    assert_eq!(events, printed(&output, "events"));
    // (The shell's own ring file is above the limit, in the one case.)
    let last = recording.processes().len() - 1;
    assert!(Facts::of(&recording, last).events > 0, "{output:?}");
}

#[test]
fn a_file_at_its_limit_ends_the_recording_and_not_the_program() {
    let directory = tempfile::tempdir().expect("a directory");
    expect_full(&directory.path().join("limited.hwr"), |command| {
        let limit = libc::rlimit { rlim_cur: 100 << 10, rlim_max: libc::RLIM_INFINITY };
        let set = move || {
            // SAFETY: reads the structure; only this process's limit changes.
            match unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: the closure makes one system call and no allocation.
        unsafe { std::os::unix::process::CommandExt::pre_exec(command, set) };
    });
}

/// A small memory file system, for as long as this lives.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// None where we may not mount.
    fn new(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(directory.path());
        let is_mounted = is_root() && mount.status().is_ok_and(|status| status.success());
        is_mounted.then_some(Self(directory))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_program() {
    let Some(disk) = Tmpfs::new("100k") else { return };
    expect_full(&disk.0.path().join("full.hwr"), |_| {});
}

#[test]
fn a_full_spool_leaves_threads_unrecorded_and_counted() {
    // Room for the heads and some eight of 65 threads.
    let Some(disk) = Tmpfs::new("1200k") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("spool.hwr");
    let threads = words(&program("many_threads"), &[]);
    let output = record_apart(&file, &threads, |command| {
        command.env("HEAPWRIGHT_SPOOL_DIR", disk.0.path());
    })
    .output()
    .expect("it starts");
    assert_eq!(printed(&output, "exit_status"), 0, "{output:?}");
    let counts =
        heapwright_testkit::programs::Counts::parse(&String::from_utf8_lossy(&output.stdout));
    let made = counts[0].malloc + counts[0].free;
    let (events, dropped) = (printed(&output, "events"), printed(&output, "dropped"));
    assert!(dropped > 1000 && events > 1000, "{events} events, {dropped} dropped");
    assert!(events + dropped >= made, "{events} + {dropped} of {made}");
    let recording = Recording::open(&file).expect("a recording");
    assert_eq!(recording.problems(), []);
    let told = recording.processes()[0].end.as_ref().map(|end| end.dropped);
    assert_eq!(told, Some(dropped), "the file says so too");
}

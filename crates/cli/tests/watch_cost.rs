//! What being watched costs a program, in instructions of callgrind's (feature `preload-tests`,
//! after `cargo xtask build`; valgrind). A long tier, alone:
//!
//! ```text
//! cargo test -p heapwright-cli --features preload-tests --test watch_cost -- --ignored --nocapture
//! ```
//!
//! Callgrind makes a program some 30 times slower, and what watching does goes by the clock: so the
//! figures are upper bounds, 30 times what they are otherwise.
#![cfg(feature = "preload-tests")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Keeps what it has, so that no more is purged by the clock in one run than in another; each of
/// its objects is a block of ours. Callgrind takes some twenty seconds.
const WORK: &str = "\
import json
things = [{'id': i, 'name': 'thing %d' % i, 'tags': ['a', 'b', str(i)]} for i in range(300)]
for turn in range(70):
    things = json.loads(json.dumps(things))
print(len(things))
";
const PATIENCE: Duration = Duration::from_secs(60);
/// One in so many instructions is what is asked.
const SHARE: u64 = 100;

fn heapwright(directory: &Path) -> Command {
    let mut command = heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"));
    command.env("XDG_RUNTIME_DIR", directory);
    command
}

/// The interpreter itself: `python3` may be a script that starts it, which callgrind would count.
fn python() -> Option<String> {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let path = String::from_utf8(output.ok()?.stdout).ok()?;
    Some(path.trim().to_owned()).filter(|path| !path.is_empty())
}

/// Starts the program under callgrind and the allocator.
fn start(directory: &Path, python: &str, options: &[&str]) -> Child {
    heapwright(directory)
        .arg("run")
        .args(options)
        .args(["--", "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args([python, "-c", WORK])
        .env("PYTHONMALLOC", "malloc")
        // Else the order of its dictionaries differs from run to run.
        .env("PYTHONHASHSEED", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("heapwright starts")
}

/// What it collected.
fn instructions(child: Child) -> u64 {
    let output = child.wait_with_output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.split_once("Collected :"));
    line.and_then(|(_, count)| count.trim().parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// A reader that looks twice a second until process `pid` has ended; its last look.
fn look_until_the_end(directory: &Path, pid: u32) -> String {
    let start = Instant::now();
    loop {
        let output = heapwright(directory)
            .args(["top", "--json", "--warn-if", "live>1024G", &pid.to_string()])
            .output()
            .expect("heapwright starts");
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).into_owned();
        }
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(start.elapsed() < PATIENCE, "{error}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[ignore = "tier: counts under callgrind, half a minute"]
fn tier_watched_with_a_reader_takes_no_more_than_a_hundredth() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return println!("left out: there is no valgrind");
    }
    let Some(python) = python() else { return println!("left out: there is no python3") };
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let plain = instructions(start(directory, &python, &[]));
    let watched = instructions(start(directory, &python, &["--watch"]));
    let child = start(directory, &python, &["--watch"]);
    let begin = Instant::now();
    let last = look_until_the_end(directory, child.id());
    let looked = begin.elapsed();
    let read = instructions(child);
    let live = serde_json::from_str::<serde_json::Value>(&last).expect("JSON")["live"].as_u64();
    println!("instructions: plain {plain}, watched {watched}, with a reader {read}");
    println!("read for {looked:?}; the last look: {live:?} bytes live");
    assert!(live > Some(1 << 20), "{last}");
    assert!(looked > Duration::from_secs(1), "it was read while it worked: {looked:?}");
    assert!(plain > 100_000_000, "{plain}");
    for count in [watched, read] {
        assert!(count <= plain + plain / SHARE, "{count} beside {plain}");
    }
}

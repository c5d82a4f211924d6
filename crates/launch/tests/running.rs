//! A child's end, use and stopping.

use heapwright_launch::server::{Readiness, stop, wait_until_listening};
use heapwright_launch::{Running, shell_status};
use heapwright_testkit::programs::compile;
use std::process::{Command, Stdio};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_childs_status_and_use_are_known() {
    let mut command = Command::new(compile("workload"));
    let mut child = Running::start(command.arg("200").stdout(Stdio::null())).expect("started");
    let ended = child.wait().expect("waited");
    assert_eq!(shell_status(ended.status), 0);
    assert!(ended.cpu_s() > 0.0 && ended.usage.minor_faults > 100);
    // 10000 slots of 2 KiB on average are alive.
    assert!(ended.usage.peak_rss_bytes > 15 << 20, "{}", ended.usage.peak_rss_bytes);
}

#[test]
fn a_child_that_goes_on_is_ended_with_its_handle() {
    let mut child = Running::start(Command::new("sleep").arg("1000")).expect("started");
    assert!(child.wait_for(Duration::from_millis(10), &|| false).expect("looked").is_none());
    let pid = child.pid();
    drop(child);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_server_is_waited_for_and_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let mut command = Command::new(compile("server"));
    let mut server = Running::start(command.arg(&socket).arg("100")).expect("started");
    assert_eq!(wait_until_listening(&mut server, LONG).expect("looked"), Readiness::Listening);
    let (ended, killed) = stop(&mut server, LONG).expect("stopped");
    assert_eq!((shell_status(ended.status), killed), (0, false));
}

#[test]
fn a_stubborn_server_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let mut command = Command::new(compile("server"));
    let mut server = Running::start(command.arg(&socket).args(["0", "stubborn"])).expect("started");
    assert_eq!(wait_until_listening(&mut server, LONG).expect("looked"), Readiness::Listening);
    let (ended, killed) = stop(&mut server, Duration::from_millis(50)).expect("stopped");
    assert_eq!((shell_status(ended.status), killed), (137, true));
}

#[test]
fn a_server_that_ends_early_is_told_apart() {
    let mut server = Running::start(&mut Command::new("true")).expect("started");
    assert_eq!(wait_until_listening(&mut server, LONG).expect("looked"), Readiness::Ended);
}

#[test]
fn a_watched_child_is_killed_when_the_watch_says_so() {
    let mut calls = 0;
    let mut child = Running::start(Command::new("sleep").arg("1000")).expect("started");
    let ended = child.wait_watched(Duration::from_millis(5), &mut |_, _| {
        calls += 1;
        calls < 3
    });
    assert_eq!(shell_status(ended.expect("waited").status), 137);
    assert!(calls >= 3);
}

//! A C program under the built allocator, watched by the command line (feature `preload-tests`,
//! after `cargo xtask build`).
#![cfg(feature = "preload-tests")]

use heapwright_testkit::programs::compile;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// SIGUSR2 of Linux on x86_64 and aarch64.
const SIGNAL: &str = "12";

fn heapwright() -> Command {
    heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"))
}

/// A watched program, by `heapwright run`, with a runtime directory of its own.
struct Watched {
    child: Child,
    lines: BufReader<ChildStdout>,
    directory: tempfile::TempDir,
}

impl Watched {
    fn start(options: &[&str], variables: &[(&str, &Path)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = heapwright()
            .args(["run", "--watch", "--profile-rate", "32K"])
            .args(options)
            .arg("--")
            .arg(compile("fragmented"))
            .env("XDG_RUNTIME_DIR", directory.path())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("heapwright starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut watched = Self { child, lines, directory };
        watched.wait_for("ready");
        watched
    }

    fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it prints");
        assert_eq!(line.trim_end(), text);
    }

    fn step(&mut self, step: &str) {
        writeln!(self.child.stdin.as_mut().expect("piped"), "{step}").expect("it reads");
        self.wait_for("done");
    }

    /// Runs `heapwright` with `arguments` and the process's number.
    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = heapwright();
        command.env("XDG_RUNTIME_DIR", self.directory.path());
        command.args(arguments).arg(self.child.id().to_string());
        command.output().expect("heapwright starts")
    }

    fn ask_json(&self, arguments: &[&str]) -> Value {
        let output = self.ask(arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    fn end(mut self) -> tempfile::TempDir {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("a child").success());
        let pages = self.directory.path().join("heapwright");
        assert_eq!(std::fs::read_dir(pages).expect("there").count(), 0, "something was left");
        self.directory
    }
}

#[test]
fn top_shows_a_c_program_and_thresholds_end_it() {
    let watched = Watched::start(&[], &[]);
    let look = watched.ask_json(&["top", "--json"]);
    assert_eq!((&look["schema"], &look["name"]), (&Value::from(1), &Value::from("fragmented")));
    assert!(look["live"].as_u64() > Some(1 << 20));
    assert!(look["resident_over_live"].as_f64() > Some(2.0));
    let text = watched.ask(&["top", "--once"]);
    assert!(text.status.success());
    assert!(String::from_utf8_lossy(&text.stdout).contains("free inside spans"));
    let failed = watched.ask(&["top", "--fail-if", "resident/live>2", "--error-exit", "9"]);
    assert_eq!(failed.status.code(), Some(9));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("resident/live>2"));
    let fine = watched.ask(&["top", "--once", "--fail-if", "live>1G", "--warn-if", "live>1K"]);
    assert_eq!(fine.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&fine.stderr).contains("live>1024"));
    let wrong = watched.ask(&["top", "--fail-if", "nonsense>1"]);
    assert_eq!(wrong.status.code(), Some(125));
    watched.end();
}

#[test]
fn profile_blames_the_sessions_of_a_c_program() {
    let watched = Watched::start(&["--profile", "1"], &[]);
    let output = watched.directory.path().join("heap.pb.gz");
    let path = output.to_str().expect("UTF-8");
    let profile = watched.ask_json(&["profile", "--json", "--output", path]);
    let first = &profile["sites"][0];
    assert_eq!(first["function"], "open_session", "{first}");
    assert!(first["pinned_bytes"].as_f64() > Some(1e6), "{first}");
    let low = first["pinned_interval"]["low"].as_f64().expect("a number");
    let high = first["pinned_interval"]["high"].as_f64().expect("a number");
    let truth = profile["pinned_bytes"].as_f64().expect("a number");
    // Twice as wide as the interval says: seeds differ from run to run.
    let slack = (high - low) / 2.0;
    assert!((low - slack..=high + slack).contains(&truth), "{truth}: {low} to {high}");
    let written = std::fs::read(&output).expect("written");
    assert_eq!(written[..2], [0x1f, 0x8b], "gzip");
    watched.end();
}

#[test]
fn a_signal_and_the_end_of_the_process_write_the_profile() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("at end.%p");
    let option = path.to_str().expect("UTF-8").to_owned();
    let signal = ("HEAPWRIGHT_PROFILE_SIGNAL", Path::new(SIGNAL));
    let mut watched = Watched::start(&["--profile", &option], &[signal]);
    let expected = directory.path().join(format!("at end.{}", watched.child.id()));
    assert!(!expected.exists());
    watched.step("profile");
    // Written at the next slow path: the steps have them.
    while !expected.exists() {
        watched.step("nothing");
    }
    let head = "heapwright-profile 1\n";
    let at_signal = std::fs::read_to_string(&expected).expect("whole");
    assert!(at_signal.starts_with(head) && at_signal.ends_with("end\n"));
    // A child of a fork writes its own.
    watched.step("fork");
    watched.end();
    let at_end = std::fs::read_to_string(&expected).expect("whole");
    assert!(at_end.starts_with(head) && at_end.ends_with("end\n") && at_end != at_signal);
    let files = std::fs::read_dir(directory.path()).expect("there").count();
    assert_eq!(files, 2, "the parent's and the child's");
    let output = heapwright().args(["profile", "--json"]).arg(&expected).output().expect("starts");
    let profile: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let sites = profile["sites"].as_array().expect("sites");
    assert!(sites.iter().any(|site| site["function"] == "take_request"), "{profile}");
}

#[test]
fn what_cannot_be_watched_is_named() {
    let own = std::process::id().to_string();
    for (process, text) in [
        (own.as_str(), "does not run on Heapwright's allocator"),
        ("999999999", "does not exist"),
        ("no-such-name", "no watched process is called no-such-name"),
    ] {
        for command in ["top", "profile"] {
            let output = heapwright().args([command, process]).output().expect("starts");
            assert_eq!(output.status.code(), Some(125));
            let message = String::from_utf8_lossy(&output.stderr);
            assert!(message.contains(text), "{command} {process}: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}

#[test]
fn another_users_process_is_named_as_such() {
    // Nobody is 65534; only root can be somebody else for a moment.
    let as_nobody = |words: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(env!("CARGO_BIN_EXE_heapwright"))
            .args(words)
            .output()
    };
    if !as_nobody(&["--version"]).is_ok_and(|output| output.status.success()) {
        return println!("left out: this test cannot be another user, or that one cannot run it");
    }
    let own = std::process::id().to_string();
    for command in ["top", "profile"] {
        let output = as_nobody(&[command, &own]).expect("starts");
        assert_eq!(output.status.code(), Some(125));
        let message = String::from_utf8_lossy(&output.stderr);
        let expected = format!("process {own} belongs to user 0");
        assert!(message.contains(&expected), "{command}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

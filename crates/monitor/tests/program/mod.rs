//! The example `watched_program` as a child process.
#![allow(dead_code, reason = "each test file uses its part")]

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use heapwright_monitor::Watched;

/// For whatever a loaded machine delays.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running program with a runtime directory of its own.
pub struct Program {
    child: Child,
    lines: RefCell<BufReader<ChildStdout>>,
    directory: tempfile::TempDir,
    /// What it says lives.
    pub live_bytes: u64,
}

impl Program {
    /// Starts scene `scene` and waits until it is ready.
    pub fn start(scene: &str, variables: &[(&str, &str)]) -> Self {
        // target/debug/deps/TEST: examples lie beside `deps`.
        let test = std::env::current_exe().expect("a path");
        let target = test.parent().and_then(|deps| deps.parent()).expect("a target directory");
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(target.join("examples/watched_program"))
            .arg(scene)
            .env("XDG_RUNTIME_DIR", directory.path())
            .env("HEAPWRIGHT_WATCH", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example is built with the tests");
        let stdout = child.stdout.take().expect("piped");
        let lines = RefCell::new(BufReader::new(stdout));
        let mut program = Self { child, lines, directory, live_bytes: 0 };
        let line = program.line();
        let live = line.strip_prefix("ready ").unwrap_or_else(|| panic!("{line}"));
        program.live_bytes = live.parse().expect("a number");
        program
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its page is.
    pub fn directories(&self) -> Vec<PathBuf> {
        vec![self.directory.path().join("heapwright")]
    }

    pub fn watched(&self) -> Watched {
        Watched::open(&self.pid().to_string(), &self.directories()).expect("it is watched")
    }

    /// Has it do a step.
    pub fn step(&self, step: &str) {
        let mut stdin = self.child.stdin.as_ref().expect("piped");
        writeln!(stdin, "{step}").expect("it reads");
    }

    /// The next line that it prints.
    pub fn line(&self) -> String {
        let mut line = String::new();
        self.lines.borrow_mut().read_line(&mut line).expect("it prints");
        line.trim_end().to_owned()
    }

    /// Has it end, and waits for that.
    pub fn end(&mut self) {
        self.step("end");
        self.child.wait().expect("a child of ours");
    }

    /// Kills it, and waits for that.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! `bench`: suites of measurements, or allocators beside each other on the bundled program.

use crate::workspace::Workspace;
use crate::{build, shell};
use std::process::Command;

/// Builds and measures: `record` and `malloc` are suites of `crates/bench`, anything else is for
/// `heapwright compare` on the bundled program.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    build::run(workspace, &[])?;
    match arguments.split_first() {
        Some((suite, rest)) if suite == "record" => record(workspace, rest),
        Some((suite, _)) if suite == "malloc" => {
            let mut bench = Command::new(workspace.release().join("heapwright"));
            shell::run(bench.arg("bench").args(arguments).current_dir(&workspace.root))
        }
        _ => compare(workspace, arguments),
    }
}

/// What recording costs; options of its own: `--quick`, `--rounds N`, `--only NAME`.
fn record(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    shell::run(workspace.cargo("build").args(["--release", "--package", "heapwright-bench"]))?;
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    if let Ok(output) = commit.as_ref().map(|said| String::from_utf8_lossy(&said.stdout)) {
        println!("commit {}", output.trim());
    }
    let mut suite = Command::new(workspace.release().join("heapwright-bench-record"));
    shell::run(suite.args(arguments).current_dir(&workspace.root))
}

fn compare(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let mut compare = Command::new(workspace.release().join("heapwright"));
    compare.arg("compare").args(arguments).arg("--");
    compare.arg(workspace.release().join("heapwright-demo"));
    shell::run(compare.current_dir(&workspace.root))
}

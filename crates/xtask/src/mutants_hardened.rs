//! `test --tier mutants`: the hardened heap without one of its checks, for each of them: its tests
//! must fail then.
//!
//! A check is left out by a configuration flag that is nobody's feature, so that no build has it
//! by accident. The objects are built in a directory of their own.

use crate::shell;
use crate::workspace::Workspace;
use std::path::Path;
use std::process::Command;

/// The checks, by the values of `heapwright_hardened_without`.
const CHECKS: [&str; 8] =
    ["guards", "zero", "reuse", "canary", "family", "state", "size", "quarantine"];
const OBJECT: &str = "heapwright-preload-hardened";

/// Builds each mutant and runs the tests of hardened mode on it.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let target = workspace.target.join("mutants");
    build(workspace, &target, None)?;
    if !passes(workspace, &target)? {
        return Err("the tests of hardened mode fail without any mutation".into());
    }
    let mut survivors = Vec::new();
    for check in CHECKS {
        build(workspace, &target, Some(check))?;
        let survived = passes(workspace, &target)?;
        println!("without {check}: {}", if survived { "NOT NOTICED" } else { "noticed" });
        if survived {
            survivors.push(check);
        }
    }
    if survivors.is_empty() {
        println!("{} mutants, all noticed", CHECKS.len());
        return Ok(());
    }
    Err(format!("no test notices that these checks are missing: {}", survivors.join(", ")))
}

fn build(workspace: &Workspace, target: &Path, without: Option<&str>) -> Result<(), String> {
    let mut command = workspace.cargo("build");
    command.args(["--quiet", "--profile", "so", "--package", OBJECT]);
    command.env("CARGO_TARGET_DIR", target);
    if let Some(check) = without {
        command.env("RUSTFLAGS", format!("--cfg heapwright_hardened_without=\"{check}\""));
    }
    shell::run(&mut command)
}

fn passes(workspace: &Workspace, target: &Path) -> Result<bool, String> {
    let mut command: Command = workspace.cargo("test");
    command.args(["--quiet", "--package", "heapwright-capi", "--features", "preload-tests"]);
    command.args(["--test", "hardened"]);
    command.env("HEAPWRIGHT_LIB_DIR", target.join("so"));
    shell::show(&command);
    // What fails here is told by the tier; the panics of expected failures would bury it.
    let output = command.output().map_err(|error| format!("cargo test: {error}"))?;
    Ok(output.status.success())
}

//! `bench`: suites of measurements, or allocators beside each other on the bundled program.

use crate::workspace::Workspace;
use crate::{build, shell};
use std::path::Path;
use std::process::Command;

/// Suites, and the features of `crates/bench` that bring their peers.
const SUITES: [(&str, &str); 6] = [
    ("malloc", ""),
    ("record", ""),
    ("safety", ""),
    ("regions", "regions,mimalloc-2"),
    ("fragmentation", "regions,mimalloc-2"),
    ("gc", "gc-peers"),
];

/// Builds and measures: a suite of `crates/bench` with its peers, or, for anything else,
/// `heapwright compare` on the bundled program.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    if let Some(("gc-figures", words)) =
        arguments.split_first().map(|(first, rest)| (first.as_str(), rest))
    {
        return gc_figures(workspace, words);
    }
    build::run(workspace, &[])?;
    let suite = arguments.first().and_then(|word| SUITES.iter().find(|(name, _)| name == word));
    match suite {
        Some((_, features)) => run_suite(workspace, features, arguments),
        None => compare(workspace, arguments),
    }
}

/// Builds the suites' programs with `features` and runs `heapwright bench` with `words`.
fn run_suite(workspace: &Workspace, features: &str, words: &[String]) -> Result<(), String> {
    if !features.is_empty() {
        let mut build = workspace.cargo("build");
        build.args(["--release", "--package", "heapwright-bench", "--features", features]);
        shell::run(&mut build)?;
    }
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    if let Ok(output) = commit.as_ref().map(|said| String::from_utf8_lossy(&said.stdout)) {
        // Not on stdout: `--json` prints one object there.
        eprintln!("commit {}", output.trim());
    }
    let mut bench = Command::new(workspace.release().join("heapwright"));
    shell::run(bench.arg("bench").args(words).current_dir(&workspace.root))
}

/// What is left out of the collectors to measure its cost or gain: the folder of the build, and the
/// values of `heapwright_gc_without`.
const GC_WITHOUT: [(&str, &[&str]); 3] = [
    ("minor", &["minor", "touches"]),
    ("barrier", &["barrier", "scan", "touches"]),
    ("prefetch", &["prefetch"]),
];

/// Builds the collectors' suite as it is and with each of [`GC_WITHOUT`]; prints every figure that is
/// asked of the collectors beside what was measured. `words` go to `heapwright-bench-gc figures`.
fn gc_figures(workspace: &Workspace, words: &[String]) -> Result<(), String> {
    let build = |features: &str, target: &Path, flags: &str| {
        let mut build = workspace.cargo("build");
        build.args(["--release", "--package", "heapwright-bench", "--bin", "heapwright-bench-gc"]);
        build.args(["--features", features]).arg("--target-dir").arg(target);
        if !flags.is_empty() {
            build.env("RUSTFLAGS", flags);
        }
        shell::run(&mut build)
    };
    build("gc-peers", &workspace.target, "")?;
    let without = workspace.target.join("gc-without");
    for (name, values) in GC_WITHOUT {
        let flags = values.iter().map(|what| format!("--cfg heapwright_gc_without=\"{what}\""));
        build("", &without.join(name), &flags.collect::<Vec<_>>().join(" "))?;
    }
    let mut figures = Command::new(workspace.release().join("heapwright-bench-gc"));
    shell::run(figures.arg("figures").arg("--without").arg(&without).args(words))
}

fn compare(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let mut compare = Command::new(workspace.release().join("heapwright"));
    compare.arg("compare").args(arguments).arg("--");
    compare.arg(workspace.release().join("heapwright-demo"));
    shell::run(compare.current_dir(&workspace.root))
}

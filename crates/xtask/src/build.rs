//! `build`: the binary and the shared objects, side by side in `target/release`.

use crate::shell;
use crate::workspace::Workspace;
use std::fs;
use std::path::Path;

/// The peer that is built on request only: it needs a C++20 compiler. Its crate is empty without
/// the feature of the same name.
pub(crate) const OPTIONAL_PEER: &str = "heapwright-peer-snmalloc";
/// The library for C programs: its files are named for their users, and it has a header.
pub(crate) const C_LIBRARY: &str = "heapwright-c";

/// Builds what a user runs, the suites of `heapwright bench` too; with `--snmalloc` also that peer, with `--parquet` an `export` that
/// writes Parquet (a minute more).
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<(), String> {
    const KNOWN: [&str; 2] = ["--snmalloc", "--parquet"];
    if let Some(word) = arguments.iter().find(|word| !KNOWN.contains(word)) {
        return Err(format!("build: unknown argument `{word}`; it takes {}", KNOWN.join(", ")));
    }
    let with_optional = arguments.contains(&"--snmalloc");
    let mut binary = workspace.cargo("build");
    binary.args(["--release", "--package", "heapwright-cli", "--package", "heapwright-bench"]);
    if arguments.contains(&"--parquet") {
        binary.args(["--features", "heapwright-cli/parquet"]);
    }
    shell::run(&mut binary)?;
    let mut objects = workspace.cargo("build");
    // No unwinding, one unit, all in one: the profile is in the workspace's manifest.
    objects.args(["--profile", "so"]);
    let wanted = || workspace.objects().filter(|one| with_optional || one.name != OPTIONAL_PEER);
    for object in wanted() {
        objects.args(["--package", &object.name]);
    }
    if with_optional {
        objects.args(["--features", &format!("{OPTIONAL_PEER}/snmalloc")]);
    }
    shell::run(&mut objects)?;
    let mut archive = workspace.cargo("rustc");
    archive.args(["--profile", "so", "--package", C_LIBRARY, "--features", "archive"]);
    shell::run(archive.args(["--crate-type", "staticlib"]))?;
    for object in wanted() {
        let file = &object.object_file;
        let built = workspace.target.join("so").join(file);
        if object.name == C_LIBRARY {
            place(&built, &workspace.release().join("libheapwright.so"))?;
            place(&built.with_extension("a"), &workspace.release().join("libheapwright.a"))?;
            let header = object.directory.join("include/heapwright.h");
            place(&header, &workspace.release().join("heapwright.h"))?;
        } else {
            place(&built, &workspace.release().join(file))?;
        }
    }
    Ok(())
}

/// Copies to a fresh file and renames: a program that has the old one mapped keeps it whole.
fn place(from: &Path, to: &Path) -> Result<(), String> {
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh)
        .and_then(|_| fs::rename(&fresh, to))
        .map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

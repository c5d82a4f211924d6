//! `test --tier miri` and `--tier asan`: the region allocators and the collectors under what a
//! nightly toolchain has.
//! `--tier loom`: what threads share, in every order. `--tier aarch64`: malloc, emulated.

use crate::shell;
use crate::workspace::Workspace;
use std::process::Command;

/// Tests that need no mappings, interpreted: aliasing, provenance and uninitialised memory. Some
/// fifteen minutes; the collectors run on heaps of 1 MiB from the standard allocator.
/// `rustup component add miri --toolchain nightly` first.
pub(crate) fn miri(workspace: &Workspace) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "miri", "test", "--package", "heapwright-regions", "--lib"])
        .args(["--", "compacting", "bits::tests"])
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .env("CARGO_TARGET_DIR", workspace.target.join("miri"))
        .current_dir(&workspace.root);
    shell::run(&mut command)?;
    let mut collectors = Command::new("cargo");
    collectors
        .args(["+nightly", "miri", "test", "--package", "heapwright-gc", "--test", "interpreted"])
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .env("CARGO_TARGET_DIR", workspace.target.join("miri"))
        .current_dir(&workspace.root);
    shell::run(&mut collectors)
}

/// All tests of the region allocators and of the collectors with the address sanitizer, which also
/// sees use after a reset through the poisoning that `Checked` does; half an hour.
pub(crate) fn asan(workspace: &Workspace) -> Result<(), String> {
    let mut regions = sanitized(workspace, "heapwright-regions");
    // These write where they must not, which the sanitizer tells before `Checked` can.
    regions.args(["--lib", "--tests", "--", "--skip", "checked::"]);
    shell::run(&mut regions)?;
    let mut collectors = sanitized(workspace, "heapwright-gc");
    collectors.arg("--lib");
    for name in collector_tests(workspace)?.iter().filter(|name| *name != LOSES_HEAPS) {
        collectors.args(["--test", name]);
    }
    shell::run(&mut collectors)?;
    let mut losing = sanitized(workspace, "heapwright-gc");
    losing.args(["--test", LOSES_HEAPS]);
    let options = format!("{ASAN_OPTIONS}:detect_leaks=0");
    shell::run(losing.env("ASAN_OPTIONS", options))
}

/// A heap that is lost by a panic drops nothing, by contract: what its objects owned leaks.
const LOSES_HEAPS: &str = "faults";
/// Tests that end by these signals look at how.
const ASAN_OPTIONS: &str = "handle_sigbus=0:handle_segv=0";

fn sanitized(workspace: &Workspace, package: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "test", "--package", package])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("ASAN_OPTIONS", ASAN_OPTIONS)
        .env("CARGO_TARGET_DIR", workspace.target.join("asan"))
        .current_dir(&workspace.root);
    command
}

/// The names of the collectors' test programs.
fn collector_tests(workspace: &Workspace) -> Result<Vec<String>, String> {
    let directory = workspace.root.join("crates/gc/tests");
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Locks, queues, the states of spans and outboxes, pools' lists in every order that the models' bounds
/// allow: half a minute once built.
pub(crate) fn loom(workspace: &Workspace) -> Result<(), String> {
    let mut command = workspace.cargo("test");
    command
        .args(["--release", "--package", "heapwright-sync", "--lib"])
        .args(["--test", "pending_model", "--test", "owner_model", "--test", "magazine_model"])
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", workspace.target.join("loom"));
    shell::run(&mut command)
}

/// The allocator's tests built for aarch64 and emulated by qemu-user, as far as the emulator goes:
/// it has no ptrace and no `move_pages`, ignores what is to be wiped in a child, and takes twenty
/// seconds to reserve 1 TiB, hence `-R`. Needs `rustup target add aarch64-unknown-linux-gnu`, a
/// cross compiler with its libc, and qemu-aarch64-static.
pub(crate) fn aarch64(workspace: &Workspace) -> Result<(), String> {
    const TESTS: [&str; 4] = ["zones", "options_table", "limits", "sampling"];
    let mut command = workspace.cargo("test");
    command.args(["--target", "aarch64-unknown-linux-gnu", "--lib"]);
    for name in ["core", "sync", "malloc"] {
        command.args(["--package", &format!("heapwright-{name}")]);
    }
    for test in TESTS {
        command.args(["--test", test]);
    }
    command
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            "qemu-aarch64-static -R 16G -L /usr/aarch64-linux-gnu",
        )
        .env("CARGO_TARGET_DIR", workspace.target.join("aarch64"));
    shell::run(&mut command)
}

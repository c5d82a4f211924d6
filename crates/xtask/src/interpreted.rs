//! `test --tier miri` and `--tier asan`: the region allocators under what a nightly toolchain has.
//! `--tier loom`: what threads share, in every order. `--tier aarch64`: malloc, emulated.

use crate::shell;
use crate::workspace::Workspace;
use std::process::Command;

/// Tests that need no mappings, interpreted: aliasing, provenance and uninitialised memory. Some
/// ten minutes. `rustup component add miri --toolchain nightly` first.
pub(crate) fn miri(workspace: &Workspace) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "miri", "test", "--package", "heapwright-regions", "--lib"])
        .args(["compacting", "bits::tests"])
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .env("CARGO_TARGET_DIR", workspace.target.join("miri"))
        .current_dir(&workspace.root);
    shell::run(&mut command)
}

/// All tests of the region allocators with the address sanitizer, which also sees use after a
/// reset through the poisoning that `Checked` does.
pub(crate) fn asan(workspace: &Workspace) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "test", "--package", "heapwright-regions", "--lib", "--tests"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        // These write where they must not, which the sanitizer tells before `Checked` can.
        .args(["--", "--skip", "checked::"])
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // Tests that end by these signals look at how.
        .env("ASAN_OPTIONS", "handle_sigbus=0:handle_segv=0")
        .env("CARGO_TARGET_DIR", workspace.target.join("asan"))
        .current_dir(&workspace.root);
    shell::run(&mut command)
}

/// Locks, queues and the states of spans and outboxes in every order that the models' bounds
/// allow: half a minute once built.
pub(crate) fn loom(workspace: &Workspace) -> Result<(), String> {
    let mut command = workspace.cargo("test");
    command
        .args(["--release", "--package", "heapwright-sync", "--lib", "--test", "pending_model"])
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", workspace.target.join("loom"));
    shell::run(&mut command)
}

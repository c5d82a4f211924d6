//! The n-th system call for memory that the allocator makes fails: see `life/faults.c`. Quickly
//! for some n, in the tier `faults` for every one.
#![cfg(target_arch = "x86_64")]

mod built;

use built::{compile_as, object};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const OURS: &str = "libheapwright_preload.so";
/// The calls that are made to fail where there is a region, and where there is none.
const WITH_PLENTY: [&str; 5] = ["mmap", "mremap", "mprotect", "madvise", "membarrier"];
const WITH_LITTLE: [&str; 2] = ["mmap", "munmap"];

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile_as("cc", "life/faults.c", "faults", &["-O2", "-ldl"]))
}

/// Runs the program with every `stride`th call failing: that one alone (`one`), or with all after
/// it (`all`).
#[track_caller]
fn programs_end_well(how: &str, space: &str, stride: u32) {
    let mut command = Command::new(program());
    command.arg(object(OURS)).args([how, space, "1", &stride.to_string()]);
    let output = command.env("HEAPWRIGHT_PURGER", "0").output().expect("it starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {complaint}", output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    if said == "refused\n" {
        return println!("skipped: the kernel lets nobody filter system calls here");
    }
    println!("{how} {space}: {said}");
    let words: Vec<&str> = said.split_whitespace().collect();
    let kinds: &[&str] = if space == "plenty" { &WITH_PLENTY } else { &WITH_LITTLE };
    for kind in kinds {
        let at = words.iter().position(|word| word == kind).expect("a count of each kind");
        assert_ne!(words[at + 1], "0", "no {kind} was made: {said}");
    }
}

#[test]
fn a_call_that_fails_once_breaks_nothing() {
    programs_end_well("one", "plenty", 61);
    programs_end_well("one", "little", 397);
}

#[test]
fn calls_that_fail_for_ever_break_nothing() {
    programs_end_well("all", "plenty", 61);
    programs_end_well("all", "little", 397);
}

#[test]
#[ignore = "long tier: faults, five minutes"]
fn tier_faults_of_every_call() {
    for how in ["one", "all"] {
        programs_end_well(how, "plenty", 1);
        programs_end_well(how, "little", 7);
    }
}

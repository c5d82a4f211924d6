//! Hardened mode: every error of `hardened.cpp` is told in one line and ends the program, and the
//! same program without it runs as if nothing were there.
//!
//! Each check of the heap is the only one that finds some case here: without it a test fails. The
//! tier `mutants` of xtask shows that.

mod built;

use built::{compile_as, expect_fine, object};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let flags = ["-std=c++17", "-fsized-deallocation"];
        compile_as("c++", "hardened.cpp", "hardened", &flags)
    })
}

fn run(case: u32, twin: &str, options: &str) -> Output {
    let mut command = Command::new(program());
    command.args([&case.to_string(), twin]);
    command.env("LD_PRELOAD", object("libheapwright_hardened.so"));
    command.env("HEAPWRIGHT_HARDENED", options).output().expect("it starts")
}

/// The good twin is left alone, the bad one is told `line` and ends by `signal`.
#[track_caller]
fn expect_told(case: u32, line: &str, signal: i32) {
    expect_fine(&run(case, "good", ""));
    let output = run(case, "bad", "");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(signal), "case {case}: {:?}, {told}", output.status);
    assert!(told.contains(line), "case {case}: {told}");
    if signal == SIGABRT {
        assert!(told.starts_with("heapwright: ") && told.trim_end().lines().count() == 1, "{told}");
        assert!(told.contains("address 0x") && told.contains("thread "), "{told}");
    }
}

#[test]
fn a_double_free_ends_the_program() {
    expect_told(1, "double free", SIGABRT);
    expect_told(2, "double free", SIGABRT);
}

#[test]
fn an_overflow_of_one_zero_byte_is_found_by_free() {
    expect_told(3, "a block of 10 bytes by malloc was written to just behind its end", SIGABRT);
    expect_told(4, "a block of 100000 bytes", SIGABRT);
}

#[test]
fn an_overflow_is_found_by_realloc() {
    expect_told(5, "noticed at realloc", SIGABRT);
}

#[test]
fn a_write_after_free_is_found_at_the_reuse() {
    expect_told(6, "write after free: byte 72", SIGABRT);
    expect_told(21, "write after free: byte 63", SIGABRT);
    expect_told(22, "write after free: byte 135", SIGABRT);
}

#[test]
fn what_is_no_block_is_not_freed() {
    expect_told(7, "16 bytes inside a block of 100 bytes", SIGABRT);
    expect_told(8, "no block of this heap", SIGABRT);
}

#[test]
fn families_and_sizes_must_fit() {
    expect_told(9, "a block of 4 bytes by operator new was given to free", SIGABRT);
    expect_told(10, "a block of 30 bytes by operator new[] was given to operator delete", SIGABRT);
    expect_told(11, "a block of 48 bytes by operator new was given back as one of 40", SIGABRT);
}

#[test]
fn the_size_of_a_freed_block_is_not_told() {
    expect_told(12, "size asked of what is no live block", SIGABRT);
}

#[test]
fn guards_stop_what_runs_over_a_span_or_a_large_block() {
    expect_told(13, "", SIGSEGV);
    expect_told(14, "", SIGSEGV);
}

#[test]
fn a_write_before_a_block_is_found_at_the_end() {
    expect_fine(&run(15, "good", "sweep=1"));
    let output = run(15, "bad", "sweep=1");
    let told = String::from_utf8_lossy(&output.stderr);
    // Before the first slot of a span there is a guard.
    let is_told = told.contains("noticed at exit") && output.status.signal() == Some(SIGABRT);
    assert!(is_told || output.status.signal() == Some(SIGSEGV), "{:?}: {told}", output.status);
}

#[test]
fn freed_memory_waits_is_zeroed_and_comes_back_in_no_order() {
    for case in [16, 17, 18] {
        expect_fine(&run(case, "good", ""));
    }
}

#[test]
fn a_wide_slot_waits_and_is_no_thread_s() {
    expect_fine(&run(28, "good", ""));
}

/// Around a page that is touched the kernel maps up to 64 KiB of a file, and that counts as
/// resident: `crates/preload-hardened/cold.ld`.
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
#[test]
fn what_every_program_runs_lies_in_one_window() {
    let object = object("libheapwright_hardened.so");
    let output = Command::new("readelf").arg("-SW").arg(object).output().expect("readelf");
    let sections = String::from_utf8_lossy(&output.stdout);
    let place = |name: &str| {
        let line = sections.lines().find(|line| line.contains(name)).expect("a section");
        let numbers = line.split_once("PROGBITS").expect("its type").1.split_whitespace();
        let numbers: Vec<_> =
            numbers.take(3).map(|word| u64::from_str_radix(word, 16).expect("a number")).collect();
        (numbers[0], numbers[0] + numbers[2])
    };
    assert!(place(" .text ").1 <= 0x1_0000, "{:x?}", place(" .text "));
    assert_eq!(place(" heapwright_read ").0, 0x2_0000, "what follows lies behind a hole");
    assert!(place(" heapwright_cold ").0 > 0x2_0000);
}

#[test]
fn a_freed_large_block_stays_closed_while_its_pages_are_used_again() {
    expect_fine(&run(23, "good", ""));
    expect_told(24, "", SIGSEGV);
}

#[test]
fn all_of_a_freed_block_is_zeroed_and_looked_at_when_that_is_asked_for() {
    expect_fine(&run(25, "bad", ""));
    expect_fine(&run(25, "good", "zero=all"));
    let output = run(25, "bad", "sweep=1,zero=all");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{told}");
    assert!(told.contains("write after free: byte 900"), "{told}");
    let output = run(27, "bad", "zero=all");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("write after free: byte 72"), "{told}");
    expect_fine(&run(26, "good", "zero=all"));
    // Otherwise it is: this is what the option changes.
    assert_eq!(run(26, "good", "").status.code(), Some(7));
    expect_fine(&run(20, "good", "sweep=1,zero=all"));
}

#[test]
fn threads_and_forks_run_as_ever() {
    expect_fine(&run(20, "good", "sweep=1"));
}

#[test]
fn handlers_of_fork_may_allocate_and_wait_for_who_does() {
    let program = compile_as("cc", "life/processes.c", "processes_hardened", &[]);
    for (case, count) in [
        ("fork_under_load", "50"),
        ("fork_handlers_that_allocate", "50"),
        ("fork_handlers_that_wait_for_who_allocates", "2"),
        ("fork_while_files_are_flushed", "50"),
        ("handlers_of_signals_that_fork", "400"),
    ] {
        let mut command = Command::new(&program);
        command.args([case, count, "60"]);
        expect_fine(&built::run_under(&object("libheapwright_hardened.so"), &mut command));
    }
}

#[test]
fn the_user_chooses_what_follows() {
    let output = run(1, "bad", "on-error=exit:42");
    assert_eq!(output.status.code(), Some(42));
    let output = run(19, "bad", "on-error=continue");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fine\n");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.lines().count(), 2, "the overflow and the double free: {told}");
    let file = built::directory().join("told");
    let output = run(1, "bad", &format!("log={}", file.display()));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let told = std::fs::read_to_string(file).expect("the report");
    assert!(told.starts_with("heapwright: double free"), "{told}");
}

#[test]
fn the_rules_of_c_and_of_cpp_hold() {
    let object = object("libheapwright_hardened.so");
    for (compiler, source) in [("cc", "conformance.c"), ("c++", "operators.cpp")] {
        let program = compile_as(compiler, source, &format!("{source}_hardened"), &[]);
        let output = built::run_under(&object, &mut Command::new(program));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{source}: {told}");
        assert_eq!(told, "", "{source}");
    }
}

#[test]
fn little_address_space_is_enough() {
    for limit in [4_000_000, 600_000, 200_000] {
        let mut command = Command::new("sh");
        let words = ["-c", "ulimit -v $0 && exec \"$1\" 3 good", &limit.to_string()];
        command.args(words).arg(program());
        expect_fine(&built::run_under(&object("libheapwright_hardened.so"), &mut command));
    }
}

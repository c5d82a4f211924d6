//! The twenty things that break preloaded allocators, a test each; the numbers are those of
//! `docs/design/preload.md#pitfalls`.

mod built;

use built::{compile_as, directory, expect_fine, object, run_under};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const OURS: &str = "libheapwright_preload.so";

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        compile_as("cc", "life/plugin.c", "plugin.so", &["-shared", "-fPIC"]);
        compile_as("cc", "life/pitfalls.c", "pitfalls", &["-ldl"])
    })
}

#[track_caller]
fn case_is_fine(name: &str) {
    expect_fine(&run_under(&object(OURS), Command::new(program()).arg(name)));
}

#[test]
fn p01_partial_symbol_set() {
    case_is_fine("partial_symbol_set");
}

#[test]
fn p02_doubles_of_libc() {
    case_is_fine("doubles_of_libc");
}

#[test]
fn p03_foreign_pointers() {
    case_is_fine("foreign_pointers");
}

#[test]
fn p04_wrong_size_at_delete() {
    case_is_fine("wrong_size_at_delete");
}

#[test]
fn p05_calloc_inside_dlsym() {
    case_is_fine("calloc_inside_dlsym");
}

#[test]
fn p06_calloc_inside_thread_exit_registration() {
    case_is_fine("calloc_inside_thread_exit_registration");
}

#[test]
fn p07_tls_of_what_is_loaded_later() {
    case_is_fine("tls_of_what_is_loaded_later");
}

#[test]
fn p08_static_tls_fits_when_loaded_late_and_twice() {
    case_is_fine("a_second_copy_in_a_namespace");
    let readelf = Command::new("readelf").arg("-lW").arg(object(OURS)).output().expect("readelf");
    let text = String::from_utf8_lossy(&readelf.stdout).into_owned();
    let line = text.lines().find(|line| line.trim_start().starts_with("TLS")).expect("a segment");
    let bytes = line.split_whitespace().nth(5).and_then(|word| word.strip_prefix("0x"));
    let bytes = u32::from_str_radix(bytes.expect("a size"), 16).expect("a number");
    // glibc keeps 1,664 bytes for objects that are loaded late; others want some too.
    assert!(bytes <= 1024, "{bytes} bytes of thread-local storage");
}

#[test]
fn p09_early_and_late_calls() {
    case_is_fine("early_and_late_calls");
}

#[test]
fn p10_frees_after_the_thread_destructor() {
    case_is_fine("frees_after_the_thread_destructor");
}

// p11, fork with locks held, is `processes.rs`.

#[test]
fn p12_signal_handlers_that_allocate() {
    let mut command = Command::new(program());
    let output = run_under(&object(OURS), command.arg("signal_handlers_that_allocate"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    // Either it went well, or it was stopped with one line: never a process that hangs.
    if output.status.success() {
        assert_eq!((&*output.stdout, &*complaint), (&b"fine\n"[..], ""));
    } else {
        assert!(
            complaint.starts_with("heapwright: malloc called in a signal handler"),
            "{complaint}"
        );
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

#[test]
fn p13_errno_is_left_alone() {
    case_is_fine("errno_is_left_alone");
}

#[test]
fn p14_sizes_of_nothing_and_too_much() {
    // All of conformance.c is about it, `limits` above all; here, with the smallest address space.
    let program = compile_as("cc", "conformance.c", "conformance", &[]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 1000000 && exec $0"]).arg(program);
    let output = run_under(&object(OURS), &mut command);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.stdout, b"conforms\n");
}

#[test]
fn p15_alignment_that_code_assumes() {
    case_is_fine("alignment_that_code_assumes");
}

#[test]
fn p16_usable_bytes_are_the_callers() {
    case_is_fine("usable_bytes_are_the_callers");
}

#[test]
fn p17_little_address_space_and_forbidden_calls() {
    case_is_fine("fragmented_address_space");
    case_is_fine("no_mappings_left");
    // In KiB: the region is halved; there is hardly any; there is none.
    for limit in ["40000000", "700000", "120000"] {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v $1 && exec $0 little_address_space"]).arg(program());
        expect_fine(&run_under(&object(OURS), command.arg(limit)));
    }
    // EPERM, ENOSYS, EACCES.
    for errno in ["1", "38", "13"] {
        let mut command = Command::new(program());
        command.args(["calls_that_a_sandbox_forbids", errno]);
        expect_fine(&run_under(&object(OURS), &mut command));
    }
}

#[test]
fn p18_secure_programs_and_no_environment() {
    case_is_fine("environment_is_read_without_allocating");
    // A program that changes its user: the loader leaves the object out, and it runs as ever.
    let copy = directory().join("secure");
    std::fs::copy("/bin/cat", &copy).expect("copied");
    if chown(&copy, Some(65534), None).is_err() {
        return eprintln!("skipped in part: only root can make a setuid program of another user");
    }
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).expect("the mode");
    std::fs::set_permissions(directory(), std::fs::Permissions::from_mode(0o755))
        .expect("the mode");
    let output = run_under(&object(OURS), Command::new(&copy).arg("/proc/version"));
    assert!(output.status.success() && output.stdout.starts_with(b"Linux"), "{output:?}");
}

#[test]
fn p19_valgrind_and_sanitizers_keep_their_own_allocator() {
    let program = compile_as("cc", "life/overrun.c", "overrun", &[]);
    if let Ok(plain) = Command::new("valgrind").arg("--version").output() {
        assert!(plain.status.success());
        let output = Command::new("valgrind")
            .args(["-q", "--trace-children=no", "--error-exitcode=9"])
            .arg(&program)
            .env("LD_PRELOAD", object(OURS))
            .output()
            .expect("valgrind starts");
        let report = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(9), "{report}");
        assert!(
            report.contains("Invalid write") && report.contains("0 bytes after a block"),
            "{report}"
        );
    }
    // clang links its sanitizer into the program, where its malloc comes before ours.
    let has_clang = Command::new("clang").arg("--version").output().is_ok();
    if has_clang {
        let program = compile_as("clang", "life/overrun.c", "asan", &["-fsanitize=address"]);
        let mut command = Command::new(program);
        // The program's sanitizer wants to be first; it says so itself when it is not.
        let output =
            run_under(&object(OURS), command.env("ASAN_OPTIONS", "verify_asan_link_order=0"));
        let report = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(report.contains("heap-buffer-overflow"), "{report}");
    }
}

#[test]
fn p20_two_allocators_in_one_process() {
    case_is_fine("deepbind");
    // A program linked with libjemalloc asks us, not it: see jemalloc.c.
    let Ok(output) = Command::new("redis-server").arg("--version").output() else { return };
    assert!(output.status.success());
    let mut command = Command::new("redis-server");
    let output = run_under(&object(OURS), command.args(["--test-memory", "1"]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("passed this test"), "{output:?}");
}

//! Mode compact, as a program meets it: where it cannot work it says why and is mode fast; forks,
//! spawns and a debugger see every byte.
//!
//! What this machine allows decides what can be asserted: without userfaultfd nothing is merged
//! anywhere, and the tests hold for that, too. The long tier `cargo xtask test --tier compact` runs
//! the programs of `programs.rs` and the forks of `processes.rs` in this mode.

mod built;

use built::{compile_as, directory, expect_fine, object, run_under};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const WORKS: &str = "works";
const NO_FAULTS: &str = "refused: no userfaultfd that moves pages (Linux 6.8)";
const NO_RIGHT: &str = "refused: threads, and no CAP_SYS_PTRACE";
const NO_HELPER: &str = "refused: no helper thread with descriptors of its own";
const NO_FILE: &str = "refused: no memfd";
const NO_MAPPINGS: &str = "paused: mappings used up";

fn compact() -> PathBuf {
    object("libheapwright_compact.so")
}

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile_as("cc", "life/merging.c", "merging", &[]))
}

/// What the case `name` says of merging; it looks at every byte itself.
#[track_caller]
fn state_in(name: &str, settings: &[(&str, &str)]) -> String {
    state_of(program(), name, settings)
}

#[track_caller]
fn state_of(program: &Path, name: &str, settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(program);
    command.arg(name).envs(settings.iter().copied());
    let output = run_under(&compact(), &mut command);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {:?}: {complaint}", output.status);
    assert_eq!(complaint, "", "{name}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.get(1), Some(&"fine"), "{name}: {said}");
    lines[0].to_owned()
}

/// Asserts that the case says `expected`, if merging works here at all (`with_threads`: with
/// threads).
#[track_caller]
fn falls_back(name: &str, settings: &[(&str, &str)], with_threads: bool, expected: &str) {
    let usual = state_in(if with_threads { "threads" } else { "alone" }, &[]);
    let found = state_in(name, settings);
    if usual == WORKS {
        assert_eq!(found, expected, "{name}");
    } else {
        println!("merging {usual} here; {name}: {found}");
        assert_ne!(found, WORKS, "{name}");
    }
}

#[test]
fn merging_works_or_says_why_not() {
    let alone = state_in("alone", &[]);
    assert!([WORKS, NO_FAULTS, NO_FILE].contains(&alone.as_str()), "{alone}");
    let threads = state_in("threads", &[]);
    let known = [WORKS, NO_FAULTS, NO_RIGHT, NO_HELPER, NO_FILE];
    assert!(known.contains(&threads.as_str()), "{threads}");
    println!("alone: {alone}; with threads: {threads}");
}

#[test]
fn beside_threads_that_allocate_nothing_it_works_unasked() {
    assert_eq!(state_in("helpers", &[]), state_in("threads", &[]));
}

#[test]
fn much_thread_local_storage_does_not_keep_the_helper_away() {
    let name = "merging_with_storage";
    let program = compile_as("cc", "life/merging.c", name, &["-DLARGE_STORAGE"]);
    assert_eq!(state_of(&program, "threads", &[]), state_in("threads", &[]));
}

#[test]
fn it_is_off_when_the_environment_says_so() {
    assert_eq!(state_in("alone", &[("HEAPWRIGHT_MERGE", "0")]), "off");
    assert_eq!(state_in("threads", &[("HEAPWRIGHT_MERGE", "0")]), "off");
}

#[test]
fn without_userfaultfd_it_is_mode_fast() {
    falls_back("no_faults", &[], false, NO_FAULTS);
}

#[test]
fn without_memfd_it_is_mode_fast() {
    falls_back("no_file", &[], false, NO_FILE);
}

#[test]
fn where_files_may_not_be_long_it_is_mode_fast() {
    falls_back("short_files", &[], false, NO_FILE);
}

#[test]
fn without_rights_it_merges_as_long_as_there_is_one_thread() {
    falls_back("no_rights", &[], true, NO_RIGHT);
    let alone = state_in("alone", &[]);
    assert_eq!(state_in("no_rights_alone", &[]), alone);
}

#[test]
fn without_a_helper_it_is_mode_fast() {
    falls_back("threads", &[("HEAPWRIGHT_PURGER", "0")], true, NO_HELPER);
    falls_back("no_descriptors", &[], true, NO_HELPER);
}

#[test]
fn when_mappings_are_used_up_it_pauses() {
    let found = state_in("no_mappings", &[]);
    if found == "too many mappings" {
        println!("{found}");
    } else {
        let alone = state_in("alone", &[]);
        assert!(found == NO_MAPPINGS || alone != WORKS && found == alone, "{found}");
    }
}

#[test]
fn vfork_and_exec_see_every_byte() {
    println!("merging {}", state_in("vfork_exec", &[]));
}

#[test]
fn every_c_function_keeps_its_rules_while_everything_is_merged() {
    let program = compile_as("cc", "conformance.c", "conformance_merged", &[]);
    let mut command = Command::new(program);
    command.env("HEAPWRIGHT_MERGE_FORCED_MS", "1");
    let output = run_under(&compact(), &mut command);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {complaint}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "conforms\n", "{complaint}");
}

#[test]
fn forks_of_every_kind_while_everything_is_merged() {
    let processes = compile_as("cc", "life/processes.c", "processes_merged", &[]);
    for (case, count) in [
        ("fork_under_load", 40),
        ("plain_fork_under_load", 20),
        ("raw_fork_under_load", 20),
        ("vfork_that_allocates", 40),
        ("storm_of_spawns", 40),
    ] {
        let mut command = Command::new(&processes);
        command.arg(case).args([count.to_string(), "60".to_owned()]);
        command.env("HEAPWRIGHT_MERGE_FORCED_MS", "1");
        expect_fine(&run_under(&compact(), &mut command));
    }
}

/// The debugger reads and writes merged memory while it is merged again, with the program stopped
/// in between as debuggers do.
#[test]
fn a_debugger_reads_and_writes_merged_memory() {
    let has_gdb = Command::new("gdb").arg("--version").output().is_ok_and(|it| it.status.success());
    if !has_gdb {
        println!("left out: gdb is not installed");
        return;
    }
    let mut command = Command::new(program());
    command.arg("debugged").env("LD_PRELOAD", compact()).current_dir(directory());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it says something");
    assert_eq!(line, "ready\n");
    let set = "set var watched[7] = 201";
    let output = Command::new("gdb")
        .args(["--batch", "--nx", "-p", &child.id().to_string()])
        .args(["-ex", "print watched[6]", "-ex", set, "-ex", "print watched[7]"])
        .args(["-ex", "set var is_over = 1", "-ex", "detach"])
        .stdin(Stdio::null())
        .output()
        .expect("gdb starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.contains("= 201") {
        println!("left out: gdb could not attach: {}", String::from_utf8_lossy(&output.stderr));
        child.kill().expect("killed");
        child.wait().expect("waited for");
        return;
    }
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("text");
    let status = child.wait().expect("waited for");
    assert!(status.success(), "{status:?}: {rest}");
    assert!(rest.ends_with("fine\n"), "{rest}");
}

/// Registered buffers pin pages: the kernel goes on using those, whatever the addresses show.
#[test]
fn rings_with_registered_buffers_keep_their_memory() {
    const CASES: [&str; 5] =
        ["registered", "registered_threads", "waiting", "waiting_threads", "forbidden"];
    let program = compile_as("cc", "life/rings.c", "rings", &[]);
    let plain = Command::new(&program).arg("has").output().expect("it starts");
    let (has_buffers, has_rings) =
        (plain.stdout.starts_with(b"buffers"), !plain.stdout.starts_with(b"nothing"));
    for case in CASES {
        for forced_ms in [None, Some("1")] {
            let mut command = Command::new(&program);
            command.arg(case).envs(forced_ms.map(|ms| ("HEAPWRIGHT_MERGE_FORCED_MS", ms)));
            let output = run_under(&compact(), &mut command);
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{case}: {:?}: {complaint}", output.status);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.ends_with("fine\n"), "{case}: {said}");
            // The first line says whether the kernel has rings for us, and whether merging works.
            println!("{case}: {}", said.lines().next().unwrap_or_default());
            let is_there = match case {
                "forbidden" => false,
                "waiting" | "waiting_threads" => has_rings,
                _ => has_buffers,
            };
            assert_eq!(said.starts_with("no io_uring"), !is_there, "{case}: {said}");
        }
    }
}

//! Check mode end to end (feature `preload-tests`, after `cargo xtask build`): programs of the
//! safety corpus, each with its error and without.
#![cfg(feature = "preload-tests")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn heapwright() -> Command {
    heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"))
}

fn compile(directory: &Path, source: &Path, more: &[&str]) -> PathBuf {
    let program = directory.join(format!("program-{}", more.len()));
    let cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let output = Command::new(if cpp { "c++" } else { "cc" })
        .args(["-g", "-O0", "-fno-builtin", "-w", "-DBYTES=24"])
        .args(more)
        .arg(source)
        .arg("-o")
        .arg(&program)
        .output()
        .expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Both twins of a corpus program.
fn twins(directory: &Path, name: &str) -> [PathBuf; 2] {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/safety").join(name);
    [compile(directory, &source, &["-DBAD"]), compile(directory, &source, &[])]
}

fn check(program: &Path, options: &[&str]) -> Output {
    let mut command = heapwright();
    command.args(["run", "--mode", "check"]).args(options).arg("--").arg(program);
    command.output().expect("heapwright starts")
}

fn findings(program: &Path, options: &[&str]) -> Vec<Value> {
    let mut all = vec!["--json"];
    all.extend(options);
    let output = check(program, &all);
    let value: Value = serde_json::from_slice(&output.stdout).expect("one object");
    value["findings"].as_array().expect("findings").clone()
}

fn function(finding: &Value, stack: &str) -> String {
    let frames = match stack {
        "stack" => &finding["stack"],
        _ => &finding["block"][stack],
    };
    frames[0]["function"].as_str().unwrap_or_default().to_owned()
}

/// What the loader has to tell lives until the loader is asked again: not by us, who look for
/// `__vfprintf_chk` while the text is being printed.
#[test]
fn the_text_of_dlerror_outlives_what_prints_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("program");
    let source = r#"
        #include <dlfcn.h>
        #include <stdio.h>
        int main(void) {
            if (dlopen("/nowhere/to/be/found.so", RTLD_NOW) != NULL) return 1;
            printf("told: %s\n", dlerror());
            return 0;
        }"#;
    let flags = ["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fbuiltin"];
    heapwright_testkit::compile_c(source, &program, &flags);
    let output = check(&program, &[]);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.starts_with("told: /nowhere/to/be/found.so: cannot open"), "{out}{err}");
    assert_eq!(output.status.code(), Some(0), "{err}");
}

#[test]
fn each_kind_of_error_is_told_with_its_places_and_its_twin_is_left_alone() {
    // Program, kind, innermost functions of access, allocation and free.
    let expected = [
        ("overflow_read.c", "overflow", ["bug", "make", ""]),
        ("overflow_write.c", "overwritten-after", ["drop", "make", ""]),
        ("underflow_write.c", "overwritten-before", ["drop", "make", ""]),
        ("use_after_free_read.c", "use-after-free", ["bug", "make", "drop"]),
        ("use_after_free_write.c", "use-after-free", ["bug", "make", "drop"]),
        ("double_free.c", "double-free", ["bug", "make", "drop"]),
        ("invalid_free.c", "invalid-free", ["bug", "make", ""]),
        ("memcpy_overflow.c", "overflow", ["bug", "make", ""]),
        ("strlen_overread.c", "overflow", ["bug", "make", ""]),
        ("printf_overread.c", "overflow", ["bug", "make", ""]),
        ("wcscpy_overflow.c", "overflow", ["bug", "make", ""]),
        ("leak.c", "leak", ["make", "make", ""]),
        ("free_of_new.cpp", "mismatched-free", ["bug", "main", ""]),
        ("delete_as_other.cpp", "wrong-size-free", ["bug", "main", ""]),
    ];
    for (name, kind, functions) in expected {
        let directory = tempfile::tempdir().expect("a directory");
        let [bad, good] = twins(directory.path(), name);
        let found = findings(&bad, &[]);
        let first = found.first().unwrap_or_else(|| panic!("{name}: nothing found"));
        assert_eq!(first["kind"], kind, "{name}");
        let stacks = ["stack", "alloc_stack", "free_stack"].map(|stack| function(first, stack));
        assert_eq!(stacks, functions, "{name}");
        assert!(first["stack"][0]["line"].as_u64() > Some(0), "{name}: {first}");
        assert_eq!(findings(&good, &[]), Vec::<Value>::new(), "{name}");
    }
}

#[test]
fn the_other_side_and_unset_bytes_take_further_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let [bad, good] = twins(directory.path(), "underflow_read.c");
    assert!(findings(&bad, &[]).is_empty(), "a read below a block that ends at its guard");
    assert_eq!(findings(&bad, &["--both"])[0]["kind"], "underflow");
    assert!(findings(&good, &["--both"]).is_empty());
    let [bad, good] = twins(directory.path(), "uninitialised.c");
    let found = findings(&bad, &["--uninit"]);
    assert_eq!(found[0]["kind"], "uninitialised");
    assert_eq!(function(&found[0], "stack"), "main", "the site that made the block");
    assert!(findings(&good, &["--uninit"]).is_empty());
}

#[test]
fn a_clean_run_prints_nothing_of_ours_and_keeps_its_status() {
    let shell = ["run", "--mode", "check", "--", "/bin/sh", "-c", "echo text; exit 5"];
    let output = heapwright().args(shell).output().expect("heapwright starts");
    assert_eq!(output.status.code(), Some(5));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"text\n"[..], &b""[..]));
}

#[test]
fn findings_decide_the_status_only_when_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let [bad, good] = twins(directory.path(), "double_free.c");
    assert_eq!(check(&bad, &[]).status.code(), Some(0), "the program goes on");
    assert_eq!(check(&bad, &["--error-exit", "9"]).status.code(), Some(9));
    assert_eq!(check(&good, &["--error-exit", "9"]).status.code(), Some(0));
    let [bad, _] = twins(directory.path(), "overflow_read.c");
    assert_eq!(check(&bad, &[]).status.code(), Some(139), "it ends as by any bad access");
    assert_eq!(check(&bad, &["--keep-going"]).status.code(), Some(0));
}

#[test]
fn options_of_this_mode_are_refused_in_others() {
    let output = heapwright().args(["run", "--both", "--", "/bin/true"]).output().expect("starts");
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("need --mode check"));
}

#[test]
fn suppressed_findings_do_not_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let [bad, _] = twins(directory.path(), "leak.c");
    let file = directory.path().join("known");
    std::fs::write(&file, "# The one we know.\nleak:mak*\n").expect("written");
    let file = file.to_str().expect("a path");
    let output = check(&bad, &["--error-exit", "9", "--suppressions", file]);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_report_says_what_where_and_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let [bad, _] = twins(directory.path(), "memcpy_overflow.c");
    let file = directory.path().join("report");
    let output = check(&bad, &["--report", file.to_str().expect("a path")]);
    assert!(output.stderr.is_empty(), "all of it is in the file");
    let text = std::fs::read_to_string(file).expect("a report");
    let first = text.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        "heapwright: overflow: a write of 1 byte right behind the end of a block of 24 bytes, in \
         memcpy"
    );
    for part in ["accessed at\n    bug ", "allocated by malloc", "cause: ", "next: ", "-fsanitize"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

const LIFE: &str = r#"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static sigjmp_buf back;
static void on_fault(int signal) { (void)signal; siglongjmp(back, 1); }
static void *work(void *seed) {
    unsigned state = (unsigned)(size_t)seed;
    char *blocks[64] = {0};
    for (int i = 0; i < 4000; i++) {
        state = state * 1103515245 + 12345;
        int at = state >> 16 & 63;
        size_t bytes = (state >> 8) % 3000;
        if (state & 1) { free(blocks[at]); blocks[at] = malloc(bytes); memset(blocks[at], i, bytes); }
        else blocks[at] = realloc(blocks[at], bytes + 1);
    }
    for (int i = 0; i < 64; i++) free(blocks[i]);
    return 0;
}
static int deep(int depth) { char room[64]; memset(room, depth, 64); free(malloc(depth));
    return depth ? deep(depth - 1) + room[3] : 0; }
int main(int argc, char **argv) {
    if (argc > 1) { free(malloc(3)); return 7; }
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, (void *)i);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) { free(malloc(100)); work((void *)99); _exit(3); }
        int status; waitpid(child, &status, 0);
        if (WEXITSTATUS(status) != 3) return 1;
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    if (fork() == 0) { execl(argv[0], argv[0], "again", (char *)0); _exit(1); }
    int status; wait(&status);
    if (WEXITSTATUS(status) != 7) return 2;
    struct sigaction action = {0}, old;
    action.sa_handler = on_fault;
    sigaction(SIGSEGV, &action, &old);
    if (old.sa_handler != SIG_DFL) return 3;
    if (sigsetjmp(back, 1) == 0) { *(volatile int *)16 = 1; return 4; }
    deep(20000);
    char *huge = malloc((size_t)3 << 30);
    huge[(size_t)2 << 30] = 1;
    free(huge);
    void *aligned = 0;
    if (posix_memalign(&aligned, 1 << 20, 100) || (size_t)aligned % (1 << 20)) return 5;
    free(aligned);
    puts("lived");
    return 0;
}
"#;

#[test]
fn threads_forks_exec_handlers_recursion_and_huge_blocks_run_clean() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("life.c");
    std::fs::write(&source, LIFE).expect("written");
    let program = compile(directory.path(), &source, &["-lpthread"]);
    let output = check(&program, &["--error-exit", "99"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(output.stdout, b"lived\n");
    assert_eq!(text, "");
}

#[test]
fn real_programs_print_the_same() {
    let commands: [&[&str]; 3] = [
        &["sh", "-c", "ls /usr/bin | sort | head -50"],
        &["sed", "s/a/bb/g", "/etc/passwd"],
        &[
            "awk",
            "BEGIN { for (i = 0; i < 9000; i++) s[i % 99] = s[i % 99] i; print length(s[5]) }",
        ],
    ];
    for command in commands {
        let plain = Command::new(command[0]).args(&command[1..]).output().expect("it starts");
        let mut checked = heapwright();
        checked.args(["run", "--mode", "check", "--no-leaks", "--"]).args(command);
        let checked = checked.output().expect("it starts");
        assert_eq!(checked.status, plain.status, "{command:?}");
        assert_eq!(checked.stdout, plain.stdout, "{command:?}");
        assert_eq!(String::from_utf8_lossy(&checked.stderr), "", "{command:?}");
    }
}

#[test]
fn sampling_every_block_tells_with_all_stacks_in_both_modes() {
    let directory = tempfile::tempdir().expect("a directory");
    let [bad, good] = twins(directory.path(), "use_after_free_read.c");
    for mode in ["fast", "hardened"] {
        let sampled = |program: &Path| {
            let mut command = heapwright();
            command.args(["--json", "run", "--mode", mode, "--sample", "1", "--"]).arg(program);
            let output = command.output().expect("heapwright starts");
            let value: Value = serde_json::from_slice(&output.stdout).expect("one object");
            assert_eq!(value["mode"], mode);
            value["findings"].as_array().expect("findings").clone()
        };
        let found = sampled(&bad);
        assert_eq!(found.len(), 1, "{mode}: {found:?}");
        assert_eq!(found[0]["kind"], "use-after-free");
        assert_eq!(function(&found[0], "stack"), "bug");
        for stack in ["alloc_stack", "free_stack"] {
            assert!(!function(&found[0], stack).is_empty(), "{mode}: {stack}");
        }
        assert_eq!(sampled(&good), Vec::<Value>::new(), "{mode}");
    }
}

#[test]
fn hardened_mode_ends_the_program_and_its_options_are_refused_elsewhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let [bad, good] = twins(directory.path(), "double_free.c");
    let run = |words: &[&str], program: &Path| {
        let mut command = heapwright();
        command.arg("run").args(words).arg("--").arg(program);
        command.output().expect("heapwright starts")
    };
    let output = run(&["--mode", "hardened", "--on-error", "exit:77"], &bad);
    assert_eq!(output.status.code(), Some(77));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.starts_with("heapwright: double free"), "{told}");
    let output = run(&["--mode", "hardened"], &good);
    assert!(output.status.success() && output.stderr.is_empty());
    let output = run(&["--mode", "hardened", "--zero-all", "--sweep"], &good);
    assert!(output.status.success() && output.stderr.is_empty());
    for words in [&["--on-error", "continue"][..], &["--zero-all"]] {
        assert_eq!(run(words, &good).status.code(), Some(125));
    }
}

#[test]
fn findings_are_written_as_sarif() {
    let directory = tempfile::tempdir().expect("a directory");
    let [bad, _] = twins(directory.path(), "use_after_free_write.c");
    let file = directory.path().join("log.sarif");
    check(&bad, &["--sarif", file.to_str().expect("a path")]);
    let text = std::fs::read(file).expect("the log");
    let log: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(log["version"], "2.1.0");
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "use-after-free");
    let place = &result["locations"][0]["physicalLocation"];
    let uri = place["artifactLocation"]["uri"].as_str().expect("a file");
    assert!(uri.ends_with("use_after_free_write.c"), "{uri}");
    assert!(place["region"]["startLine"].as_u64().is_some_and(|line| line > 0));
    assert_eq!(result["stacks"].as_array().map(Vec::len), Some(3));
}

#[test]
fn under_a_low_address_limit_the_program_runs_unchecked_and_that_is_said_once() {
    let binary = heapwright().get_program().to_owned();
    let object = Path::new(&binary).with_file_name("libheapwright_check.so");
    // `sort` allocates, grows and frees; the limit leaves no room for the tables.
    let script = "ulimit -v 120000; printf 'b\\na\\n' | LD_PRELOAD=\"$1\" sort";
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(object).output();
    let output = output.expect("a shell");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"a\nb\n");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.matches("nothing is checked").count(), 1, "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn every_error_of_the_corpus_is_told_with_file_and_line_of_all_its_stacks() {
    let mut command = heapwright();
    command.args(["bench", "safety", "--quick", "--json"]);
    let output = command.output().expect("heapwright starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let rows = value["rows"].as_array().expect("rows");
    for row in rows {
        assert_eq!(row["false_alarms"], 0, "{row}");
        if row["variant"] == "check --both --uninit" {
            assert_eq!((&row["detected"], &row["right_place"]), (&row["of"], &row["of"]), "{row}");
        }
        if row["variant"] == "check" {
            assert_eq!(row["right_place"], row["detected"], "{row}");
        }
    }
    let all_runs = rows.iter().filter(|row| row["variant"] == "check --both --uninit");
    assert!(all_runs.count() >= 27);
}

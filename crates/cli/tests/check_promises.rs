//! What check mode promises beyond the corpus, each in a small program (feature `preload-tests`,
//! after `cargo xtask build`): errors in blocks that share pages, what is seen at the end only,
//! what is told once, and what is no leak.
#![cfg(feature = "preload-tests")]

use serde_json::Value;
use std::path::{Path, PathBuf};

const PROGRAM: &str = r#"
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
enum { COUNT = 600 };
static char *all[COUNT], *kept, *end, **chain;
static volatile int is_ready;
static volatile char sink;
static char *one(void) { return malloc(40); }
static void fill(void) { for (int i = 0; i < COUNT; i++) all[i] = one(); }
static void empty(void) { for (int i = 0; i < COUNT; i++) free(all[i]); }
static void *wait_with_block(void *unused) {
    (void)unused;
    char *volatile mine = malloc(30);
    sink = mine[0] = 1;
    is_ready = 1;
    for (;;) pause();
}
int main(int argc, char **argv) {
    const char *what = argv[1];
    int which = argc > 2 ? atoi(argv[2]) : 0;
    if (!strcmp(what, "nothing")) { fill(); empty(); }
    if (!strcmp(what, "after")) { fill(); all[which][40] = 1; empty(); }
    if (!strcmp(what, "before")) { fill(); all[which][-1] = 1; empty(); }
    if (!strcmp(what, "never freed")) { fill(); all[which][40] = 1; }
    if (!strcmp(what, "after free")) { fill(); empty(); all[which][8] = 1; }
    if (!strcmp(what, "reused")) {
        fill(); empty(); all[which][8] = 1;
        for (int i = 0; i < 200000; i++) free(one());
    }
    if (!strcmp(what, "twice")) { fill(); empty(); free(all[which]); }
    if (!strcmp(what, "inside")) { fill(); free(all[which] + 16); empty(); }
    if (!strcmp(what, "size")) { kept = one(); free(kept); return malloc_usable_size(kept) != 0; }
    if (!strcmp(what, "realloc")) { kept = one(); free(kept); kept = realloc(kept, 50); }
    if (!strcmp(what, "loop")) for (int i = 0; i < 9; i++) { kept = one(); free(kept); free(kept); }
    if (!strcmp(what, "memset")) { kept = one(); memset(kept, 1, 40 + 4096); }
    if (!strcmp(what, "reachable")) {
        chain = malloc(sizeof *chain);
        *chain = one();
        end = one() + 40;
        pthread_t thread;
        pthread_create(&thread, 0, wait_with_block, 0);
        while (!is_ready) usleep(1000);
        exit(0);
    }
    if (!strcmp(what, "through")) {
        chain = malloc(64);
        chain[0] = one();
        chain = 0;
    }
    return 0;
}
"#;

/// Compiles the program once and runs it with what it shall do.
struct Programs {
    _directory: tempfile::TempDir,
    program: PathBuf,
}

impl Programs {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("program");
        let flags = ["-w", "-O0", "-fno-builtin", "-lpthread"];
        heapwright_testkit::compile_c(PROGRAM, &program, &flags);
        Self { _directory: directory, program }
    }

    fn findings(&self, options: &[&str], words: &[&str]) -> Vec<Value> {
        findings(&self.program, options, words)
    }

    /// What is told of an error in a block that shares its page, the first of several tried: which
    /// block is one is the heap's choice.
    fn in_packed_block(&self, what: &str) -> Value {
        let options = ["--guard-first", "1", "--no-leaks"];
        for which in ["100", "211", "322", "433", "555"] {
            let found = self.findings(&options, &[what, which]);
            assert!(found.len() <= 1, "{what}: one error, {found:?}");
            let packed = found.into_iter().find(|one| one["block"]["watch"] == "packed");
            if let Some(packed) = packed {
                return packed;
            }
        }
        panic!("{what}: no packed block had its error told");
    }
}

fn findings(program: &Path, options: &[&str], words: &[&str]) -> Vec<Value> {
    let binary = env!("CARGO_BIN_EXE_heapwright");
    let mut command = heapwright_testkit::heapwright(binary);
    command.args(["run", "--json", "--mode", "check"]).args(options).arg("--");
    let output = command.arg(program).args(words).output().expect("heapwright starts");
    let value: Value = serde_json::from_slice(&output.stdout).expect("one object");
    value["findings"].as_array().expect("findings").clone()
}

#[test]
fn blocks_that_share_pages_are_watched_by_canaries_and_poison() {
    let programs = Programs::new();
    let options = ["--guard-first", "1"];
    assert_eq!(programs.findings(&options, &["nothing"]), Vec::<Value>::new());
    for (what, kind) in [
        ("after", "overwritten-after"),
        ("before", "overwritten-before"),
        ("never freed", "overwritten-after"),
        ("after free", "write-after-free"),
        ("reused", "write-after-free"),
        ("twice", "double-free"),
        ("inside", "invalid-free"),
    ] {
        let found = programs.in_packed_block(what);
        assert_eq!(found["kind"], kind, "{what}");
        assert_eq!(found["block"]["bytes"], 40, "{what}");
    }
}

#[test]
fn an_error_is_told_once_and_by_whoever_sees_it_first() {
    let programs = Programs::new();
    let told = |what: &str| {
        let found = programs.findings(&["--no-leaks"], &[what]);
        let words = |one: &Value| {
            let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
            (text("kind"), text("via"))
        };
        found.iter().map(words).collect::<Vec<_>>()
    };
    let one = |kind: &str, via: &str| vec![(kind.to_owned(), via.to_owned())];
    assert_eq!(told("loop"), one("double-free", ""));
    assert_eq!(told("memset"), one("overflow", "memset"));
    assert_eq!(told("size"), one("use-after-free", "malloc_usable_size"));
    assert_eq!(told("realloc"), one("double-free", "realloc"));
}

#[test]
fn what_can_be_reached_is_no_leak_and_what_is_lost_through_another_is_said_to_be() {
    let programs = Programs::new();
    let found = programs.findings(&[], &["reachable"]);
    assert_eq!(found, Vec::<Value>::new(), "globals, chains, ends of blocks, other threads");
    let found = programs.findings(&[], &["through"]);
    let indirect: Vec<&Value> = found.iter().map(|one| &one["indirect"]).collect();
    assert_eq!(indirect, [&Value::Bool(false), &Value::Bool(true)], "{found:?}");
}

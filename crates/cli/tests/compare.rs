//! `compare`, `doctor` and `generate` as a user calls them.

use heapwright_testkit::programs::{compile, compile_with};
use serde_json::Value;
use std::fs;
use std::process::{Command, Output, Stdio};

fn heapwright() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heapwright"));
    command.stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    heapwright().args(arguments).output().expect("heapwright starts")
}

/// The only thing on stdout, which must be one JSON object.
#[track_caller]
fn json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert!(value.is_object());
    value
}

fn wasteful() -> String {
    let object = compile_with("wasteful_malloc", &["-shared", "-fPIC"]);
    object.to_str().expect("a plain path").to_owned()
}

#[test]
fn compare_prints_one_object_and_the_commands_status() {
    let program = compile("status");
    let program = program.to_str().expect("a plain path");
    let arguments =
        ["compare", "--json", "--runs", "2", "--on", &wasteful(), "--", program, "9", "the output"];
    let output = output(&arguments);
    assert_eq!(output.status.code(), Some(9));
    let value = json(&output);
    assert_eq!(value["exit_status"], 9);
    assert_eq!(value["rows"][0]["name"], "system");
    assert_eq!(value["rows"][1]["same_output"], true);
    assert_eq!(value["rounds"], 2);
}

#[test]
fn compare_prints_a_table_by_default() {
    let program = compile("status");
    let arguments = ["compare", "--runs", "1", "--on", &wasteful(), "--"];
    let output = heapwright().args(arguments).arg(program).output().expect("heapwright starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("allocator "), "{text}");
    assert!(text.contains("\nsystem ") && text.contains("\nwasteful_malloc "), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours into a pipe");
}

#[test]
fn a_variable_is_as_good_as_a_flag() {
    let program = compile("status");
    let output = heapwright()
        .env("HEAPWRIGHT_RUNS", "2")
        .env("HEAPWRIGHT_JSON", "1")
        .env("HEAPWRIGHT_ON", wasteful())
        .args(["compare", "--"])
        .arg(program)
        .output()
        .expect("heapwright starts");
    assert_eq!(json(&output)["rows"][1]["repeats"], 2);
}

#[test]
fn standard_input_that_is_a_file_is_read_again_by_each_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let input = directory.path().join("input");
    fs::write(&input, "the input\n").expect("written");
    let copy = directory.path().join("copy");
    let output = heapwright()
        .args(["compare", "--json", "--runs", "2", "--on", &wasteful(), "--cmd-stdout"])
        .arg(&copy)
        .args(["--", "cat"])
        .stdin(fs::File::open(&input).expect("opened"))
        .output()
        .expect("heapwright starts");
    assert_eq!(json(&output)["rows"][1]["same_output"], true);
    assert_eq!(fs::read_to_string(copy).expect("read"), "the input\n");
}

#[test]
fn doctor_names_each_thing_with_its_state() {
    let output = output(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let value = json(&output);
    let checks = value["checks"].as_array().expect("checks");
    let machine = ["platform", "memory", "cycle counter", "/dev/shm", "recorder", "mimalloc"];
    let tried = ["NUMA nodes", "guard by advice", "alias", "page scan", "protection keys"];
    for name in machine.into_iter().chain(tried) {
        let check = checks.iter().find(|check| check["name"] == name).expect(name);
        let state = check["state"].as_str().expect("a word");
        assert!(["ok", "limited", "missing"].contains(&state));
        // Whatever is not well has a way round it.
        assert_eq!(check["fallback"] == "", state == "ok", "{check}");
    }
}

#[test]
fn generate_writes_pages_and_completions() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("a plain path");
    assert!(output(&["generate", "man", path]).status.success());
    assert!(output(&["generate", "completions", path]).status.success());
    let page = fs::read_to_string(directory.path().join("heapwright-compare.1")).expect("a page");
    assert!(page.contains("HEAPWRIGHT_RUNS"), "variables are in the page");
    for file in
        ["heapwright.1", "heapwright-record.1", "heapwright.bash", "_heapwright", "heapwright.fish"]
    {
        assert!(directory.path().join(file).is_file(), "{file}");
    }
}

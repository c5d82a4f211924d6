//! Programs under the built shared objects (feature `preload-tests`, after `cargo xtask build`).
#![cfg(feature = "preload-tests")]

use heapwright_testkit::programs::compile;
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

fn heapwright() -> Command {
    heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"))
}

#[test]
fn run_becomes_the_program() {
    let status = compile("status");
    let ran = |arguments: &[&str]| {
        let output = heapwright().args(["run", "--"]).arg(&status).args(arguments).output();
        output.expect("heapwright starts")
    };
    let plain = ran(&["6", "its output"]);
    assert_eq!((plain.status.code(), plain.stdout.as_slice()), (Some(6), &b"its output\n"[..]));
    assert!(plain.stderr.is_empty(), "a clean run prints nothing of ours");
    assert_eq!(ran(&["signal", "15"]).status.signal(), Some(15));
}

#[test]
fn each_mode_has_an_object_and_prints_nothing_of_ours() {
    for (mode, object) in
        [("fast", "preload"), ("compact", "compact"), ("hardened", "hardened"), ("check", "check")]
    {
        let output = heapwright()
            .args(["run", "--mode", mode, "--", "/bin/cat", "/proc/self/maps"])
            .output()
            .expect("heapwright starts");
        let maps = String::from_utf8_lossy(&output.stdout);
        assert!(maps.contains(&format!("/libheapwright_{object}.so")), "{mode}: {maps}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{mode}");
        assert_eq!(output.status.code(), Some(0), "{mode}");
    }
}

#[test]
fn run_preloads_before_what_is_preloaded_already() {
    let output = heapwright()
        .args(["run", "--", "/bin/sh", "-c", "echo $LD_PRELOAD"])
        .env("LD_PRELOAD", "libm.so.6")
        .output()
        .expect("heapwright starts");
    let value = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(value.ends_with("/libheapwright_preload.so:libm.so.6"), "{value}");
}

#[test]
fn run_with_json_tells_what_the_program_used() {
    let output = heapwright()
        .args(["run", "--json", "--", "/bin/sh", "-c", "echo text; exit 4"])
        .output()
        .expect("heapwright starts");
    assert_eq!(output.status.code(), Some(4));
    let value: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!((&value["exit_status"], &value["mode"]), (&Value::from(4), &Value::from("fast")));
    assert_eq!(output.stderr, b"text\n", "the program's own output goes to stderr");
}

#[test]
fn the_bundled_program_gives_one_result_under_every_allocator() {
    let demo = env!("CARGO_BIN_EXE_heapwright-demo");
    let output = heapwright()
        .args(["compare", "--json", "--runs", "1", "--", demo, "--requests", "2000"])
        .output()
        .expect("heapwright starts");
    let value: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let rows = value["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 5);
    for row in rows {
        assert_eq!(
            (&row["failure"], &row["same_output"]),
            (&Value::from(""), &Value::from(true)),
            "{row}"
        );
    }
}

#[test]
fn doctor_finds_every_object() {
    let output = heapwright().args(["doctor", "--json"]).output().expect("heapwright starts");
    let value: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let checks = value["checks"].as_array().expect("checks");
    for name in ["recorder", "allocator", "mimalloc", "jemalloc", "rpmalloc", "demo program"] {
        let check = checks.iter().find(|check| check["name"] == name).expect(name);
        assert_eq!(check["state"], "ok", "{check}");
    }
}

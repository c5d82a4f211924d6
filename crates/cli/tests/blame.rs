//! Fragmentation blame, judged by programs that know whom to blame and for how much (feature
//! `preload-tests`, after `cargo xtask build`).
#![cfg(feature = "preload-tests")]

use heapwright_testkit::culprits::Culprit;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn heapwright() -> Command {
    heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"))
}

fn compile(folder: &Path, culprit: &Culprit) -> PathBuf {
    let program = folder.join("culprit");
    heapwright_testkit::compile_c(&culprit.source, &program, &["-pthread"]);
    program
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn the_known_culprit_is_first_and_its_bytes_are_right() {
    for seed in [1, 2, 3] {
        let folder = tempfile::tempdir().expect("a directory");
        let culprit = Culprit::new(seed);
        let program = compile(folder.path(), &culprit);
        let output = heapwright()
            .args(["advise", "--json", "--on", "system", "--repeats", "1", "--no-sites"])
            .args(["--confirm", "never", "--blame-at", "end", "-o"])
            .arg(folder.path().join("advice"))
            .arg("--")
            .arg(&program)
            .output()
            .expect("heapwright starts");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "seed {seed}: {message}");
        let truth = Culprit::pinned_bytes(&message).expect("the program tells its own figure");
        let advice: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");

        let blame = advice["fragmentation_blame"].as_array().expect("a list");
        let first = blame.first().unwrap_or_else(|| panic!("seed {seed}: nobody is blamed"));
        assert_eq!(first["function"], culprit.function, "seed {seed}: {blame:?}");
        let pinned = number(&first["pinned_bytes"]);
        assert!(pinned.abs_diff(truth) <= truth / 10, "seed {seed}: {pinned}, in truth {truth}");
        println!("seed {seed}: {pinned} bytes blamed, {truth} in truth");

        let found = &advice["fragmentation"];
        let part = |name: &str| number(&found[name]);
        let blamed: u64 = blame.iter().map(|one| number(&one["pinned_bytes"])).sum();
        assert_eq!(blamed, part("pinned_bytes"), "the blame is the total");
        let parts = ["requested", "slack", "pinned", "empty", "mapped", "stack"];
        let told: u64 = parts.iter().map(|name| part(&format!("{name}_bytes"))).sum();
        let (told, resident) = (told - part("earlier_bytes"), part("resident_bytes"));
        assert!(told.abs_diff(resident) <= resident / 50, "seed {seed}: {told} of {resident}");
        assert!(found["series"].as_array().is_some_and(|series| series.len() >= 8));
    }
}

#[test]
fn replay_tells_of_every_allocator_who_holds_what() {
    let folder = tempfile::tempdir().expect("a directory");
    let culprit = Culprit::new(4);
    let program = compile(folder.path(), &culprit);
    let file = folder.path().join("culprit.hwr");
    let status = heapwright().args(["record", "-o"]).arg(&file).arg("--").arg(program).output();
    assert!(status.expect("heapwright starts").status.success());
    let replay = |arguments: &[&str]| {
        let mut command = heapwright();
        command.arg("replay").args(arguments).arg(&file).output().expect("heapwright starts")
    };
    let output =
        replay(&["--json", "--blame=end", "--repeats", "1", "--on", "heapwright,rpmalloc"]);
    let result: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let held = result["blame"].as_array().expect("a list");
    assert_eq!(held.len(), 3, "{}", String::from_utf8_lossy(&output.stderr));
    for one in held {
        let who = &one["fragmentation"]["allocator"];
        // An allocator that keeps sizes apart lets the culprit pin less, but it is there.
        let blame = one["fragmentation_blame"].as_array().expect("a list");
        let at = blame.iter().position(|site| site["function"] == culprit.function);
        assert!(at.is_some_and(|at| who != "system" || at == 0), "{who}: {blame:?}");
        assert!(number(&one["fragmentation"]["largest_free_bytes"]) > 0, "{who}");
    }
    let text = replay(&["--blame=peak", "--repeats", "1", "--on", "system"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("at the live peak") && text.contains(culprit.function), "{text}");
    assert_eq!(replay(&["--blame=soon"]).status.code(), Some(125));
}

//! Record, replay, advise, report, diff and export with the built objects (feature
//! `preload-tests`, after `cargo xtask build`).
#![cfg(feature = "preload-tests")]

use heapwright_testkit::programs::{Counts, compile};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

fn heapwright() -> Command {
    heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"))
}

fn run(arguments: &[&str], program: &Path, program_arguments: &[&str]) -> Output {
    let mut command = heapwright();
    command.args(arguments).arg("--").arg(program).args(program_arguments);
    command.output().expect("heapwright starts")
}

#[track_caller]
fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 1, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).expect("one JSON object")
}

/// A directory, and the path of `file` in it.
fn place(file: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(file).to_str().expect("a plain path").to_owned();
    (directory, path)
}

#[test]
fn record_counts_every_call() {
    let (_directory, file) = place("simple.hwr");
    let output = run(&["record", "--json", "-o", &file], &compile("simple"), &[]);
    let result = json(&output);
    // The program's own output went to stderr, whole.
    let counts = Counts::parse(&String::from_utf8_lossy(&output.stderr));
    let own = counts[0].allocations() + counts[0].free;
    let events = result["events"].as_u64().expect("a number");
    assert!(events >= own && events < own + 100, "{events} events, {own} of them the program's");
    assert_eq!((&result["dropped"], &result["reason"]), (&Value::from(0), &Value::from("exit")));
}

#[test]
fn record_passes_output_and_status_on() {
    let (_directory, file) = place("status.hwr");
    let clean = run(&["record", "-o", &file], &compile("status"), &["0", "the output"]);
    assert_eq!((clean.status.code(), clean.stdout.as_slice()), (Some(0), &b"the output\n"[..]));
    assert!(clean.stderr.is_empty(), "{}", String::from_utf8_lossy(&clean.stderr));
    for (name, arguments, status) in [
        ("quick_exit", &[][..], 5),
        ("kill_self", &[], 137),
        ("crash", &[], 139),
        ("crash", &["abort"], 134),
        ("status", &["signal", "15"], 143),
    ] {
        let output = run(&["record", "-o", &file], &compile(name), arguments);
        assert_eq!(output.status.code(), Some(status), "{name} {arguments:?}");
    }
}

#[test]
fn a_program_that_kills_itself_is_recorded_to_its_end() {
    let (_directory, file) = place("killed.hwr");
    let output = run(&["record", "--json", "-o", &file], &compile("kill_self"), &[]);
    let counts = Counts::parse(&String::from_utf8_lossy(&output.stderr));
    let own = counts[0].allocations() + counts[0].free;
    assert!(json(&output)["events"].as_u64().is_some_and(|events| events >= own));
}

#[test]
fn an_unwritable_recording_is_named_before_anything_runs() {
    let output =
        run(&["record", "-o", "/no/such/directory/r.hwr"], &compile("status"), &["0", "ran"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(output.stdout.is_empty(), "the command did not run");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        message.contains("/no/such/directory/r.hwr") && message.lines().count() == 1,
        "{message}"
    );
}

#[test]
fn advise_refuses_what_is_wrong_before_the_program_runs() {
    let (directory, mark) = place("it-ran");
    let text = directory.path().join("libtext.so");
    fs::write(&text, "text").expect("written");
    let text = text.to_str().expect("a plain path");
    let folder = directory.path().join("advice");
    let folder = folder.to_str().expect("a plain path");
    let touch = ["-o", folder, "--", "touch", &mark];
    for (arguments, status, named) in [
        (vec!["--on", "/no/such.so"], 125, "/no/such.so"),
        (vec!["--on", text], 125, "libtext.so"),
        (vec!["--on", "nomalloc"], 125, "nomalloc"),
        (vec!["--second", text], 125, "libtext.so"),
        (vec!["--", "no-such-program"], 127, "no-such-program: not found on PATH"),
    ] {
        let output = heapwright().arg("advise").args(&arguments).args(touch).output();
        let output = output.expect("heapwright starts");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{message}");
        assert!(message.contains(named) && message.lines().count() == 1, "{message}");
        assert!(output.stdout.is_empty() && !Path::new(&mark).exists(), "the program ran");
    }
}

#[test]
fn advise_says_that_the_command_failed_and_hands_its_status_on() {
    let (_directory, folder) = place("advice");
    let arguments = [
        "advise",
        "--json",
        "--on",
        "system",
        "--repeats",
        "1",
        "--confirm",
        "never",
        "-o",
        &folder,
    ];
    for (name, program_arguments, status, told) in [
        ("kill_self", &[][..], 137, "status 137, as one that signal 9 killed"),
        ("status", &["3", "text"], 3, "status 3; the figures"),
    ] {
        let output = run(&arguments, &compile(name), program_arguments);
        assert_eq!(output.status.code(), Some(status), "{name}");
        let advice = json(&output);
        let notes: Vec<_> = advice["notes"].as_array().expect("notes").iter().collect();
        let is_told = |note: &&Value| note.as_str().is_some_and(|note| note.contains(told));
        assert_eq!(notes.iter().copied().filter(is_told).count(), 1, "{notes:?}");
    }
}

#[test]
fn advise_without_an_allocation_is_one_message() {
    let (directory, folder) = place("advice");
    let program = directory.path().join("none");
    heapwright_testkit::compile_c("int main(void) { return 0; }", &program, &[]);
    let output = run(&["advise", "-o", &folder], &program, &[]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), message.lines().count()), (Some(125), 1), "{message}");
    assert!(message.contains("no allocation was recorded"), "{message}");
}

#[test]
fn advise_writes_its_three_files_and_one_object() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path().to_str().expect("a plain path");
    let arguments = ["advise", "--json", "--repeats", "1", "--confirm", "never", "-o", folder];
    let output = run(&arguments, &compile("sites"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let advice = json(&output);
    let written = fs::read(directory.path().join("advice.json")).expect("advice.json");
    assert_eq!(advice, serde_json::from_slice::<Value>(&written).expect("JSON"));
    let rows = advice["allocators"].as_array().expect("rows");
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row["failure"] == ""), "{rows:?}");
    let sites = advice["sites"].as_array().expect("sites");
    for function in ["temporary_site", "pool_site", "leak_site"] {
        assert!(sites.iter().any(|site| site["function"] == function), "{function} is no site");
    }
    assert_eq!(advice["leaks"][0]["function"], "leak_site");
    let page = fs::read_to_string(directory.path().join("report.html")).expect("report.html");
    assert!(page.starts_with("<!doctype html>"));

    fs::remove_file(directory.path().join("report.html")).expect("removed");
    let again = heapwright().args(["report", folder]).output().expect("heapwright starts");
    assert_eq!(again.status.code(), Some(0));
    let page = fs::metadata(directory.path().join("report.html")).expect("the report again");
    assert!(page.len() > 10_000);
}

#[test]
fn advise_keeps_the_commands_status() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path().to_str().expect("a plain path");
    let arguments = ["advise", "--json", "--repeats", "1", "-o", folder];
    let output = run(&arguments, &compile("quick_exit"), &[]);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json(&output)["exit_status"], 5);
}

#[test]
fn a_sampled_recording_is_advised_on_but_not_replayed() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path().to_str().expect("a plain path");
    let arguments = ["advise", "--json", "--sample", "4K", "-o", folder];
    let output = run(&arguments, &compile("workload"), &["50"]);
    let advice = json(&output);
    assert!(advice["allocators"].as_array().is_some_and(Vec::is_empty));
    assert!(!advice["sites"].as_array().expect("sites").is_empty());
    let refused = heapwright().args(["replay", &format!("{folder}/recording.hwr")]).output();
    let refused = refused.expect("heapwright starts");
    assert_eq!(refused.status.code(), Some(125));
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(message.contains("is a sampled recording"), "{message}");
}

#[test]
fn replay_skips_what_fails_and_keeps_the_rest() {
    let (directory, file) = place("sites.hwr");
    assert!(run(&["record", "-o", &file], &compile("sites"), &[]).status.success());
    let fatal = heapwright_testkit::programs::compile_with("fatal_malloc", &["-shared", "-fPIC"]);
    let fatal = format!("system,{}", fatal.display());
    let output = heapwright().args(["replay", &file, "--on", &fatal]).output().expect("starts");
    assert_eq!(output.status.code(), Some(125), "an object named by hand must work");
    let output = heapwright()
        .args([
            "replay",
            "--json",
            "--repeats",
            "1",
            "--on",
            "mimalloc,rpmalloc",
            "--process",
            "all",
        ])
        .arg(&file)
        .output()
        .expect("heapwright starts");
    let replays = json(&output)["replays"].clone();
    let names: Vec<&str> = replays[0]["allocators"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    assert_eq!(names, ["system", "mimalloc", "rpmalloc"]);
    drop(directory);
}

#[test]
fn diff_fails_as_asked_when_a_measure_grows() {
    let directory = tempfile::tempdir().expect("a directory");
    let record = |name: &str, thousands: &str| {
        let file = directory.path().join(name).to_str().expect("a plain path").to_owned();
        assert!(run(&["record", "-o", &file], &compile("workload"), &[thousands]).status.success());
        file
    };
    let (old, new) = (record("old.hwr", "20"), record("new.hwr", "40"));
    let diff = |arguments: &[&str]| {
        let mut command = heapwright();
        command.args(["diff", &old, &new]).args(arguments);
        command.output().expect("heapwright starts")
    };
    assert_eq!(diff(&["--fail-if", "allocs+150%"]).status.code(), Some(0));
    let beyond = diff(&["--json", "--fail-if", "allocs+10%"]);
    assert_eq!(beyond.status.code(), Some(1));
    assert_eq!(json(&beyond)["failures"].as_array().map(Vec::len), Some(1));
    assert_eq!(diff(&["--fail-if", "allocs+10%", "--error-exit", "33"]).status.code(), Some(33));
}

#[test]
fn export_writes_a_compressed_profile() {
    let (directory, file) = place("sites.hwr");
    assert!(run(&["record", "-o", &file], &compile("sites"), &[]).status.success());
    let profile = directory.path().join("heap.pb.gz");
    let output = heapwright().args(["export", &file, "-o"]).arg(&profile).output();
    assert!(output.expect("heapwright starts").status.success());
    assert_eq!(fs::read(profile).expect("the profile")[..2], [0x1f, 0x8b], "gzip");
}

#[test]
fn a_torn_recording_is_read_as_far_as_it_goes() {
    let (_directory, file) = place("torn.hwr");
    assert!(run(&["record", "-o", &file], &compile("workload"), &["300"]).status.success());
    let whole = fs::read(&file).expect("read");
    fs::write(&file, &whole[..whole.len() * 2 / 3]).expect("written");
    let output = heapwright().args(["report", "--json", &file]).output().expect("starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(json(&output)["events"].as_u64().is_some_and(|events| events > 0));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("offset"), "{message}");
}

#[test]
fn a_server_is_recorded_under_its_load() {
    let (directory, file) = place("server.hwr");
    let socket = directory.path().join("socket");
    let load = format!("{} {} 50 1000", compile("client").display(), socket.display());
    let output = run(
        &["record", "--json", "-o", &file, "--load-delay", "300ms", "--load", &load],
        &compile("server"),
        &[socket.to_str().expect("a plain path"), "0"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let result = json(&output);
    assert_eq!(
        (&result["reason"], &result["load_status"]),
        (&Value::from("load"), &Value::from(0))
    );
    assert!(result["events"].as_u64().is_some_and(|events| events >= 100_000), "{result}");
}

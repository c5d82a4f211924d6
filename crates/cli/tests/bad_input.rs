//! Each wrong input gives one line on stderr that names the thing, and the right status.

use heapwright_testkit::programs::{compile, compile_with};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

fn heapwright(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heapwright"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("heapwright starts")
}

/// Status and the only line on stderr; nothing of ours may be on stdout.
#[track_caller]
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = heapwright(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(message.lines().count(), 1, "{arguments:?}: {message}");
    assert!(message.starts_with("heapwright: "), "{message}");
    assert!(output.stdout.is_empty());
    (output.status.code().expect("not killed"), message.trim_end().to_owned())
}

#[test]
fn a_command_that_does_not_exist_is_127() {
    for command in ["compare", "run", "record"] {
        let (status, message) = refused(&[command, "--", "no-such-program"]);
        assert_eq!(status, 127);
        assert!(message.contains("no-such-program: not found on PATH"), "{message}");
    }
}

#[test]
fn a_suite_that_does_not_exist_is_125() {
    for suite in ["nonsense", "../heapwright"] {
        let (status, message) = refused(&["bench", suite, "--quick"]);
        assert_eq!(status, 125);
        assert!(
            message.contains(&format!("no suite program heapwright-bench-{suite}")),
            "{message}"
        );
    }
}

#[test]
fn a_command_that_is_not_executable_is_126() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("plain");
    fs::write(&file, "not a program").expect("written");
    let path = file.to_str().expect("a plain path");
    assert_eq!(refused(&["run", "--", path]).0, 126);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("the mode is set");
    let (status, message) = refused(&["compare", "--", path]);
    assert_eq!(status, 126);
    assert!(message.contains("neither a program nor a script"), "{message}");
}

#[test]
fn a_static_program_is_refused_with_a_remedy() {
    let program = compile_with("status", &["-static"]);
    for command in ["run", "compare"] {
        let (status, message) = refused(&[command, "--", program.to_str().expect("a plain path")]);
        assert_eq!(status, 125);
        assert!(message.contains("linked statically") && message.contains("heapwright::Recorded"));
    }
}

#[test]
fn a_process_that_cannot_be_recorded_is_named_with_the_reason() {
    let (status, message) = refused(&["record", "--pid", "1073741823"]);
    assert_eq!(status, 125);
    assert_eq!(message, "heapwright: process 1073741823: there is no such process");
    let own = std::process::id().to_string();
    let (status, message) = refused(&["record", "--pid", &own]);
    assert_eq!(status, 125);
    assert!(message.contains("no dormant recorder is in it"), "{message}");
    assert!(message.contains("heapwright run --dormant -- CMD"), "{message}");
    // A process or a command, not both.
    assert_eq!(refused(&["record", "--pid", &own, "--", "true"]).0, 125);
}

#[test]
fn wrong_options_are_our_failure() {
    assert_eq!(refused(&["compare", "--runs", "0", "--", "true"]).0, 125);
    assert_eq!(refused(&["compare", "--time-limit", "soon", "--", "true"]).0, 125);
    assert_eq!(refused(&["no-such-command"]).0, 125);
    let (status, message) = refused(&["compare", "--on", "nomalloc", "--", "true"]);
    assert_eq!(status, 125);
    assert!(message.contains("`nomalloc` is no allocator known here"), "{message}");
}

#[test]
fn a_wrong_object_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("libtext.so");
    fs::write(&text, "text").expect("written");
    let (status, message) =
        refused(&["compare", "--on", text.to_str().expect("plain"), "--", "true"]);
    assert_eq!(status, 125);
    assert!(message.contains("libtext.so: not a shared object for this machine"), "{message}");
    let plugin = compile("plugin");
    let (_, message) = refused(&["compare", "--on", plugin.to_str().expect("plain"), "--", "true"]);
    assert!(message.contains("defines no malloc and free"), "{message}");
}

#[test]
fn an_unwritable_place_is_named() {
    let (status, message) =
        refused(&["compare", "--cmd-stdout", "/no/such/directory/file", "--", "true"]);
    assert_eq!(status, 125);
    assert!(message.contains("/no/such/directory/file: cannot be written"), "{message}");
    assert_eq!(refused(&["generate", "man", "/proc/no"]).0, 125);
}

#[test]
fn a_mode_whose_object_is_missing_says_where_it_was_looked_for() {
    let (status, message) = refused(&["run", "--mode", "check", "--", "true"]);
    assert_eq!(status, 125);
    assert!(message.contains("libheapwright_check.so is missing (looked in"), "{message}");
    assert!(message.contains("`cargo xtask build` makes it"), "{message}");
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("recording.hwr");
    let path = file.to_str().expect("a plain path");
    let folder = directory.path().to_str().expect("a plain path");
    for command in
        [&["replay", path][..], &["report", folder], &["diff", path, path], &["export", path]]
    {
        let (status, message) = refused(command);
        assert_eq!(status, 125);
        assert!(message.contains("cannot read ") && message.contains("recording.hwr"), "{message}");
    }
    fs::write(&file, "").expect("written");
    assert!(refused(&["replay", path]).1.contains("recording.hwr is empty"));
    fs::write(&file, "something else entirely, and long enough to be looked at").expect("written");
    assert!(refused(&["report", path]).1.contains("is not a Heapwright recording"));
}

#[test]
fn a_limit_that_makes_no_sense_is_refused() {
    let (status, message) = refused(&["diff", "old.hwr", "new.hwr", "--fail-if", "speed+5%"]);
    assert_eq!(status, 125);
    assert!(message.contains("speed"), "{message}");
}

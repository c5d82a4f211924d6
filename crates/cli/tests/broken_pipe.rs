//! Whoever reads our output may stop: that is no error of anybody's.

use std::process::{Command, Stdio};

/// Runs `heapwright` with a standard output that nobody reads any more.
fn unread(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heapwright"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The reading end is closed before a shell lets the program begin.
    let mut gate = Command::new("sh");
    gate.args(["-c", "read go; exec \"$@\"", "sh"]).arg(command.get_program());
    gate.args(command.get_args()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = gate.stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    drop(child.stdin.take());
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn nobody_reading_is_not_a_crash() {
    let folder = tempfile::tempdir().expect("a directory");
    let folder = folder.path().to_str().expect("text");
    for arguments in [
        &["doctor"][..],
        &["doctor", "--json"],
        &["--help"],
        &["--version"],
        &["advise", "--help"],
        &["compare", "--runs", "1", "--on", "system", "--", "true"],
        &["compare", "--json", "--runs", "1", "--on", "system", "--", "true"],
        &["generate", "man", folder],
    ] {
        let (status, message) = unread(arguments);
        assert!(matches!(status, Some(0 | 141)), "{arguments:?}: {status:?} {message}");
        assert!(!message.contains("panicked") && !message.contains("written"), "{message}");
    }
}

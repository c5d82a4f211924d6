//! Commands that are shown before they run.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Shows and runs `command`; its output is ours.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    show(command);
    let status = command.status().map_err(|error| failed(command, &error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(command, &status.to_string())) }
}

/// Runs `command` and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(command, &error.to_string()))?;
    if !output.status.success() {
        return Err(failed(command, &output.status.to_string()));
    }
    String::from_utf8(output.stdout).map_err(|_| failed(command, "printed no text"))
}

/// Shows `command` as one could type it.
pub(crate) fn show(command: &Command) {
    eprintln!("+ {}", text(command));
}

/// Whether `program` is on `PATH`.
pub(crate) fn is_there(program: &str) -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .any(|directory| directory.join(program).is_file())
}

fn failed(command: &Command, how: &str) -> String {
    format!("`{}` failed: {how}", text(command))
}

fn text(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

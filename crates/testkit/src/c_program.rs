//! C programs that a test brings along as text.

use std::path::Path;
use std::process::Command;

/// Compiles `source` to `program`, its text beside it (`.c`), with what makes sites of it that can
/// be told apart: line numbers, a little optimisation, no call left out because the compiler knows
/// its name; and `flags`.
///
/// # Panics
/// When there is no C compiler, or it refuses the text.
pub fn compile_c(source: &str, program: &Path, flags: &[&str]) {
    let text = program.with_extension("c");
    std::fs::write(&text, source).unwrap_or_else(|error| panic!("{}: {error}", text.display()));
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-g", "-fno-builtin"]).args(flags).arg("-o").arg(program).arg(&text);
    let status = compiler.status().unwrap_or_else(|error| panic!("cc: {error}"));
    assert!(status.success(), "cc refuses {}:\n{source}", text.display());
}

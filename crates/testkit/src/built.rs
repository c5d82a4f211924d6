//! The command line as users run it: built by `cargo xtask build`, its objects beside it.

use std::path::Path;
use std::process::{Command, Stdio};

/// `heapwright`, without input. `own` is a binary of the test's own build in the same target
/// directory: `env!("CARGO_BIN_EXE_...")`.
///
/// # Panics
/// When nothing was built.
pub fn heapwright(own: &str) -> Command {
    let target = Path::new(own).parent().and_then(Path::parent).expect("a target directory");
    let binary = target.join("release/heapwright");
    assert!(binary.is_file(), "{} is missing; run `cargo xtask build`", binary.display());
    let mut command = Command::new(binary);
    command.stdin(Stdio::null());
    command
}

//! The command line as users run it: built by `cargo xtask build`, its objects beside it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `heapwright`, without input. `own` is a binary of the test's own build in the same target
/// directory: `env!("CARGO_BIN_EXE_...")`. The variable `HEAPWRIGHT_BINARY` names another build's, to
/// be tested by the same tests.
///
/// # Panics
/// When nothing was built.
pub fn heapwright(own: &str) -> Command {
    let target = Path::new(own).parent().and_then(Path::parent).expect("a target directory");
    let binary = env::var_os("HEAPWRIGHT_BINARY")
        .map_or_else(|| target.join("release/heapwright"), PathBuf::from);
    assert!(binary.is_file(), "{} is missing; run `cargo xtask build`", binary.display());
    let mut command = Command::new(binary);
    command.stdin(Stdio::null());
    command
}

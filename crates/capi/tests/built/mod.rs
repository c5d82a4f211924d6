//! The built objects, and C programs that run under them. `HEAPWRIGHT_LIB_DIR` names the directory
//! that `cargo xtask test` put the objects into.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The object `name` in `HEAPWRIGHT_LIB_DIR`.
pub fn object(name: &str) -> PathBuf {
    let directory = std::env::var_os("HEAPWRIGHT_LIB_DIR").expect(
        "HEAPWRIGHT_LIB_DIR is not set: build the objects with \
         `cargo build --profile so -p heapwright-preload` and name their directory",
    );
    let path = PathBuf::from(directory).join(name);
    assert!(path.exists(), "{} is not built", path.display());
    path.canonicalize().expect("it exists")
}

/// The object that programs run under: the one that `HEAPWRIGHT_SUBJECT` names, else mode fast's.
#[allow(dead_code, reason = "not every test binary runs in several modes")]
pub fn subject() -> PathBuf {
    let name = std::env::var("HEAPWRIGHT_SUBJECT");
    object(name.as_deref().unwrap_or("libheapwright_preload.so"))
}

/// A directory for what this test binary compiles, kept until it ends.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIRECTORY.get_or_init(|| tempfile::tempdir().expect("a directory")).path()
}

/// Compiles `source` of this directory into `directory` as `name`.
#[allow(dead_code, reason = "each test binary has its own programs")]
pub fn compile_as(compiler: &str, source: &str, name: &str, flags: &[&str]) -> PathBuf {
    let program = directory().join(name);
    let output = Command::new(compiler)
        .args(["-O1", "-g", "-fno-builtin", "-w", "-pthread", "-o"])
        .arg(&program)
        .arg(format!("{}/tests/{source}", env!("CARGO_MANIFEST_DIR")))
        .args(flags)
        .output()
        .expect("a C compiler");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {source}: {complaint}");
    program
}

/// Runs `command` with `object` preloaded.
#[allow(dead_code, reason = "not every test binary starts programs so")]
pub fn run_under(object: &Path, command: &mut Command) -> Output {
    command.env("LD_PRELOAD", object).output().expect("it starts")
}

/// Asserts that a case of `life/check.h` ended well and said nothing else.
#[allow(dead_code, reason = "not every test binary has such cases")]
#[track_caller]
pub fn expect_fine(output: &Output) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {complaint}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fine\n", "{complaint}");
    assert_eq!(complaint, "");
}

//! Small allocators, compiled when a test needs them.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `tests/objects/NAME.c` into `folder`; the object.
pub fn build(folder: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/objects/{name}.c"));
    let object = folder.join(format!("lib{name}{}.so", flags.len()));
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-fno-builtin", "-o"])
        .arg(&object)
        .arg(&source)
        .args(flags)
        .status()
        .expect("a C compiler");
    assert!(status.success(), "{} does not compile", source.display());
    object
}

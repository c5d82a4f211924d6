//! `bench`: allocators beside each other on the bundled program.

use crate::workspace::Workspace;
use crate::{build, shell};
use std::process::Command;

/// Builds and compares.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    build::run(workspace, &[])?;
    let mut compare = Command::new(workspace.release().join("heapwright"));
    compare.arg("compare").args(arguments).arg("--");
    compare.arg(workspace.release().join("heapwright-demo"));
    shell::run(compare.current_dir(&workspace.root))
}

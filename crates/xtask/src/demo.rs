//! `demo`: the main job on the bundled program.

use crate::workspace::Workspace;
use crate::{build, setup, shell};
use std::process::Command;

/// Builds and runs `heapwright demo`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    setup::run(setup::TO_BUILD)?;
    build::run(workspace)?;
    let mut demo = Command::new(workspace.release().join("heapwright"));
    shell::run(demo.arg("demo").args(arguments).current_dir(&workspace.root))
}

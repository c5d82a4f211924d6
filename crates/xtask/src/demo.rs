//! `demo`: the main job on the bundled program.

use crate::workspace::Workspace;
use crate::{build, setup, shell};
use std::process::Command;

/// Builds and runs `heapwright demo`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    setup::run(setup::TO_BUILD)?;
    build::run(workspace, &[])?;
    let mut demo = Command::new(workspace.release().join("heapwright"));
    // Out of the checkout's way; unless a place is named.
    if !arguments.iter().any(|argument| argument == "-o" || argument.starts_with("--output")) {
        demo.arg("demo").arg("-o").arg(workspace.target.join("demo"));
    } else {
        demo.arg("demo");
    }
    shell::run(demo.args(arguments).current_dir(&workspace.root))
}

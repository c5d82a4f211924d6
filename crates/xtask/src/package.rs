//! `package`: what would be published, for every crate that may be.

use crate::shell;
use crate::tidy::DEVELOPMENT;
use crate::workspace::{Crate, Workspace};

/// Packages the library crates and the binary together, so that they may depend on each other
/// without being in a registry yet.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let mut command = workspace.cargo("package");
    command.args(["--no-verify", "--allow-dirty"]);
    let published =
        |one: &&Crate| one.publish && !one.is_object && !DEVELOPMENT.contains(&one.name.as_str());
    for one in workspace.crates.iter().filter(published) {
        command.args(["--package", &one.name]);
    }
    shell::run(&mut command)
}

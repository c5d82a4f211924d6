//! `package`: what would be published, for every crate that may be.

use crate::shell;
use crate::workspace::Workspace;

/// Packages the library crates and the binary together, so that they may depend on each other
/// without being in a registry yet.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let mut command = workspace.cargo("package");
    command.args(["--no-verify", "--allow-dirty"]);
    for one in workspace.crates.iter().filter(|one| one.publish && !one.is_object) {
        command.args(["--package", &one.name]);
    }
    shell::run(&mut command)
}

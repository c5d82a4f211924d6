//! `package`: what would be published, for every crate that may be.

use crate::shell;
use crate::tidy::DEVELOPMENT;
use crate::workspace::{Crate, Workspace};

/// Packages the library crates and the binary together and builds each from its package: cargo
/// lays a registry of its own over the real one, in which they find each other.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let mut command = workspace.cargo("package");
    command.arg("--allow-dirty");
    let published =
        |one: &&Crate| one.publish && !one.is_object && !DEVELOPMENT.contains(&one.name.as_str());
    for one in workspace.crates.iter().filter(published) {
        command.args(["--package", &one.name]);
    }
    shell::run(&mut command)
}

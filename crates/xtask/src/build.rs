//! `build`: the binary and the shared objects, side by side in `target/release`.

use crate::shell;
use crate::workspace::Workspace;
use std::fs;
use std::path::Path;

/// Builds what a user runs.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    shell::run(workspace.cargo("build").args(["--release", "--package", "heapwright-cli"]))?;
    let mut objects = workspace.cargo("build");
    // No unwinding, one unit, all in one: the profile is in the workspace's manifest.
    objects.args(["--profile", "so"]);
    for object in workspace.objects() {
        objects.args(["--package", &object.name]);
    }
    shell::run(&mut objects)?;
    for object in workspace.objects() {
        let file = format!("lib{}.so", object.name.replace('-', "_"));
        place(&workspace.target.join("so").join(&file), &workspace.release().join(&file))?;
    }
    Ok(())
}

/// Copies to a fresh file and renames: a program that has the old one mapped keeps it whole.
fn place(from: &Path, to: &Path) -> Result<(), String> {
    let fresh = to.with_extension("so.new");
    fs::copy(from, &fresh)
        .and_then(|_| fs::rename(&fresh, to))
        .map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

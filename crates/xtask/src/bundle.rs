//! `bundle`: the report's page from its npm packages, as the lock file has them.

use crate::shell;
use crate::workspace::Workspace;
use std::path::Path;
use std::process::Command;
use std::{collections::BTreeMap, fs};

/// Builds the page; an error tells that the committed bundle was another one.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let report = workspace.root.join("crates/report");
    let assets = report.join("assets");
    let before = files(&assets)?;
    for arguments in [&["ci"][..], &["run", "build"]] {
        shell::run(Command::new("npm").args(arguments).current_dir(report.join("web")))?;
    }
    let after = files(&assets)?;
    let changed: Vec<&str> = after
        .iter()
        .filter(|(name, bytes)| before.get(*name) != Some(bytes))
        .map(|(name, _)| name.as_str())
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(format!("crates/report/assets changed ({}); commit the new bundle", changed.join(", ")))
}

fn files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let failed = |error| format!("{}: {error}", directory.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let bytes = fs::read(entry.path()).map_err(failed)?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    Ok(files)
}

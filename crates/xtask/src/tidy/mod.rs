//! `tidy`: what a reader relies on and no compiler checks.

mod floors;
mod links;
mod places;
mod sources;
mod unsafe_code;

use crate::workspace::Workspace;
pub(crate) use floors::DEVELOPMENT;
use sources::Source;

/// Runs every check and reports all that is wrong.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let sources = Source::all(&workspace.root)?;
    let mut problems = floors::check(&workspace.crates);
    problems.extend(floors::check_no_std(&workspace.crates));
    problems.extend(links::check(&workspace.root, &sources));
    problems.extend(unsafe_code::check(&sources));
    problems.extend(places::check(&workspace.root, &sources));
    if problems.is_empty() {
        println!("tidy: {} files, nothing to say", sources.len());
        return Ok(());
    }
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    Err(format!("tidy: {} problems", problems.len()))
}

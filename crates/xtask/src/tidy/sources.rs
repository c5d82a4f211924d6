//! The text files of the project, as git knows them.

use crate::shell;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A text file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path from the root, with forward slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Every text file that is committed or would be.
    pub(crate) fn all(root: &Path) -> Result<Vec<Self>, String> {
        let mut command = Command::new("git");
        command.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root);
        let listing = shell::output(&mut command)?;
        Ok(listing
            .lines()
            .filter_map(|path| {
                // Not text, or deleted and not committed yet.
                let text = fs::read_to_string(root.join(path)).ok()?;
                Some(Self { path: path.to_owned(), text })
            })
            .collect())
    }

    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is a document.
    pub(crate) fn is_document(&self) -> bool {
        self.path.ends_with(".md")
    }
}

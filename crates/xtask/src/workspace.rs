//! What Cargo knows about the workspace.

use crate::shell;
use serde_json::Value;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace and its crates.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Its folder.
    pub root: PathBuf,
    /// Where Cargo builds, by `CARGO_TARGET_DIR` or `target`.
    pub target: PathBuf,
    /// The crates, by name.
    pub crates: Vec<Crate>,
}

/// A crate of the workspace.
#[derive(Debug)]
pub(crate) struct Crate {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub directory: PathBuf,
    /// Names of normal and build dependencies.
    pub dependencies: Vec<String>,
    /// Its features.
    pub features: Vec<String>,
    /// Whether it is a shared object for preloading.
    pub is_object: bool,
    /// The file of the shared object, when it is one.
    pub object_file: String,
    /// Whether it may be published.
    pub publish: bool,
}

impl Workspace {
    /// Asks Cargo.
    pub(crate) fn find() -> Result<Self, String> {
        // Paths of tools would only get in the way of reproducing a command by hand.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = Command::new(cargo());
        command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root);
        let metadata: Value = serde_json::from_str(&shell::output(&mut command)?)
            .map_err(|error| format!("cargo metadata: {error}"))?;
        let path = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).ok_or(format!("cargo metadata has no {key}"))
        };
        let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
        let mut crates: Vec<Crate> = packages.iter().filter_map(Crate::read).collect();
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, crates })
    }

    /// Where the binary and the objects lie after a build.
    pub(crate) fn release(&self) -> PathBuf {
        self.target.join("release")
    }

    /// A Cargo command in the workspace.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(cargo());
        command.arg(subcommand).current_dir(&self.root);
        command
    }

    /// The `.so` crates.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Crate> {
        self.crates.iter().filter(|one| one.is_object)
    }
}

impl Crate {
    fn read(package: &Value) -> Option<Self> {
        let manifest = Path::new(package["manifest_path"].as_str()?);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let kinds: Vec<String> = list(&package["targets"])
            .iter()
            .flat_map(|target| list(&target["kind"]))
            .filter_map(|kind| text(&kind))
            .collect();
        let has = |kind: &str| kinds.iter().any(|one| one == kind);
        let library = list(&package["targets"])
            .iter()
            .find(|target| list(&target["kind"]).iter().any(|kind| kind == "cdylib"))
            .and_then(|target| text(&target["name"]));
        Some(Self {
            name: text(&package["name"])?,
            directory: manifest.parent()?.to_owned(),
            dependencies: list(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["kind"] != "dev")
                .filter_map(|dependency| text(&dependency["name"]))
                .collect(),
            features: package["features"].as_object()?.keys().cloned().collect(),
            is_object: has("cdylib") && !has("lib"),
            object_file: library.map_or(String::new(), |name| format!("lib{name}.so")),
            // Null allows every registry, an empty list none.
            publish: package["publish"].is_null(),
        })
    }
}

fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

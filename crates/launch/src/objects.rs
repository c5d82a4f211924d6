//! Where Heapwright's own shared objects lie: beside the binary in a build, in
//! `../lib/heapwright` when installed.

use std::path::{Path, PathBuf};
use std::{env, fmt, io};

/// The allocators that come as preloadable objects, besides ours.
pub const PEERS: [&str; 3] = ["mimalloc", "jemalloc", "rpmalloc"];

/// A peer that is there only when it was asked for: `cargo xtask build --snmalloc`.
pub const OPTIONAL_PEER: &str = "snmalloc";

/// The directories in which the objects are looked for, in order.
#[derive(Clone, Debug)]
pub struct Objects {
    directories: Vec<PathBuf>,
}

/// An object that is in none of the directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingObject {
    /// The file name.
    pub file: String,
    /// Where it was looked for.
    pub directories: Vec<PathBuf>,
}

impl Objects {
    /// The directories that belong to the running binary.
    ///
    /// # Errors
    /// When the system does not tell where the binary lies.
    pub fn of_this_binary() -> io::Result<Self> {
        Ok(Self::of_binary(&env::current_exe()?))
    }

    /// The directories that belong to the binary at `exe`: its own (and the one above
    /// `deps/`, where Cargo keeps test binaries), then `../lib/heapwright`.
    pub fn of_binary(exe: &Path) -> Self {
        let mut directories = Vec::new();
        if let Some(own) = exe.parent() {
            directories.push(own.to_owned());
            if let Some(above) = own.parent() {
                if own.ends_with("deps") {
                    directories.push(above.to_owned());
                }
                directories.push(above.join("lib").join("heapwright"));
            }
        }
        Self { directories }
    }

    /// `directory` alone.
    pub fn in_directory(directory: PathBuf) -> Self {
        Self { directories: vec![directory] }
    }

    /// The recorder.
    ///
    /// # Errors
    /// [`MissingObject`].
    pub fn recorder(&self) -> Result<PathBuf, MissingObject> {
        self.find("libheapwright_recorder.so")
    }

    /// The object that serves one call site by a region.
    ///
    /// # Errors
    /// [`MissingObject`].
    pub fn sites(&self) -> Result<PathBuf, MissingObject> {
        self.find("libheapwright_sites.so")
    }

    /// Our allocator in `mode`: `fast`, `compact`, `hardened` or `check`.
    ///
    /// # Errors
    /// [`MissingObject`]: the mode is not built (or is no mode).
    pub fn allocator(&self, mode: &str) -> Result<PathBuf, MissingObject> {
        match mode {
            "fast" => self.find("libheapwright_preload.so"),
            other => self.find(&format!("libheapwright_{other}.so")),
        }
    }

    /// The peers to use when none is named: [`PEERS`], and the optional one if it is there.
    pub fn peers(&self) -> impl Iterator<Item = &'static str> {
        PEERS.into_iter().chain(self.peer(OPTIONAL_PEER).is_ok().then_some(OPTIONAL_PEER))
    }

    /// Peer `name`, one of [`PEERS`] or [`OPTIONAL_PEER`].
    ///
    /// # Errors
    /// [`MissingObject`].
    pub fn peer(&self, name: &str) -> Result<PathBuf, MissingObject> {
        self.find(&format!("libheapwright_peer_{name}.so"))
    }

    /// The file called `file`.
    ///
    /// # Errors
    /// [`MissingObject`].
    pub fn find(&self, file: &str) -> Result<PathBuf, MissingObject> {
        self.directories
            .iter()
            .map(|directory| directory.join(file))
            .find(|path| path.is_file())
            .ok_or_else(|| MissingObject {
                file: file.to_owned(),
                directories: self.directories.clone(),
            })
    }
}

impl fmt::Display for MissingObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is missing (looked in", self.file)?;
        for (index, directory) in self.directories.iter().enumerate() {
            write!(f, "{} {}", if index == 0 { "" } else { "," }, directory.display())?;
        }
        write!(f, "); `cargo xtask build` makes it")
    }
}

impl std::error::Error for MissingObject {}

#[cfg(test)]
mod tests {
    use super::Objects;
    use std::fs;
    use std::path::Path;

    #[test]
    fn installed_objects_are_found_from_the_binary() {
        let prefix = tempfile::tempdir().expect("a directory");
        let library = prefix.path().join("lib/heapwright");
        fs::create_dir_all(&library).expect("created");
        fs::write(library.join("libheapwright_recorder.so"), "").expect("written");
        let objects = Objects::of_binary(&prefix.path().join("bin/heapwright"));
        assert_eq!(objects.recorder(), Ok(library.join("libheapwright_recorder.so")));
        let missing = objects.peer("mimalloc").expect_err("it is not there").to_string();
        assert!(missing.starts_with("libheapwright_peer_mimalloc.so is missing (looked in"));
        assert!(missing.ends_with("`cargo xtask build` makes it"), "{missing}");
    }

    #[test]
    fn test_binaries_look_above_deps() {
        let objects = Objects::of_binary(Path::new("t/release/deps/cli-0123"));
        assert!(objects.directories.contains(&Path::new("t/release").to_owned()));
    }
}

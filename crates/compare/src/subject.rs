//! An allocator under which the program is run.

use heapwright_launch::{MissingObject, OPTIONAL_PEER, Objects, PEERS, PreloadObject};
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

/// Modes of our own allocator besides `fast`, which is plainly called `heapwright`.
const MODES: [&str; 3] = ["compact", "hardened", "check"];

/// An allocator: the system's, or an object that is preloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `system`, `heapwright`, `mimalloc`, ..., or the file name of a `.so`.
    pub name: String,
    /// Version as the allocator tells it; empty when it does not.
    pub version: String,
    /// `libc`, `own`, `crates.io`, or the path.
    pub origin: String,
    /// What is preloaded: nothing for the system's. An error is carried into the table.
    pub object: Result<Option<PreloadObject>, String>,
    /// What the program's environment has besides.
    pub environment: Vec<(OsString, OsString)>,
}

/// Why a name stands for no allocator.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubjectError {
    /// Neither a known name nor a path.
    Unknown(String),
    /// The object of a known name is not there.
    Missing(MissingObject),
    /// The object cannot be preloaded; the text says why.
    Unusable(String),
}

impl Subject {
    /// The system's allocator: nothing is preloaded.
    pub fn system() -> Self {
        let libc = heapwright_launch::Machine::this().libc;
        Self {
            name: "system".into(),
            version: libc,
            origin: "libc".into(),
            object: Ok(None),
            environment: Vec::new(),
        }
    }

    /// What `name` stands for: `system`, `heapwright`, a mode of ours (`hardened`), a peer
    /// (`mimalloc`), or the path of a `.so` (with a slash, or ending in `.so`).
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn named(name: &str, objects: &Objects) -> Result<Self, SubjectError> {
        if name == "system" {
            return Ok(Self::system());
        }
        if name.contains('/') || name.ends_with(".so") {
            return Self::at_path(Path::new(name));
        }
        let (path, origin) = if name == "heapwright" {
            (objects.allocator("fast"), "own")
        } else if MODES.contains(&name) {
            (objects.allocator(name), "own")
        } else if PEERS.contains(&name) || name == OPTIONAL_PEER {
            (objects.peer(name), "crates.io")
        } else {
            return Err(SubjectError::Unknown(name.to_owned()));
        };
        let path = path.map_err(SubjectError::Missing)?;
        Ok(Self::with_object(name, origin, &path))
    }

    /// The object at `path`.
    ///
    /// # Errors
    /// [`SubjectError::Unusable`].
    pub fn at_path(path: &Path) -> Result<Self, SubjectError> {
        let object = PreloadObject::check(path);
        let object = object.map_err(|error| SubjectError::Unusable(error.to_string()))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let origin = object.path().display().to_string();
        Ok(Self {
            name,
            version: object.version().unwrap_or_default().to_owned(),
            origin,
            object: Ok(Some(object)),
            environment: Vec::new(),
        })
    }

    /// The system's, ours, and every peer; one whose object is missing or unusable becomes a
    /// row that says so.
    pub fn all(objects: &Objects) -> Vec<Self> {
        ["system", "heapwright"]
            .into_iter()
            .chain(objects.peers())
            .map(|name| {
                Self::named(name, objects).unwrap_or_else(|error| Self {
                    name: name.to_owned(),
                    version: String::new(),
                    origin: String::new(),
                    object: Err(error.to_string()),
                    environment: Vec::new(),
                })
            })
            .collect()
    }

    /// Whether nothing is preloaded.
    pub fn is_system(&self) -> bool {
        self.object == Ok(None)
    }

    fn with_object(name: &str, origin: &str, path: &Path) -> Self {
        let object = PreloadObject::check(path).map_err(|error| error.to_string());
        let version = object.as_ref().ok().and_then(PreloadObject::version).unwrap_or_default();
        // A peer calls itself `mimalloc 3.1.5`; the name stands in its own column.
        let version = version.strip_prefix(name).unwrap_or(version).trim().to_owned();
        Self {
            name: name.into(),
            version,
            origin: origin.into(),
            object: object.map(Some),
            environment: Vec::new(),
        }
    }
}

impl fmt::Display for SubjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(
                f,
                "`{name}` is no allocator known here; use system, heapwright, {}, {OPTIONAL_PEER}, or a \
                 path of a .so",
                PEERS.join(", ")
            ),
            Self::Missing(missing) => missing.fmt(f),
            Self::Unusable(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for SubjectError {}

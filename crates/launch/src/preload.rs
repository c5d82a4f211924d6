//! A shared object that is to be preloaded: checked first, since the dynamic linker only warns
//! about one it cannot load and then runs the program without it.

use crate::elf::ElfFacts;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fmt, io};

/// Programs small enough to try an object on; the first one present is used.
const TRIAL_PROGRAMS: [&str; 2] = ["/bin/true", "/usr/bin/true"];

/// An object that this system loads into a program, and that replaces malloc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreloadObject {
    path: PathBuf,
    version: Option<String>,
}

/// Why an object cannot be preloaded.
#[derive(Debug)]
#[non_exhaustive]
pub enum ObjectError {
    /// It cannot be read.
    Unreadable(PathBuf, io::Error),
    /// It is not a shared object for this machine.
    NotAnObject(PathBuf),
    /// It defines no `malloc` and `free`.
    NoMalloc(PathBuf),
    /// Its path has a character at which `LD_PRELOAD` is split.
    Unspeakable(PathBuf),
    /// The dynamic linker refused it, or a program as small as `true` fails under it.
    Refused(PathBuf, String),
}

impl PreloadObject {
    /// Takes the object at `path` if it is one, exports malloc and free, and `/bin/true` runs
    /// under it. Some 2 ms.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn check(path: &Path) -> Result<Self, ObjectError> {
        let unreadable = |error| ObjectError::Unreadable(path.to_owned(), error);
        let path = fs::canonicalize(path).map_err(unreadable)?;
        let facts = File::open(&path).and_then(|mut file| ElfFacts::read(&mut file));
        let facts = match facts {
            Ok(Some(facts)) if facts.own_kind && facts.is_dynamic => facts,
            Ok(_) => return Err(ObjectError::NotAnObject(path)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(ObjectError::NotAnObject(path));
            }
            Err(error) => return Err(unreadable(error)),
        };
        if !facts.defines_malloc || !facts.defines_free {
            return Err(ObjectError::NoMalloc(path));
        }
        if path.as_os_str().as_bytes().iter().any(|byte| b" :\t\n".contains(byte)) {
            return Err(ObjectError::Unspeakable(path));
        }
        try_on_true(&path)?;
        Ok(Self { path, version: facts.version })
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name and version as it tells them (`mimalloc 3.1.5`), if it does.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The value of `LD_PRELOAD` that loads it before anything that is preloaded already.
    pub fn ld_preload(&self) -> OsString {
        Self::prepend(&self.path, env::var_os("LD_PRELOAD").as_deref())
    }

    /// `path` before what `LD_PRELOAD` holds already.
    pub fn prepend(path: &Path, present: Option<&OsStr>) -> OsString {
        let mut value = path.as_os_str().to_owned();
        if let Some(present) = present.filter(|present| !present.is_empty()) {
            value.push(":");
            value.push(present);
        }
        value
    }
}

/// The dynamic linker says on standard error when it ignores an object, and nothing else tells.
fn try_on_true(path: &Path) -> Result<(), ObjectError> {
    let Some(program) = TRIAL_PROGRAMS.into_iter().find(|program| Path::new(program).exists())
    else {
        return Ok(());
    };
    let refused = |text: String| ObjectError::Refused(path.to_owned(), text);
    let output = Command::new(program)
        .env("LD_PRELOAD", path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| refused(error.to_string()))?;
    let message = String::from_utf8_lossy(&output.stderr);
    if message.contains("cannot be preloaded") {
        let reason = message.split_once("cannot be preloaded").map_or("", |(_, rest)| rest);
        let reason = reason.trim().trim_end_matches(": ignored.").trim_matches(['(', ')', ' ']);
        return Err(refused(format!("the dynamic linker refuses it: {reason}")));
    }
    if !output.status.success() {
        let how = crate::describe_status(output.status);
        return Err(refused(format!("{program} fails under it: {how}")));
    }
    Ok(())
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(f, "{}: cannot be read ({error}); check the path", path.display())
            }
            Self::NotAnObject(path) => write!(
                f,
                "{}: not a shared object for this machine; name a .so built for it",
                path.display()
            ),
            Self::NoMalloc(path) => write!(
                f,
                "{}: defines no malloc and free, so it would change nothing; name an allocator",
                path.display()
            ),
            Self::Unspeakable(path) => write!(
                f,
                "{}: LD_PRELOAD cannot name a path with a blank or a colon; move or link it",
                path.display()
            ),
            Self::Refused(path, reason) => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for ObjectError {}

#[cfg(test)]
mod tests {
    use super::PreloadObject;
    use std::ffi::OsStr;
    use std::path::Path;

    #[test]
    fn an_object_comes_before_what_is_preloaded() {
        let path = Path::new("/a.so");
        assert_eq!(PreloadObject::prepend(path, None), "/a.so");
        assert_eq!(PreloadObject::prepend(path, Some(OsStr::new(""))), "/a.so");
        assert_eq!(PreloadObject::prepend(path, Some(OsStr::new("/b.so"))), "/a.so:/b.so");
    }
}

//! Which allocators to replay on, and how.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::ReplayError;

/// An allocator to replay on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocatorSpec {
    /// Name in the report.
    pub name: String,
    /// The object to preload; none for the system's own allocator.
    pub so: Option<PathBuf>,
    /// Where it comes from: `libc`, `crates.io`, `own`, or the path.
    pub origin: String,
    /// Its version; empty lets the allocator itself tell it.
    pub version: String,
}

impl AllocatorSpec {
    /// The C library's own.
    pub fn system() -> Self {
        let (name, origin) = ("system".to_owned(), "libc".to_owned());
        Self { name, so: None, origin, version: String::new() }
    }

    /// The object at `path`, named after its file: `libfoo.so.2` is `foo`.
    pub fn object(path: &Path) -> Self {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = file.split(".so").next().unwrap_or(&file);
        let name = stem.strip_prefix("lib").unwrap_or(stem).to_owned();
        let origin = path.display().to_string();
        Self { name, so: Some(path.to_owned()), origin, version: String::new() }
    }

    /// Checks, before anything is measured, that there is something to preload.
    ///
    /// # Errors
    /// [`ReplayError::Allocator`] that says what is wrong with the file.
    pub fn check(&self) -> Result<(), ReplayError> {
        let Some(path) = &self.so else { return Ok(()) };
        let wrong = |reason: String| {
            Err(ReplayError::Allocator { name: self.name.clone(), path: path.clone(), reason })
        };
        if path.as_os_str().as_bytes().iter().any(|&byte| byte == b':' || byte == b' ') {
            let reason = "the loader cannot preload a path with a space or a colon; \
                          copy the file somewhere else";
            return wrong(reason.to_owned());
        }
        let mut magic = [0; 5];
        match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(error) => return wrong(format!("it cannot be read: {error}")),
            Ok(()) => {}
        }
        let own_class = if cfg!(target_pointer_width = "64") { 2 } else { 1 };
        if magic[..4] != *b"\x7fELF" {
            return wrong("it is not a shared object; name a .so file".to_owned());
        }
        if magic[4] != own_class {
            return wrong("it is a shared object for another word size".to_owned());
        }
        Ok(())
    }
}

/// How a worker process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerProgram {
    /// A program that calls [`crate::worker_main`] when its first argument is
    /// [`crate::WORKER_ARGUMENT`].
    pub program: PathBuf,
    /// Arguments before that one; usually none.
    pub arguments: Vec<OsString>,
}

impl WorkerProgram {
    /// The program that is running.
    ///
    /// # Errors
    /// What finding it gives.
    pub fn this() -> Result<Self, ReplayError> {
        let program = std::env::current_exe()
            .map_err(|error| ReplayError::System { doing: "find the own program", error })?;
        Ok(Self { program, arguments: Vec::new() })
    }
}

/// How to replay.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// Allocators, each a row of the report, in this order; times are told against the first.
    pub allocators: Vec<AllocatorSpec>,
    /// Number of the process in the recording; none for the one with the most events.
    pub process: Option<usize>,
    /// Timing runs of each allocator, alternating.
    pub repeats: u32,
    /// No further round of timing runs begins after this time (but three always run).
    pub time_budget: Option<Duration>,
    /// Memory runs keep to the recorded clock, since allocators give memory back by the clock; a
    /// recording that is longer than this has its pauses cut, the longest first. Nought for as
    /// fast as it goes.
    pub pace_limit: Duration,
    /// A run that takes longer is ended.
    pub run_limit: Duration,
    /// A run that gets no further for so long is ended.
    pub stall_limit: Duration,
    /// How closely threads keep together.
    pub shape: crate::Shape,
    /// How workers are started; none for the program that is running.
    pub worker: Option<WorkerProgram>,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self {
            allocators: vec![AllocatorSpec::system()],
            process: None,
            repeats: 5,
            time_budget: None,
            pace_limit: Duration::from_secs(15),
            run_limit: Duration::from_secs(1800),
            stall_limit: Duration::from_secs(30),
            shape: crate::Shape::default(),
            worker: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::AllocatorSpec;
    use crate::error::ReplayError;

    #[test]
    fn an_object_is_named_after_its_file() {
        let name = |path: &str| AllocatorSpec::object(Path::new(path)).name;
        assert_eq!(name("/usr/lib/libfoo.so.2"), "foo");
        assert_eq!(name("bar.so"), "bar");
    }

    #[test]
    fn a_wrong_object_is_told_before_anything_runs() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = folder.path().join("text.so");
        std::fs::write(&text, "not an object").expect("write");
        let empty = folder.path().join("empty.so");
        std::fs::write(&empty, "").expect("write");
        let missing = folder.path().join("missing.so");
        for (path, what) in [(text, "not a shared"), (empty, "not a shared"), (missing, "No such")]
        {
            match AllocatorSpec::object(&path).check() {
                Err(error @ ReplayError::Allocator { .. }) => {
                    let text = error.to_string();
                    assert!(text.contains(what) && text.contains(".so"), "{text}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

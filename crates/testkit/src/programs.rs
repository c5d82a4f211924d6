//! The C and C++ programs of `programs/`, compiled when a test asks for one.
//!
//! Each program counts its own allocation calls and prints them as a line that [`Counts`]
//! reads, so that a recording can be checked call by call. Sizes of those calls leave
//! [`SIZE_REMAINDER`] when divided by [`SIZE_MODULUS`] (except for one OS page of
//! `entry_points`), which tells them from the C library's own.
//!
//! Programs are kept in the temporary directory under the hash of their source and flags, so
//! each is compiled once per machine and change.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// What the programs' sizes are counted modulo.
pub const SIZE_MODULUS: u64 = 64;
/// What the programs' sizes leave modulo [`SIZE_MODULUS`].
pub const SIZE_REMAINDER: u64 = 27;

/// Compiles program `name` of `programs/` with `-O1` and debug information, unless that was
/// done before, and returns the executable (for `plugin`, the shared object).
///
/// About 0.1 s the first time, then a hash of the source.
///
/// # Panics
/// If there is no such program, or the compiler (`cc`, `c++`) is missing or refuses it: a test
/// that cannot have its program has failed.
pub fn compile(name: &str) -> PathBuf {
    compile_with(name, &[])
}

/// [`compile`] with more flags for the compiler, such as `-fomit-frame-pointer` or `-static`.
///
/// # Panics
/// As [`compile`].
pub fn compile_with(name: &str, flags: &[&str]) -> PathBuf {
    let source = source_of(name);
    let cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let mut arguments = vec!["-O1", "-g", "-pthread", "-Wall", "-fno-builtin"];
    if name == "plugin" {
        arguments.extend(["-shared", "-fPIC"]);
    }
    arguments.extend(flags);
    let target = cached_path(name, &source, &arguments);
    if target.exists() {
        return target;
    }
    let directory = target.parent().expect("the target lies in a directory of its own");
    fs::create_dir_all(directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    // Tests run at the same time: each compiles to a name of its own, the last rename wins.
    let fresh = directory.join(format!("{name}.{}", unique()));
    let compiler = if cpp { "c++" } else { "cc" };
    let output = Command::new(compiler)
        .args(&arguments)
        .arg("-o")
        .arg(&fresh)
        .arg(&source)
        .arg("-ldl")
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}; `cargo xtask test` installs it"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {arguments:?} {source:?}:\n{message}");
    fs::rename(&fresh, &target).unwrap_or_else(|error| panic!("{target:?}: {error}"));
    target
}

fn source_of(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let c = directory.join(format!("{name}.c"));
    let cpp = directory.join(format!("{name}.cpp"));
    [c, cpp].into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no program {name}"))
}

fn cached_path(name: &str, source: &Path, arguments: &[&str]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    for path in [source, &source.with_file_name("counted.h")] {
        let text = fs::read(path).unwrap_or_else(|error: io::Error| panic!("{path:?}: {error}"));
        text.hash(&mut hasher);
    }
    arguments.hash(&mut hasher);
    let directory = format!("heapwright-testkit-{:016x}", hasher.finish());
    std::env::temp_dir().join(directory).join(name)
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Relaxed: only the numbers' difference matters.
    format!("{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The calls that one process of a program says it made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Process id.
    pub pid: u32,
    /// Calls of malloc, and of operator new without an alignment.
    pub malloc: u64,
    /// Calls of calloc.
    pub calloc: u64,
    /// Calls of realloc and reallocarray.
    pub realloc: u64,
    /// Calls that name an alignment.
    pub aligned: u64,
    /// Calls that freed something (not `free(NULL)`, not realloc).
    pub free: u64,
    /// Requested bytes of all of them.
    pub bytes: u64,
}

impl Counts {
    /// Reads every `counts` line of a program's standard output, in order.
    ///
    /// # Panics
    /// If a line has an unknown field or a value that is no number.
    pub fn parse(stdout: &str) -> Vec<Self> {
        stdout.lines().filter_map(|line| line.strip_prefix("counts ")).map(Self::line).collect()
    }

    fn line(fields: &str) -> Self {
        let mut counts = Self::default();
        for field in fields.split(' ') {
            let (name, value) = field.split_once('=').expect("name=value");
            let value: u64 = value.parse().expect("a number");
            match name {
                "pid" => counts.pid = value as u32,
                "malloc" => counts.malloc = value,
                "calloc" => counts.calloc = value,
                "realloc" => counts.realloc = value,
                "aligned" => counts.aligned = value,
                "free" => counts.free = value,
                "bytes" => counts.bytes = value,
                _ => panic!("unknown field {name}"),
            }
        }
        counts
    }

    /// Calls that allocate: all but `free`.
    pub fn allocations(&self) -> u64 {
        self.malloc + self.calloc + self.realloc + self.aligned
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn a_line_of_counts_is_read() {
        let text = "other\ncounts pid=7 malloc=3 calloc=1 realloc=2 aligned=4 free=9 bytes=1000\n";
        let counts = Counts::parse(text);
        assert_eq!(counts.len(), 1);
        assert_eq!((counts[0].pid, counts[0].free, counts[0].bytes), (7, 9, 1000));
        assert_eq!(counts[0].allocations(), 10);
    }
}

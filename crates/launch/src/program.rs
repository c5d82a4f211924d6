//! A command, looked up as a shell would, and whether a preloaded object gets into it.

use crate::elf::ElfFacts;
use crate::status::{NOT_EXECUTABLE, NOT_FOUND};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fmt};

/// Scripts whose interpreter is a script, and so on: the kernel's own limit.
const INTERPRETER_DEPTH_MAX: usize = 4;

/// A program that exists and may be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    image: PathBuf,
    reach: Reach,
}

/// Whether and how `LD_PRELOAD` gets into a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// It is linked dynamically: preloading works.
    Preload,
    /// It exports a `malloc` of its own, which comes before a preloaded one: its own calls
    /// are not seen, those of its libraries neither.
    OwnMalloc,
    /// It is linked statically: nothing can be preloaded.
    Static,
    /// It gains rights by being executed (setuid, setgid): the dynamic linker ignores
    /// `LD_PRELOAD` then.
    Secure,
}

/// Why a command cannot be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgramError {
    /// No such file, or nothing of that name on `PATH`.
    NotFound {
        /// As it was given.
        command: OsString,
    },
    /// A directory, or without permission to execute.
    NotExecutable {
        /// What was found.
        path: PathBuf,
        /// Why not, as half a sentence.
        reason: &'static str,
    },
    /// A script whose interpreter is missing or cannot be executed itself.
    BadInterpreter {
        /// The script.
        path: PathBuf,
        /// What its first line names.
        interpreter: PathBuf,
    },
    /// Neither a program nor a script, or one for another machine.
    NotAProgram {
        /// What was found.
        path: PathBuf,
        /// Why not, as half a sentence.
        reason: &'static str,
    },
    /// It could not be read.
    Unreadable {
        /// What was found.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Program {
    /// Looks `command` up: as a path when it has a slash, on `PATH` otherwise.
    ///
    /// Reads the file's headers and dynamic symbols, and for a script those of its interpreter;
    /// some 0.1 ms.
    ///
    /// # Errors
    /// [`ProgramError`]: the command could not be executed either.
    pub fn find(command: &OsStr) -> Result<Self, ProgramError> {
        let path = look_up(command)?;
        let (image, reach) = examine(&path, INTERPRETER_DEPTH_MAX)?;
        Ok(Self { path, image, reach })
    }

    /// The file to execute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ELF file that runs: the program itself, or the interpreter of a script.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Whether a preloaded object gets in.
    pub fn reach(&self) -> Reach {
        self.reach
    }
}

impl Reach {
    /// Why a preloaded object does not see the program's allocations, and what to do instead;
    /// none when it does.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Preload => None,
            Self::OwnMalloc => Some(
                "exports a malloc of its own, which wins over a preloaded one; build it without, \
                 or in Rust wrap its allocator in `heapwright::Recorded`",
            ),
            Self::Static => Some(
                "is linked statically, so nothing can be preloaded; link it dynamically, or in \
                 Rust wrap its allocator in `heapwright::Recorded`",
            ),
            Self::Secure => Some(
                "changes its user or group when executed, so the dynamic linker ignores \
                 LD_PRELOAD; run a copy without the setuid and setgid bits",
            ),
        }
    }
}

impl ProgramError {
    /// The exit status for it: 127 not found, 126 anything else.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NotFound { .. } => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        }
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { command } if command.is_empty() => {
                write!(f, "the command is empty; name a program after `--`")
            }
            Self::NotFound { command } if command.as_bytes().contains(&b'/') => {
                write!(f, "{}: no such file; check the path", command.display())
            }
            Self::NotFound { command } => {
                write!(
                    f,
                    "{}: not found on PATH; check the spelling or give a path",
                    command.display()
                )
            }
            Self::NotExecutable { path, reason } | Self::NotAProgram { path, reason } => {
                write!(f, "{}: {reason}", path.display())
            }
            Self::BadInterpreter { path, interpreter } => write!(
                f,
                "{}: its interpreter {} is missing or not executable; check its first line",
                path.display(),
                interpreter.display()
            ),
            Self::Unreadable { path, source } => {
                write!(f, "{}: cannot be read ({source}); check its permissions", path.display())
            }
        }
    }
}

impl std::error::Error for ProgramError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn look_up(command: &OsStr) -> Result<PathBuf, ProgramError> {
    let missing = || ProgramError::NotFound { command: command.to_owned() };
    if command.is_empty() {
        return Err(missing());
    }
    if command.as_bytes().contains(&b'/') {
        return executable(PathBuf::from(command))?.ok_or_else(missing);
    }
    let mut refused = None;
    for directory in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        match executable(directory.join(command)) {
            Ok(Some(path)) => return Ok(path),
            Ok(None) => {}
            // A later directory may have one that can be executed; execvp goes on likewise.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(missing))
}

/// `path` if it may be executed, none if it does not exist.
fn executable(path: PathBuf) -> Result<Option<PathBuf>, ProgramError> {
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(source) => return Err(ProgramError::Unreadable { path, source }),
    };
    if metadata.is_dir() {
        return Err(ProgramError::NotExecutable { path, reason: "is a directory; name a program" });
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        let reason = "is not executable; `chmod +x` it, or name its interpreter before it";
        return Err(ProgramError::NotExecutable { path, reason });
    }
    Ok(Some(path))
}

/// The ELF image that executing `path` loads, and its reach.
fn examine(path: &Path, depth_left: usize) -> Result<(PathBuf, Reach), ProgramError> {
    let unreadable = |source| ProgramError::Unreadable { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        // Executable but not readable (mode 0711) runs all the same; it cannot be judged.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok((path.to_owned(), Reach::Preload));
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if let Some(facts) = ElfFacts::read(&mut file).map_err(unreadable)? {
        if !facts.own_kind {
            let reason = "was built for another kind of machine; use a build for this one";
            return Err(ProgramError::NotAProgram { path: path.to_owned(), reason });
        }
        let reach = if mode & 0o6000 != 0 {
            Reach::Secure
        } else if !facts.has_interpreter {
            Reach::Static
        } else if facts.defines_malloc {
            Reach::OwnMalloc
        } else {
            Reach::Preload
        };
        return Ok((path.to_owned(), reach));
    }
    let Some(interpreter) = interpreter(&mut file).map_err(unreadable)? else {
        let reason =
            "is neither a program nor a script with a `#!` line; run it by its interpreter";
        return Err(ProgramError::NotAProgram { path: path.to_owned(), reason });
    };
    let found = executable(interpreter.clone()).ok().flatten().filter(|_| depth_left > 0);
    match found {
        Some(found) => examine(&found, depth_left - 1),
        None => Err(ProgramError::BadInterpreter { path: path.to_owned(), interpreter }),
    }
}

/// What the `#!` line names; for `/usr/bin/env NAME` still `env`, which is what the kernel
/// starts (the program it executes then inherits the environment).
fn interpreter(file: &mut File) -> io::Result<Option<PathBuf>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(256).read_to_end(&mut head)?;
    let Some(rest) = head.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let word = line.split(blank).find(|word| !word.is_empty());
    Ok(word.map(|word| PathBuf::from(OsString::from_vec(word.to_vec()))))
}

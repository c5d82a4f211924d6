//! Starting the command.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use heapwright_format::spool::SPOOL_VARIABLE;

/// Where the command's standard output goes.
#[derive(Clone, Debug, Default)]
pub enum Stdout {
    /// Where ours goes.
    #[default]
    Inherit,
    /// To our standard error (ours carries JSON).
    ToStderr,
    /// To a file.
    File(PathBuf),
}

impl Stdout {
    fn stdio(&self) -> io::Result<Stdio> {
        Ok(match self {
            Self::Inherit => Stdio::inherit(),
            Self::ToStderr => io::stderr().into(),
            Self::File(path) => File::create(path)?.into(),
        })
    }
}

/// Starts `words` under the recorder.
///
/// The command gets a process group of its own unless `foreground`, so that Ctrl-C at the
/// terminal reaches us alone.
pub(crate) fn spawn(
    words: &[OsString],
    recorder: &Path,
    spool: &Path,
    stdout: &Stdout,
    foreground: bool,
) -> io::Result<Child> {
    let (program, arguments) =
        words.split_first().ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut preload = recorder.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    if heapwright_os::libc_version().is_some_and(is_before_2_34) {
        // The loader's functions were in a library of their own, which the recorder needs.
        preload.push(":libdl.so.2");
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LD_PRELOAD", preload)
        .env(SPOOL_VARIABLE, spool)
        .stdout(stdout.stdio()?);
    if !foreground {
        command.process_group(0);
    }
    command.spawn()
}

fn is_before_2_34(version: &str) -> bool {
    let minor = version.strip_prefix("2.").and_then(|minor| minor.parse::<u32>().ok());
    minor.is_some_and(|minor| minor < 34)
}

/// Starts the load that drives a server: an ordinary process, not recorded.
pub(crate) fn spawn_load(words: &[OsString], stdout: &Stdout) -> io::Result<Child> {
    let (program, arguments) =
        words.split_first().ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
    Command::new(program).args(arguments).stdout(stdout.stdio()?).stdin(Stdio::null()).spawn()
}

/// The name to show for a command.
pub(crate) fn program_of(words: &[OsString]) -> OsString {
    words.first().map_or_else(|| OsStr::new("?").to_owned(), OsString::clone)
}

//! Where results and messages go: results to stdout, everything else to stderr.

use crate::failure::Failure;
use crate::options::{ColorWhen, GlobalOptions};
use serde::Serialize;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// As a shell gives it for a program that SIGPIPE ended.
const BROKEN_PIPE_STATUS: u8 = 128 + 13;

/// The two streams and how to use them.
#[derive(Debug)]
pub(crate) struct Console {
    json: bool,
    color: ColorWhen,
    cmd_stdout: Option<PathBuf>,
}

impl Console {
    pub(crate) fn new(options: &GlobalOptions) -> Self {
        Self { json: options.json, color: options.color, cmd_stdout: options.cmd_stdout.clone() }
    }

    /// Whether the result is to be one JSON object.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether to colour what goes to stdout.
    pub(crate) fn color(&self) -> bool {
        match self.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }

    /// The file that takes CMD's standard output, if one was named.
    pub(crate) fn cmd_stdout(&self) -> Option<&Path> {
        self.cmd_stdout.as_deref()
    }

    /// CMD's standard output: the named file; with `--json` our stderr; else our stdout.
    pub(crate) fn child_stdout(&self) -> Result<Stdio, Failure> {
        match &self.cmd_stdout {
            Some(path) => File::create(path).map(Stdio::from).map_err(|error| {
                let path = path.display();
                Failure::ours(format!(
                    "{path}: cannot be written ({error}); name another file with --cmd-stdout"
                ))
            }),
            None if self.json => Ok(io::stderr().into()),
            None => Ok(Stdio::inherit()),
        }
    }

    /// Prints `value` as one JSON object and a line end.
    pub(crate) fn print_json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(Failure::ours)?;
        self.print(&text)
    }

    /// Prints `text` and a line end on stdout.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
            // Whoever read it has seen enough (`| head`): no error of anybody's.
            io::ErrorKind::BrokenPipe => Failure::silent(BROKEN_PIPE_STATUS),
            _ => Failure::ours(format!("standard output cannot be written: {error}")),
        })
    }

    /// Prints a line on stderr under our name.
    pub(crate) fn message(&self, text: &str) {
        if text.is_empty() {
            return;
        }
        // Nobody left to tell when even this cannot be written.
        let _ = writeln!(io::stderr().lock(), "heapwright: {text}");
    }
}

//! One run of a program, bare or under a recorder, with the CPU time of everything involved.

use crate::programs::{Load, Program};
use heapwright_launch::{Running, server};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a server may take until it listens, under the slowest recorder.
const SERVER_START: Duration = Duration::from_secs(30);

/// What a program is run under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Nothing.
    Native,
    /// `heapwright record`, by the path of the binary.
    Heapwright(PathBuf),
    /// heaptrack, with its interpreter and compressor as it runs them by default.
    Heaptrack(PathBuf),
}

/// What a run used and left.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// User and system CPU seconds of the program and all helpers, until the file is closed.
    pub cpu_s: f64,
    /// Seconds from start to end, loads of a server included.
    pub wall_s: f64,
    /// Events recorded, as the tool counts them; 0 if it does not say.
    pub events: u64,
    /// Events that the tool says it lost.
    pub dropped: u64,
    /// The file, and its size in bytes; none without a recorder.
    pub file: Option<(PathBuf, u64)>,
}

impl Tool {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Native => "bare",
            Self::Heapwright(_) => "heapwright",
            Self::Heaptrack(_) => "heaptrack",
        }
    }

    /// Runs `program` once; a recording goes into `directory`, over that of an earlier run.
    ///
    /// The CPU time is the kernel's (`wait4`): of the started process and everything that it and
    /// its children waited for, which is all of either recorder. A server's client is not in it.
    ///
    /// # Errors
    /// A sentence when something cannot be run, fails, or leaves no file.
    pub fn run(&self, program: &Program, directory: &Path) -> Result<Run, String> {
        let recording = directory.join(self.name());
        let mut command = self.command(program, &recording);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        if !matches!(self, Self::Heapwright(_)) {
            command.stdout(Stdio::null());
        }
        let failed = |error: std::io::Error| format!("{}: {error}", self.name());
        let mut running = Running::start(&mut command).map_err(failed)?;
        let stdout = running.take_stdout();
        if let Some(load) = &program.load {
            drive(load, &mut running)?;
        }
        let mut said = String::new();
        if let Some(mut stdout) = stdout {
            stdout.read_to_string(&mut said).map_err(failed)?;
        }
        let ended = running.wait().map_err(failed)?;
        if !ended.status.success() {
            return Err(format!("{} {}: {}", self.name(), program.exe.display(), ended.status));
        }
        let (mut events, mut dropped) = (0, 0);
        if let Self::Heapwright(_) = self {
            let result: serde_json::Value =
                serde_json::from_str(&said).map_err(|error| error.to_string())?;
            events = result["events"].as_u64().unwrap_or(0);
            dropped = result["dropped"].as_u64().unwrap_or(0)
                + result["unwritten_events"].as_u64().unwrap_or(0);
        }
        let file = self.file(&recording)?;
        Ok(Run { cpu_s: ended.cpu_s(), wall_s: ended.wall.as_secs_f64(), events, dropped, file })
    }

    fn command(&self, program: &Program, recording: &Path) -> Command {
        let mut command = match self {
            Self::Native => Command::new(&program.exe),
            Self::Heapwright(binary) => {
                let mut command = Command::new(binary);
                command.args(["record", "--json", "-o"]).arg(recording.with_extension("hwr"));
                command.arg("--").arg(&program.exe);
                command
            }
            Self::Heaptrack(binary) => {
                let mut command = Command::new(binary);
                command.arg("-o").arg(recording).arg(&program.exe);
                command
            }
        };
        command.args(&program.arguments);
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The file that a run left; heaptrack chooses the ending by the compressor it finds.
    fn file(&self, recording: &Path) -> Result<Option<(PathBuf, u64)>, String> {
        let path = match self {
            Self::Native => return Ok(None),
            Self::Heapwright(_) => recording.with_extension("hwr"),
            Self::Heaptrack(_) => recording.with_extension("zst"),
        };
        let bytes = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Some((path, bytes.len())))
    }
}

/// Waits for the server, runs the client, ends the server.
fn drive(load: &Load, running: &mut Running) -> Result<(), String> {
    let readiness = server::wait_until_listening(running, SERVER_START);
    match readiness.map_err(|error| error.to_string())? {
        server::Readiness::Listening => {}
        server::Readiness::Ended => return Err("the server ended at once".into()),
        server::Readiness::NotSeen => return Err("the server does not listen".into()),
    }
    let (name, arguments) = load.client.split_first().ok_or("a load without a command")?;
    let mut client = Command::new(name);
    client.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = client.status().map_err(|error| format!("{}: {error}", name.display()))?;
    let mut connection =
        TcpStream::connect(("127.0.0.1", load.port)).map_err(|error| error.to_string())?;
    connection.write_all(b"SHUTDOWN NOSAVE\r\n").map_err(|error| error.to_string())?;
    // It answers by closing the connection.
    let _ = connection.read_to_end(&mut Vec::new());
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", OsStr::display(name))) }
}

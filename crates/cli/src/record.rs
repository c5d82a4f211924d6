//! `heapwright record`: every allocation of a program into a file.

use crate::console::Console;
use crate::failure::Failure;
use crate::progress::Spinner;
use crate::units;
use clap::{Args, ValueEnum};
use heapwright_collect::{
    AfterStop, RecordError, RecordOptions, RecordOutcome, Stdout, StopReason, Target, record,
};
use heapwright_launch::{Machine, Objects, Program};
use serde::Serialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to record and how.
#[derive(Debug, Args)]
pub(crate) struct RecordCommandOptions {
    /// The recording
    #[arg(short, long, value_name = "FILE", default_value = "recording.hwr")]
    output: PathBuf,
    #[command(flatten)]
    capture: CaptureOptions,
    /// Record process PID, started by `heapwright run --dormant`, and the children that it forks;
    /// Ctrl-C, --for and --max-size end the recording and leave it running
    #[arg(long, value_name = "PID", conflicts_with_all = ["command", "afterwards", "foreground"])]
    pid: Option<u32>,
    /// The program and its arguments
    #[arg(required_unless_present = "pid", trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// How to record; `advise` takes the same.
#[derive(Debug, Args)]
pub(crate) struct CaptureOptions {
    /// Record one allocation in so many bytes on average instead of all
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    pub sample: Option<u64>,
    /// Stop recording after this time
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// Stop recording when the file has this size
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub max_size: Option<u64>,
    /// CMD is a server: drive it with this shell command, then stop it
    #[arg(long, value_name = "CMD2")]
    pub load: Option<OsString>,
    /// How long to wait before the load starts [default: until CMD listens on a socket, 10s at
    /// most]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub load_delay: Option<Duration>,
    /// What to do with a CMD that outlives its recording (after --for, --max-size or Ctrl-C)
    #[arg(long, value_name = "WHAT", default_value = "wait")]
    pub afterwards: Afterwards,
    /// Let Ctrl-C reach CMD too, and let it read the terminal
    #[arg(long)]
    pub foreground: bool,
    /// Leave arguments, paths and the host's name out of the recording
    #[arg(long)]
    pub redact: bool,
}

/// What becomes of a command that outlives its recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Afterwards {
    /// Wait until it ends.
    Wait,
    /// Leave it running and return.
    Leave,
    /// Stop it: SIGTERM, then SIGINT, then SIGKILL.
    Terminate,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct RecordResult<'a> {
    schema: u32,
    heapwright_version: &'static str,
    machine: Machine,
    command: Vec<String>,
    recording: &'a Path,
    reason: &'static str,
    exit_status: Option<i32>,
    load_status: Option<i32>,
    events: u64,
    dropped: u64,
    unwritten_events: u64,
    bytes: u64,
    processes: u32,
    lost_processes: u32,
    program_cpu_s: f64,
    collector_cpu_s: f64,
    wall_s: f64,
}

pub(crate) fn run(options: &RecordCommandOptions, console: &Console) -> Result<u8, Failure> {
    let outcome = match options.pid {
        Some(pid) => attach(pid, options, console)?,
        None => capture(&options.command, &options.capture, &options.output, console)?,
    };
    if console.json() {
        console.print_json(&RecordResult {
            schema: 1,
            heapwright_version: env!("CARGO_PKG_VERSION"),
            machine: Machine::this(),
            command: options
                .command
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            recording: &options.output,
            reason: outcome.reason.name(),
            exit_status: outcome.exit_status,
            load_status: outcome.load_status,
            events: outcome.events,
            dropped: outcome.dropped,
            unwritten_events: outcome.unwritten_events,
            bytes: outcome.bytes,
            processes: outcome.processes,
            lost_processes: outcome.lost_processes,
            program_cpu_s: outcome.program_cpu.as_secs_f64(),
            collector_cpu_s: outcome.collector_cpu.as_secs_f64(),
            wall_s: outcome.wall.as_secs_f64(),
        })?;
    }
    Ok(status(&outcome))
}

/// Records `command` into `output` and says on stderr what is missing, if anything is.
pub(crate) fn capture(
    command: &[OsString],
    options: &CaptureOptions,
    output: &Path,
    console: &Console,
) -> Result<RecordOutcome, Failure> {
    recordable(command)?;
    let recorder = Objects::of_this_binary()?.recorder()?;
    collect(Target::Command(command.to_vec()), recorder, options, output, console)
}

/// Whether the command is there and can be recorded.
pub(crate) fn recordable(command: &[OsString]) -> Result<(), Failure> {
    let program = Program::find(&command[0])?;
    match program.reach().remedy() {
        Some(remedy) => Err(Failure::ours(format!("{} {remedy}", program.image().display()))),
        None => Ok(()),
    }
}

/// Records a process that carries a dormant recorder.
fn attach(
    pid: u32,
    options: &RecordCommandOptions,
    console: &Console,
) -> Result<RecordOutcome, Failure> {
    let target = Target::Process(pid);
    collect(target, PathBuf::new(), &options.capture, &options.output, console)
}

fn collect(
    target: Target,
    recorder: PathBuf,
    options: &CaptureOptions,
    output: &Path,
    console: &Console,
) -> Result<RecordOutcome, Failure> {
    let spinner = Spinner::new();
    let mut told = false;
    let is_attached = matches!(target, Target::Process(_));
    let stdout = match (console.cmd_stdout(), console.json()) {
        (Some(path), _) => Stdout::File(path.to_owned()),
        (None, true) => Stdout::ToStderr,
        (None, false) => Stdout::Inherit,
    };
    let outcome = record(RecordOptions {
        target,
        output: output.to_owned(),
        recorder,
        sample_bytes: options.sample.unwrap_or(0),
        time_limit: options.duration,
        bytes_max: options.max_size,
        load: options.load.clone().map(|load| vec!["/bin/sh".into(), "-c".into(), load]),
        load_delay: options.load_delay,
        redact: options.redact,
        foreground: options.foreground,
        stdout,
        after_stop: match options.afterwards {
            Afterwards::Wait => AfterStop::Wait,
            Afterwards::Leave => AfterStop::Leave,
            Afterwards::Terminate => AfterStop::Terminate,
        },
        heapwright_version: env!("CARGO_PKG_VERSION").into(),
        machine: describe(&Machine::this()),
        progress: Some(Box::new(move |state| {
            if state.command_has_terminal {
                // From here on the screen is the command's.
                if !std::mem::replace(&mut told, true) {
                    spinner.hide();
                    eprintln!(
                        "heapwright: CMD reads the terminal and has it now; end CMD to end the recording"
                    );
                }
                return;
            }
            let (events, mib) = (state.events, state.bytes >> 20);
            spinner.set(&format!("recording: {events} events, {mib} MiB"));
        })),
    })?;
    tell_losses(&outcome, output, console);
    if is_attached && outcome.processes == 0 {
        console.message(&format!(
            "{}: the process allocated nothing while it was recorded",
            output.display()
        ));
    }
    Ok(outcome)
}

/// The command's own status; 0 for one that was left running.
pub(crate) fn status(outcome: &RecordOutcome) -> u8 {
    let stopped_by_us = outcome.reason == StopReason::Load;
    if stopped_by_us { 0 } else { outcome.exit_status.unwrap_or(0) as u8 }
}

/// Whether a command has come to its end without an event.
pub(crate) fn is_empty(outcome: &RecordOutcome) -> bool {
    outcome.events == 0 && outcome.reason == StopReason::Exit && outcome.exit_status.is_some()
}

/// A complete recording says nothing; what is missing is said.
fn tell_losses(outcome: &RecordOutcome, output: &Path, console: &Console) {
    let file = output.display();
    if let Some(error) = &outcome.output_error {
        let lost = outcome.unwritten_events;
        console.message(&format!(
            "{file}: {lost} events could not be written ({error}); what was written before is whole"
        ));
    }
    if outcome.dropped > 0 {
        console
            .message(&format!("{file}: {} events were dropped by the recorder", outcome.dropped));
    }
    if outcome.lost_processes > 0 {
        let lost = outcome.lost_processes;
        let processes = if lost == 1 { "process" } else { "processes" };
        console.message(&format!(
            "{file}: {lost} {processes} could not be recorded: an executable with a malloc of its \
             own (build it with `heapwright::Recorded`), a process of another container, or no \
             room for its ring file"
        ));
    }
    if outcome.load_status.is_some_and(|status| status != 0) {
        let status = outcome.load_status.unwrap_or(0);
        console.message(&format!(
            "the load ended with status {status}; is the server up in time (--load-delay)?"
        ));
    }
    if is_empty(outcome) {
        console.message(&format!(
            "{file}: no allocation was recorded; a program with an allocator of its own needs \
             `heapwright::Recorded`"
        ));
    }
}

fn describe(machine: &Machine) -> String {
    let Machine { cpu, cpus, kernel, libc, .. } = machine;
    format!("{cpu}, {cpus} CPUs, Linux {kernel}, {libc}")
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        Self { status: error.exit_status() as u8, message: error.to_string() }
    }
}

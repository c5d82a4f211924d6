//! `heapwright run`: a program with Heapwright's allocator.

use crate::console::Console;
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use heapwright_format::dormant::DORMANT_VARIABLE;
use heapwright_launch::{Objects, PreloadObject, Program, Running, shell_status};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Which allocator, and the program.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Which allocator
    #[arg(long, value_name = "MODE", default_value = "fast")]
    mode: Mode,
    /// Let `heapwright top`, `profile` and `serve` watch it
    #[arg(long)]
    watch: bool,
    /// Sample its allocations; FILE gets the profile at its end (1: only on request)
    #[arg(long, value_name = "FILE|1")]
    profile: Option<String>,
    /// Mean bytes between samples [default: 512K]
    #[arg(long, value_name = "SIZE", value_parser = crate::units::bytes)]
    profile_rate: Option<u64>,
    #[command(flatten)]
    check: crate::check::CheckOptions,
    /// CMD keeps its allocator and gets a recorder that waits for `heapwright record --pid`
    #[arg(long, conflicts_with = "mode")]
    dormant: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// A mode of the allocator; each is an object of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// For speed.
    Fast,
    /// For little memory.
    Compact,
    /// Ends the program when it misuses memory.
    Hardened,
    /// Finds each misuse, slowly.
    Check,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct RunResult {
    schema: u32,
    heapwright_version: &'static str,
    command: Vec<String>,
    mode: &'static str,
    object: String,
    exit_status: u8,
    wall_s: f64,
    cpu_s: f64,
    peak_rss_kb: u64,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Compact => "compact",
            Self::Hardened => "hardened",
            Self::Check => "check",
        }
    }
}

pub(crate) fn run(options: &RunOptions, console: &Console) -> Result<u8, Failure> {
    let program = Program::find(&options.command[0])?;
    if let Some(remedy) = program.reach().remedy() {
        return Err(Failure::ours(format!("{} {remedy}", program.image().display())));
    }
    if options.mode != Mode::Check && options.check.is_used() {
        return Err(Failure::ours("these options need --mode check; see `heapwright run --help`"));
    }
    let objects = Objects::of_this_binary()?;
    let mut command = Command::new(program.path());
    command.args(&options.command[1..]).stdout(console.child_stdout()?);
    if options.dormant {
        let object = PreloadObject::check(&objects.recorder()?)?;
        command.env("LD_PRELOAD", object.ld_preload()).env(DORMANT_VARIABLE, "1");
        return start(command, &program, "dormant", &object, options, console);
    }
    let mode = options.mode.name();
    let path = objects.allocator(mode).map_err(|missing| match options.mode {
        Mode::Fast => missing.into(),
        _ => Failure::ours(format!(
            "mode {mode} is not built yet ({} does not exist); use --mode fast",
            missing.file
        )),
    })?;
    let object = PreloadObject::check(&path)?;
    if options.mode == Mode::Check {
        return crate::check::run(&options.check, console, &program, &options.command, &object);
    }
    command.env("LD_PRELOAD", object.ld_preload());
    watch(&mut command, options)?;
    start(command, &program, mode, &object, options, console)
}

/// Tells the allocator in `command` what to let others see.
fn watch(command: &mut Command, options: &RunOptions) -> Result<(), Failure> {
    if options.watch {
        command.env("HEAPWRIGHT_WATCH", "1");
    }
    if let Some(profile) = &options.profile {
        // The program may change its directory before its end.
        let file = match profile.as_str() {
            "1" => profile.into(),
            path => std::path::absolute(path)
                .map_err(|error| Failure::ours(format!("{path}: {error}")))?,
        };
        command.env("HEAPWRIGHT_PROFILE", file);
    }
    if let Some(bytes) = options.profile_rate {
        command.env("HEAPWRIGHT_PROFILE_RATE", bytes.to_string());
    }
    Ok(())
}

/// Becomes `command`, or with `--json` starts it and tells how it went.
fn start(
    mut command: Command,
    program: &Program,
    mode: &'static str,
    object: &PreloadObject,
    options: &RunOptions,
    console: &Console,
) -> Result<u8, Failure> {
    let refused = |error: std::io::Error| Failure::not_executable(program.path(), &error);
    if !console.json() {
        // Returns only when it fails: CMD takes this process over, with its signals and status.
        return Err(refused(command.exec()));
    }
    let mut running = Running::start_in_our_group(&mut command).map_err(refused)?;
    // Ctrl-C goes to CMD as well; it decides, and we report.
    let _interrupt = crate::interrupt::Interrupt::listen()?;
    let ended = running.wait()?;
    let status = shell_status(ended.status);
    console.print_json(&RunResult {
        schema: 1,
        heapwright_version: env!("CARGO_PKG_VERSION"),
        command: options.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        mode,
        object: object.path().display().to_string(),
        exit_status: status,
        wall_s: ended.wall.as_secs_f64(),
        cpu_s: ended.cpu_s(),
        peak_rss_kb: ended.usage.peak_rss_bytes / 1024,
    })?;
    Ok(status)
}

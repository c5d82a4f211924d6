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

/// The variable that the hardened object reads.
const HARDENED_VARIABLE: &str = "HEAPWRIGHT_HARDENED";

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
    /// With --mode fast or hardened: one block in N lies on pages of its own, and errors with it
    /// are told with all stacks
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "2000",
          value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// With --mode hardened: what follows an error: abort, continue, or exit:N
    #[arg(long, value_name = "REACTION", value_parser = reaction)]
    on_error: Option<String>,
    /// With --mode hardened: look at all blocks when CMD ends
    #[arg(long)]
    sweep: bool,
    /// With --mode hardened: freed memory is zeroed, and looked at before its next use, from end to
    /// end; without, blocks of up to 136 bytes and the first 64 bytes of larger ones
    #[arg(long)]
    zero_all: bool,
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
    refuse_what_does_not_fit(options)?;
    let objects = Objects::of_this_binary()?;
    let mut command = Command::new(program.path());
    command.args(&options.command[1..]).stdout(console.child_stdout()?);
    if options.dormant {
        let object = PreloadObject::check(&objects.recorder()?)?;
        command.env("LD_PRELOAD", object.ld_preload()).env(DORMANT_VARIABLE, "1");
        return start(command, &program, "dormant", &object, options, console);
    }
    let mode = options.mode.name();
    let path = objects.allocator(mode)?;
    let object = PreloadObject::check(&path)?;
    let variable = hardened_words(options).map(|words| (HARDENED_VARIABLE, words));
    if options.mode == Mode::Check || options.sample.is_some() {
        let sample = options.sample.map(|one_in| crate::check::Sample { mode, one_in, variable });
        let checked = &options.check;
        return crate::check::run(checked, console, &program, &options.command, &object, sample);
    }
    command.envs(variable);
    command.env("LD_PRELOAD", object.ld_preload());
    watch(&mut command, options)?;
    start(command, &program, mode, &object, options, console)
}

/// Options that the mode has no use for.
fn refuse_what_does_not_fit(options: &RunOptions) -> Result<(), Failure> {
    let is_sampled = options.sample.is_some();
    if is_sampled && !matches!(options.mode, Mode::Fast | Mode::Hardened) {
        return Err(Failure::ours("--sample needs --mode fast or --mode hardened"));
    }
    if (options.on_error.is_some() || options.sweep || options.zero_all)
        && options.mode != Mode::Hardened
    {
        return Err(Failure::ours("--on-error, --sweep and --zero-all need --mode hardened"));
    }
    let checked = &options.check;
    let used = if is_sampled { checked.is_for_check_only() } else { checked.is_used() };
    if used && options.mode != Mode::Check {
        return Err(Failure::ours("these options need --mode check; see `heapwright run --help`"));
    }
    Ok(())
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

/// What `--on-error` takes.
fn reaction(text: &str) -> Result<String, String> {
    let is_exit = text.strip_prefix("exit:").is_some_and(|status| status.parse::<u8>().is_ok());
    match text {
        "abort" | "continue" => Ok(text.to_owned()),
        _ if is_exit => Ok(text.to_owned()),
        _ => Err("it takes abort, continue, or exit:N with N from 0 to 255".to_owned()),
    }
}

/// The words for the hardened object, if anything was asked for.
fn hardened_words(options: &RunOptions) -> Option<String> {
    let reaction = options.on_error.iter().map(|reaction| format!("on-error={reaction}"));
    let sweep = options.sweep.then(|| "sweep=1".to_owned());
    let zero = options.zero_all.then(|| "zero=all".to_owned());
    let words: Vec<String> = reaction.chain(sweep).chain(zero).collect();
    (!words.is_empty()).then(|| words.join(","))
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

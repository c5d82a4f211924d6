//! One run of the program under one allocator.

use crate::options::{CompareError, CompareOptions, Observer};
use crate::output::{OutputSum, hash_output, keep_tail};
use crate::resident::Resident;
use crate::subject::Subject;
use heapwright_launch::server::{self, Readiness};
use heapwright_launch::{Ended, Program, Running, Stdin, describe_status};
use std::fs::File;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a running program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Characters of a program's last line on standard error that a failure repeats.
const MESSAGE_CHARS_MAX: usize = 160;

/// A run that ended, whatever its status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub status: ExitStatus,
    pub output: Option<OutputSum>,
    pub cpu_s: f64,
    pub user_s: f64,
    pub system_s: f64,
    pub wall_s: f64,
    pub peak_rss_bytes: u64,
    pub peak_pss_bytes: Option<u64>,
    pub minor_faults: u64,
    pub major_faults: u64,
}

/// A run's end.
pub(crate) enum Outcome {
    /// It ended; the text is the last line it wrote on standard error.
    Ended(Measured, String),
    /// It gave no figures: why.
    Failed(String),
    /// The user stopped it.
    Interrupted,
}

/// How long a run may take.
pub(crate) type Limit = Duration;

/// Runs the program once under `subject`; `copy` takes its standard output.
pub(crate) fn run(
    options: &CompareOptions,
    program: &Program,
    subject: &Subject,
    limit: Limit,
    copy: Option<File>,
    observer: &dyn Observer,
) -> Result<Outcome, CompareError> {
    let mut command = Command::new(program.path());
    command.args(&options.command[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(subject.environment.iter().map(|(name, value)| (name, value)));
    match &subject.object {
        Ok(Some(object)) => {
            command.env("LD_PRELOAD", object.ld_preload());
        }
        Ok(None) => {}
        Err(reason) => return Ok(Outcome::Failed(reason.clone())),
    }
    command.stdin(Stdin::repeatable().open().map_err(CompareError::Start)?);
    let mut running = Running::start(&mut command).map_err(CompareError::Start)?;
    let output = running.take_stdout().map(|pipe| hash_output(pipe, copy));
    let tail = running.take_stderr().map(keep_tail);
    let mut resident = Resident::default();
    let driven = match &options.load {
        None => wait(options, &mut running, &mut resident, limit, observer)?,
        Some(load) => drive(options, load, &mut running, &mut resident, limit, observer)?,
    };
    // What the program left behind in its group must not hold the pipes open.
    drop(running);
    let message = tail.map(|tail| last_line(&tail.finish())).unwrap_or_default();
    let sum = output.map(|output| output.finish());
    Ok(match driven {
        Driven::Ended(ended, wall) => {
            let measured = figures(&ended, wall, &resident, sum.filter(|_| options.load.is_none()));
            Outcome::Ended(measured, message)
        }
        Driven::Failed(reason) if message.is_empty() => Outcome::Failed(reason),
        Driven::Failed(reason) => Outcome::Failed(format!("{reason}: {message}")),
        Driven::Interrupted => Outcome::Interrupted,
    })
}

/// A program or driven server that has ended.
enum Driven {
    /// With the wall time that counts.
    Ended(Ended, Duration),
    Failed(String),
    Interrupted,
}

/// Waits for a program that ends by itself.
fn wait(
    options: &CompareOptions,
    running: &mut Running,
    resident: &mut Resident,
    limit: Limit,
    observer: &dyn Observer,
) -> Result<Driven, CompareError> {
    let (interrupted, late) = (AtomicBool::new(false), AtomicBool::new(false));
    let floor_bytes = running.rss_floor_bytes();
    let ended = running.wait_watched(LOOK_EVERY, &mut |pid, elapsed| {
        resident.look(pid, floor_bytes, options.sample_every);
        // Relaxed: both are read after the watching thread has been joined.
        interrupted.fetch_or(observer.interrupted(), Ordering::Relaxed);
        late.fetch_or(elapsed > limit, Ordering::Relaxed);
        !interrupted.load(Ordering::Relaxed) && !late.load(Ordering::Relaxed)
    });
    let ended = ended.map_err(CompareError::Start)?;
    Ok(if interrupted.into_inner() {
        Driven::Interrupted
    } else if late.into_inner() {
        Driven::Failed(format!("still running after {:.1} s, stopped", limit.as_secs_f64()))
    } else {
        Driven::Ended(ended, ended.wall)
    })
}

/// Waits for a server, runs its load, and stops it; the wall time is the load's.
fn drive(
    options: &CompareOptions,
    load: &std::ffi::OsStr,
    server: &mut Running,
    resident: &mut Resident,
    limit: Limit,
    observer: &dyn Observer,
) -> Result<Driven, CompareError> {
    let ready = server::wait_until_listening(server, options.ready_limit);
    if ready.map_err(CompareError::Start)? == Readiness::Ended {
        let how = describe_status(server.wait().map_err(CompareError::Start)?.status);
        return Ok(Driven::Failed(format!("the server ended before its load ({how})")));
    }
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(load).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut client = Running::start(&mut command).map_err(CompareError::Start)?;
    let tail = client.take_stderr().map(keep_tail);
    let (interrupted, late) = (AtomicBool::new(false), AtomicBool::new(false));
    let (server_pid, floor_bytes) = (server.pid(), server.rss_floor_bytes());
    let loaded = client.wait_watched(LOOK_EVERY, &mut |_, elapsed| {
        resident.look(server_pid, floor_bytes, options.sample_every);
        // Relaxed: both are read after the watching thread has been joined.
        interrupted.fetch_or(observer.interrupted(), Ordering::Relaxed);
        late.fetch_or(elapsed > limit, Ordering::Relaxed);
        !interrupted.load(Ordering::Relaxed) && !late.load(Ordering::Relaxed)
    });
    let loaded = loaded.map_err(CompareError::Start)?;
    drop(client);
    if interrupted.into_inner() {
        return Ok(Driven::Interrupted);
    }
    let gone = server.wait_for(Duration::ZERO, &|| true).map_err(CompareError::Start)?;
    if let Some(gone) = gone {
        let how = describe_status(gone.status);
        return Ok(Driven::Failed(format!("the server ended under its load ({how})")));
    }
    if late.into_inner() {
        let seconds = limit.as_secs_f64();
        return Ok(Driven::Failed(format!("the load still ran after {seconds:.1} s, stopped")));
    }
    if !loaded.status.success() {
        let (how, why) =
            (describe_status(loaded.status), tail.map(|tail| last_line(&tail.finish())));
        let why = why.unwrap_or_default();
        return Ok(Driven::Failed(format!("the load failed ({how}) {why}").trim_end().to_owned()));
    }
    let (ended, _) = server::stop(server, options.grace).map_err(CompareError::Start)?;
    Ok(Driven::Ended(ended, loaded.wall))
}

fn figures(
    ended: &Ended,
    wall: Duration,
    resident: &Resident,
    output: Option<OutputSum>,
) -> Measured {
    Measured {
        status: ended.status,
        output,
        cpu_s: ended.cpu_s(),
        user_s: ended.usage.user.as_secs_f64(),
        system_s: ended.usage.system.as_secs_f64(),
        wall_s: wall.as_secs_f64(),
        peak_rss_bytes: ended.peak_rss_bytes().unwrap_or(resident.high_water_bytes),
        peak_pss_bytes: resident.peak_pss_bytes,
        minor_faults: ended.usage.minor_faults,
        major_faults: ended.usage.major_faults,
    }
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().filter(|letter| !letter.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

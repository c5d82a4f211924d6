//! Starting a worker, watching it, and telling how it ended.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::ReplayError;
use crate::plan::Plan;
use crate::result::{Field, ResultWords, STATE_DONE, Text, result_bytes};
use crate::site::SiteRoute;
use crate::spec::{AllocatorSpec, WorkerProgram};
use crate::sys;
use crate::worker::{Order, Subject};

/// How long to wait for a sign of the worker before looking at its progress.
const LOOK_EVERY_MS: i32 = 100;

/// How a run ended.
pub(crate) struct Outcome {
    /// What it said.
    pub(crate) result: ResultWords,
    /// Why its figures are not whole; empty when they are.
    pub(crate) failure: String,
}

/// Limits of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Whole run.
    pub(crate) run: Duration,
    /// Without progress.
    pub(crate) stall: Duration,
}

/// What one run is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    /// What to replay on; nothing for the null run.
    pub(crate) allocator: Option<&'a AllocatorSpec>,
    /// The call site whose blocks a region serves, if one does.
    pub(crate) route: Option<SiteRoute>,
    /// Whether memory is measured, else time.
    pub(crate) is_memory: bool,
    /// How long a memory run may keep to the recorded clock; nought for one that does not.
    pub(crate) pace: Duration,
    /// Where stock is written, if any is taken.
    pub(crate) stock: Option<&'a std::fs::File>,
}

/// Replays `plan` once, as `task` says. Calls `look` with the epochs done now and then.
///
/// # Errors
/// [`ReplayError::System`] when no worker can be started at all. A worker that dies is an
/// outcome.
pub(crate) fn run_once(
    program: &WorkerProgram,
    plan: &Plan,
    task: Task,
    limits: Limits,
    look: &mut dyn FnMut(u64),
) -> Result<Outcome, ReplayError> {
    let system = |doing| move |error| ReplayError::System { doing, error };
    let result_file = sys::memory_file("heapwright-result").map_err(system("keep results"))?;
    let bytes = result_bytes(plan.facts().samples.len());
    result_file.set_len(bytes as u64).map_err(system("keep results"))?;
    let Task { allocator, route, is_memory, pace, stock } = task;
    let subject = match allocator {
        None => Subject::Null,
        Some(AllocatorSpec { so: None, .. }) => Subject::System,
        Some(_) => Subject::Preloaded,
    };
    let (plan_fd, result_fd) = (plan.file().as_raw_fd(), result_file.as_raw_fd());
    let parent = std::process::id();
    let stock = stock.map(AsRawFd::as_raw_fd);
    let pace_ms = u64::try_from(pace.as_millis()).unwrap_or(u64::MAX);
    let order = Order {
        plan: plan_fd,
        result: result_fd,
        parent,
        subject,
        is_memory,
        pace_ms,
        route,
        stock,
    };
    // A pause of the program's is no sign of a worker that hangs.
    let recorded_s = plan.facts().samples.last().map_or(0.0, |sample| sample.time_s);
    let pause_max = pace.min(Duration::try_from_secs_f64(recorded_s).unwrap_or(pace));
    let limits = Limits { stall: limits.stall + pause_max, ..limits };
    let mut command = Command::new(&program.program);
    command
        .args(&program.arguments)
        .args(order.to_arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env_remove("LD_PRELOAD");
    if let Some(so) = allocator.and_then(|allocator| allocator.so.as_ref()) {
        let so = so.canonicalize().unwrap_or_else(|_| so.clone());
        command.env("LD_PRELOAD", so);
    }
    let keep = move || {
        sys::keep_on_exec(plan_fd)?;
        stock.map_or(Ok(()), sys::keep_on_exec)?;
        sys::keep_on_exec(result_fd)
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor locks.
    unsafe { command.pre_exec(keep) };
    let mut child = command.spawn().map_err(system("start a replay worker"))?;
    let watched = watch(&mut child, &result_file, limits, look);
    let (messages, stopped) = watched;
    let status = child.wait().map_err(system("wait for a replay worker"))?;
    let result = ResultWords::read(&result_file).map_err(system("read results"))?;
    let failure = match stopped {
        Some(why) => why,
        None => failure_of(&result, status, &messages, plan),
    };
    Ok(Outcome { result, failure })
}

/// Follows a worker to its end; its messages, and why it was ended if we had to.
fn watch(
    child: &mut Child,
    result: &std::fs::File,
    limits: Limits,
    look: &mut dyn FnMut(u64),
) -> (String, Option<String>) {
    let started = Instant::now();
    let mut moved = (0, started);
    let mut messages = Vec::new();
    let Some(mut pipe) = child.stderr.take() else { return (String::new(), None) };
    loop {
        if sys::wait_readable(pipe.as_raw_fd(), LOOK_EVERY_MS) {
            let mut buffer = [0; 4096];
            match pipe.read(&mut buffer) {
                // The worker has gone, or closed its messages on its way out.
                Ok(0) | Err(_) => break,
                Ok(read) if messages.len() < 1 << 16 => messages.extend(&buffer[..read]),
                Ok(_) => {}
            }
        }
        let completed = ResultWords::completed(result);
        look(completed);
        if completed != moved.0 {
            moved = (completed, Instant::now());
        }
        let why = if started.elapsed() > limits.run {
            Some(format!("it took longer than {} s", limits.run.as_secs()))
        } else if moved.1.elapsed() > limits.stall {
            Some(format!("it got no further for {} s", limits.stall.as_secs()))
        } else {
            None
        };
        if why.is_some() {
            // Gone already is as good.
            let _ = child.kill();
            return (String::from_utf8_lossy(&messages).into_owned(), why);
        }
    }
    (String::from_utf8_lossy(&messages).into_owned(), None)
}

fn failure_of(result: &ResultWords, status: ExitStatus, messages: &str, plan: &Plan) -> String {
    if result.get(Field::State) == STATE_DONE {
        // All figures are there; what the allocator does at exit is its own affair.
        return String::new();
    }
    let said = result.text(Text::Failure);
    let mut text = if !said.is_empty() {
        said
    } else if let Some(signal) = status.signal() {
        let epochs = plan.facts().epochs.max(1) as u64;
        let share = 100 * result.get(Field::Completed) / epochs;
        format!("it died of {} after {share} % of the recording", signal_name(signal))
    } else {
        format!("the worker ended with status {}", status.code().unwrap_or(-1))
    };
    if let Some(line) = messages.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        text.push_str(": ");
        text.extend(line.chars().take(200));
    }
    text
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV (a wild access)",
        libc::SIGABRT => "SIGABRT (it gave up)",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGKILL => "SIGKILL (out of memory?)",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSYS => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

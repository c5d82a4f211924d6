//! The recording loop: start the command, drain the rings, end when asked.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use heapwright_format::file::{EndInfo, FileWriter, SessionInfo};
use heapwright_os::futex_wait;
use heapwright_sync::atomic::Ordering;

use crate::command::{Stdout, program_of, send, spawn, spawn_load};
use crate::drain::{Output, Processes};
use crate::error::RecordError;
use crate::session::{Session, SessionSettings};
use crate::terminal::Loan;
use crate::wait::{ChildState, Ended, look, own_cpu, shell_status, try_wait};

/// Longest sleep of the collector: how late it notices an exit or a new process.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// How often it looks for processes that are gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// How long a stopped server may take before it is asked more firmly.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// zstd's fastest ordinary level: the events are dense already.
const COMPRESSION_LEVEL: i32 = 1;
/// Blocks from this size on are watched for touched pages: glibc's threshold for `mmap`.
const TOUCH_BYTES_MIN: u64 = 128 << 10;

/// What to do with the command when the recording is ended before it (by time, size or
/// Ctrl-C).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterStop {
    /// Wait for it to finish.
    #[default]
    Wait,
    /// Leave it running and return.
    Leave,
    /// Stop it: SIGTERM, then SIGINT, then SIGKILL.
    Terminate,
}

/// How to record.
pub struct RecordOptions {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// The file to write.
    pub output: PathBuf,
    /// `libheapwright_recorder.so`.
    pub recorder: PathBuf,
    /// Mean bytes between samples; 0 records every event.
    pub sample_bytes: u64,
    /// End the recording after this long.
    pub time_limit: Option<Duration>,
    /// End the recording when the file has this many bytes.
    pub bytes_max: Option<u64>,
    /// A command that drives the recorded one, which is stopped when it ends.
    pub load: Option<Vec<OsString>>,
    /// How long to wait before the load starts.
    pub load_delay: Duration,
    /// Keep no arguments, paths or host.
    pub redact: bool,
    /// Stay in the terminal's foreground: Ctrl-C then reaches the command too.
    pub foreground: bool,
    /// Where the command's standard output goes.
    pub stdout: Stdout,
    /// What to do with a command that outlives the recording.
    pub after_stop: AfterStop,
    /// Version to note in the file.
    pub heapwright_version: String,
    /// The machine, to note in the file.
    pub machine: String,
    /// Told four times a second.
    pub progress: Option<TellProgress>,
}

/// Takes the state of a running recording.
pub type TellProgress = Box<dyn FnMut(&Progress)>;

/// The state of a running recording.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// Events so far.
    pub events: u64,
    /// Bytes of the file so far.
    pub bytes: u64,
    /// Processes so far.
    pub processes: u32,
    /// Whether the command itself has ended while others that it started run on.
    pub command_ended: bool,
    /// Whether the command has the terminal, because it wanted to read it: Ctrl-C is then its.
    pub command_has_terminal: bool,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The command and all its recorded processes ended.
    Exit,
    /// The time was up.
    Time,
    /// The file had its size.
    Size,
    /// Ctrl-C.
    Interrupted,
    /// The load ended.
    Load,
}

impl StopReason {
    /// The word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Time => "time",
            Self::Size => "size",
            Self::Interrupted => "interrupted",
            Self::Load => "load",
        }
    }
}

/// A finished recording.
#[derive(Debug)]
pub struct RecordOutcome {
    /// Why it ended.
    pub reason: StopReason,
    /// The command's exit status as a shell gives it; none when it was left running.
    pub exit_status: Option<i32>,
    /// Exit status of the load.
    pub load_status: Option<i32>,
    /// Events in the file.
    pub events: u64,
    /// Events that recorders could not keep.
    pub dropped: u64,
    /// Events that could not be written to the file.
    pub unwritten_events: u64,
    /// Why not.
    pub output_error: Option<io::Error>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Processes recorded.
    pub processes: u32,
    /// Processes that could not be recorded.
    pub lost_processes: u32,
    /// CPU time of the command, as far as it was waited for.
    pub program_cpu: Duration,
    /// CPU time of the collector.
    pub collector_cpu: Duration,
    /// Wall time.
    pub wall: Duration,
}

/// Runs the command and records it.
///
/// # Errors
/// [`RecordError`]; a full disk is not one: it ends the file, and the outcome tells.
pub fn record(mut options: RecordOptions) -> Result<RecordOutcome, RecordError> {
    fs::metadata(&options.recorder)
        .map_err(|error| RecordError::Recorder { path: options.recorder.clone(), error })?;
    let settings = SessionSettings {
        sample_bytes: options.sample_bytes,
        touch_bytes_min: TOUCH_BYTES_MIN,
        redact: options.redact,
    };
    let session = Session::new(settings, &options.output)?;
    let output = create(&options, &session)?;
    let interrupts = Interrupts::new();
    let cpu_start = own_cpu();
    let child = spawn(
        &options.command,
        &options.recorder,
        session.directory(),
        &options.stdout,
        options.foreground,
    )
    .map_err(|error| {
        let _ = fs::remove_file(&options.output);
        RecordError::Command { program: program_of(&options.command), error }
    })?;
    let mut run = Run {
        session,
        output,
        processes: Processes::new(options.redact),
        child,
        ended: None,
        load: None,
        load_status: None,
        start: Instant::now(),
        interrupts,
        progress: options.progress.take(),
        loan: None,
    };
    let reason = run.collect(&options)?;
    Ok(run.finish(reason, &options, cpu_start))
}

fn create(options: &RecordOptions, session: &Session) -> Result<Output, RecordError> {
    let failed = |error| RecordError::Output { path: options.output.clone(), error };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&options.output)
        .map_err(failed)?;
    let second = file.try_clone().map_err(failed)?;
    let command = options.command.iter().map(|word| word.to_string_lossy().into_owned());
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let info = SessionInfo {
        heapwright_version: options.heapwright_version.clone(),
        command: if options.redact { Vec::new() } else { command.collect() },
        redacted: options.redact,
        sample_bytes: options.sample_bytes,
        units_per_second: session.units_per_second(),
        started_unix_s: since_1970.as_secs(),
        machine: if options.redact { String::new() } else { options.machine.clone() },
        touch_bytes_min: TOUCH_BYTES_MIN,
    };
    let writer = FileWriter::new(file, COMPRESSION_LEVEL, &info).map_err(failed)?;
    Ok(Output::new(writer, second))
}

struct Run {
    session: Session,
    output: Output,
    processes: Processes,
    child: Child,
    ended: Option<Ended>,
    load: Option<Child>,
    load_status: Option<i32>,
    start: Instant,
    interrupts: Interrupts,
    progress: Option<TellProgress>,
    loan: Option<Loan>,
}

impl Run {
    /// Drains until there is a reason to stop.
    fn collect(&mut self, options: &RecordOptions) -> Result<StopReason, RecordError> {
        let mut processes_known = 0;
        let mut next_look = Instant::now();
        let mut next_progress = Instant::now() + PROGRESS_INTERVAL;
        loop {
            let processes = self.session.header().processes.load(Ordering::Acquire);
            let now = Instant::now();
            let look = now >= next_look;
            if processes != processes_known || look {
                self.processes.find_new(&self.session, &mut self.output);
                processes_known = processes;
            }
            let taken = self.processes.drain(&mut self.output);
            if look {
                next_look = now + LOOK_INTERVAL;
                self.processes.close_dead(&mut self.output);
            }
            if self.ended.is_none() {
                self.look_at_child();
            }
            if let Some(reason) = self.stop_reason(options)? {
                return Ok(reason);
            }
            if now >= next_progress {
                next_progress = now + PROGRESS_INTERVAL;
                self.tell_progress();
            }
            if taken == 0 {
                self.sleep();
            }
        }
    }

    /// Notices the command's end, or that it waits for the terminal, which it gets.
    fn look_at_child(&mut self) {
        match look(self.child.id()) {
            ChildState::Running => {}
            ChildState::WantsTerminal => self.loan = Loan::to(self.child.id()),
            ChildState::Ended(ended) => {
                self.ended = Some(ended);
                self.loan = None;
            }
        }
    }

    fn stop_reason(&mut self, options: &RecordOptions) -> Result<Option<StopReason>, RecordError> {
        if self.ended.is_some() {
            self.processes.find_new(&self.session, &mut self.output);
            self.processes.close_dead(&mut self.output);
            if self.processes.live_count() == 0 {
                return Ok(Some(StopReason::Exit));
            }
        }
        if self.interrupts.count() > 0 {
            return Ok(Some(StopReason::Interrupted));
        }
        if options.time_limit.is_some_and(|limit| self.start.elapsed() >= limit) {
            return Ok(Some(StopReason::Time));
        }
        if options.bytes_max.is_some_and(|limit| self.output.bytes() >= limit) {
            return Ok(Some(StopReason::Size));
        }
        self.drive(options)
    }

    /// Starts the load when it is due, and tells when it has ended.
    fn drive(&mut self, options: &RecordOptions) -> Result<Option<StopReason>, RecordError> {
        let Some(words) = &options.load else { return Ok(None) };
        if let Some(load) = &mut self.load {
            let Ok(Some(status)) = load.try_wait() else { return Ok(None) };
            self.load_status = Some(shell_status(status));
            self.stop_command(options);
            self.processes.drain(&mut self.output);
            return Ok(Some(StopReason::Load));
        }
        if self.start.elapsed() >= options.load_delay && self.ended.is_none() {
            match spawn_load(words, &options.stdout) {
                Ok(load) => self.load = Some(load),
                Err(error) => {
                    self.stop_command(options);
                    return Err(RecordError::Load { program: program_of(words), error });
                }
            }
        }
        Ok(None)
    }

    /// Asks the command to end, ever more firmly, and drains meanwhile.
    fn stop_command(&mut self, options: &RecordOptions) {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGKILL] {
            if self.ended.is_some() {
                return;
            }
            // To the command alone: it stops its own children, as under its usual manager.
            send(self.child.id(), false, signal);
            let deadline = Instant::now() + STOP_GRACE;
            while self.ended.is_none() && Instant::now() < deadline {
                if self.processes.drain(&mut self.output) == 0 {
                    self.sleep();
                }
                self.processes.find_new(&self.session, &mut self.output);
                self.ended = try_wait(self.child.id());
            }
        }
        if self.ended.is_none() {
            send(self.child.id(), !options.foreground, libc::SIGKILL);
            self.ended = self.wait_blocking();
        }
    }

    fn sleep(&self) {
        let header = self.session.header();
        let doorbell = header.doorbell.load(Ordering::Acquire);
        // AcqRel: pairs with the recorder's swap; it publishes, then asks whether we sleep.
        header.sleeping.swap(1, Ordering::AcqRel);
        let _ = futex_wait(&header.doorbell, doorbell, Some(SLEEP_MAX));
        header.sleeping.store(0, Ordering::Release);
    }

    fn tell_progress(&mut self) {
        let state = Progress {
            elapsed: self.start.elapsed(),
            events: self.output.events,
            bytes: self.output.bytes(),
            processes: self.processes.count(),
            command_ended: self.ended.is_some(),
            command_has_terminal: self.loan.is_some(),
        };
        if let Some(tell) = &mut self.progress {
            tell(&state);
        }
    }

    fn finish(
        mut self,
        reason: StopReason,
        options: &RecordOptions,
        cpu_start: Duration,
    ) -> RecordOutcome {
        self.session.header().stop.store(1, Ordering::Release);
        self.processes.find_new(&self.session, &mut self.output);
        self.processes.close_all(&mut self.output);
        let end = EndInfo {
            reason: reason.name().into(),
            exit_status: self.ended.map(|ended| shell_status(ended.status)),
            end_time: self.session.now(),
            units_per_second: self.session.units_per_second(),
            program_cpu_s: self.ended.map_or(0.0, |ended| ended.cpu.as_secs_f64()),
            collector_cpu_s: (own_cpu() - cpu_start).as_secs_f64(),
            wall_s: self.start.elapsed().as_secs_f64(),
            unwritten_events: self.output.unwritten_events,
        };
        let (events, bytes) = (self.output.events, self.output.bytes());
        let unwritten_events = self.output.unwritten_events;
        let lost_processes = self.session.header().lost_processes.load(Ordering::Relaxed);
        let wall = self.start.elapsed();
        let output = std::mem::replace(&mut self.output, blank_output());
        let output_error = output.finish(&end);
        let collector_cpu = own_cpu() - cpu_start;
        self.settle(options);
        RecordOutcome {
            reason,
            exit_status: self.ended.map(|ended| shell_status(ended.status)),
            load_status: self.load_status,
            events,
            dropped: self.processes.dropped(),
            unwritten_events,
            output_error,
            bytes: fs::metadata(&options.output).map_or(bytes, |facts| facts.len()),
            processes: self.processes.count(),
            lost_processes,
            program_cpu: self.ended.map_or(Duration::ZERO, |ended| ended.cpu),
            collector_cpu,
            wall,
        }
    }

    /// Does with a command that outlived the recording what was asked.
    fn settle(&mut self, options: &RecordOptions) {
        if self.ended.is_some() {
            return;
        }
        match options.after_stop {
            AfterStop::Leave => {}
            AfterStop::Terminate => {
                self.output = blank_output();
                self.stop_command(options);
            }
            AfterStop::Wait => self.ended = self.wait_blocking(),
        }
    }

    /// Waits for the command; each further Ctrl-C is passed on to it.
    fn wait_blocking(&self) -> Option<Ended> {
        let mut passed_on = self.interrupts.count();
        loop {
            if let Some(ended) = try_wait(self.child.id()) {
                return Some(ended);
            }
            if self.interrupts.count() > passed_on {
                passed_on = self.interrupts.count();
                send(self.child.id(), true, libc::SIGINT);
            }
            std::thread::sleep(SLEEP_MAX);
        }
    }
}

/// An output that goes nowhere, in the place of one that is finished.
fn blank_output() -> Output {
    let path = Path::new("/dev/null");
    let open = || OpenOptions::new().write(true).open(path);
    let (first, second) = (open().expect("/dev/null"), open().expect("/dev/null"));
    let writer = FileWriter::new(first, COMPRESSION_LEVEL, &SessionInfo::default());
    Output::new(writer.expect("/dev/null takes everything"), second)
}

/// Ctrl-C, SIGTERM and the end of the terminal, counted.
///
/// The end of a child is only to interrupt the collector's sleep, and a file that reached its
/// limit is to be an error, not the collector's end. (Handlers, since what is ignored would also
/// be ignored by the command.)
struct Interrupts {
    count: Arc<AtomicUsize>,
    handlers: Vec<signal_hook::SigId>,
}

impl Interrupts {
    fn new() -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let signals = [
            (libc::SIGINT, 1),
            (libc::SIGTERM, 1),
            (libc::SIGHUP, 1),
            (libc::SIGCHLD, 0),
            (libc::SIGXFSZ, 0),
        ];
        let handlers = signals
            .into_iter()
            // Under nohup we are not to hear of it.
            .filter(|&(signal, _)| signal != libc::SIGHUP || !is_ignored(signal))
            .filter_map(|(signal, weight)| {
                let count = Arc::clone(&count);
                let note = move || {
                    count.fetch_add(weight, StdOrdering::Relaxed);
                };
                // SAFETY: the handler only adds to an atomic.
                unsafe { signal_hook::low_level::register(signal, note) }.ok()
            })
            .collect();
        Self { count, handlers }
    }

    fn count(&self) -> usize {
        self.count.load(StdOrdering::Relaxed)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for &handler in &self.handlers {
            signal_hook::low_level::unregister(handler);
        }
    }
}

fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; the kernel fills the structure.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed, and every bit pattern is valid.
    let action = unsafe { action.assume_init() };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

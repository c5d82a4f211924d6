//! The recording loop: start the command, drain the rings, end when asked.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use heapwright_format::file::{EndInfo, FileWriter, SessionInfo};
use heapwright_os::{futex_wait, send_signal};
use heapwright_sync::atomic::Ordering;
use signal_hook::consts::{SIGINT, SIGKILL, SIGTERM};

use crate::attach::{Attached, command_of};
use crate::command::{program_of, spawn};
use crate::drain::{Output, Processes};
use crate::error::{AttachProblem, RecordError};
use crate::interrupts::Interrupts;
use crate::load::Load;
use crate::options::{
    AfterStop, Progress, RecordOptions, RecordOutcome, StopReason, Target, TellProgress,
};
use crate::session::{Session, SessionSettings};
use crate::subject::Subject;
use crate::wait::{own_cpu, shell_status};

/// Longest sleep of the collector: how late it notices an exit or a new process.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// How often it looks for processes that are gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// How long a stopped server may take before it is asked more firmly.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// One of zstd's fast levels: a sixth less of the collector's time than level 1, files a sixth larger.
const COMPRESSION_LEVEL: i32 = -1;
/// Blocks from this size on are watched for touched pages: glibc's threshold for `mmap`.
const TOUCH_BYTES_MIN: u64 = 128 << 10;

/// Runs the command and records it, or records processes that run already.
///
/// # Errors
/// [`RecordError`]; a full disk is not one: it ends the file, and the outcome tells.
pub fn record(mut options: RecordOptions) -> Result<RecordOutcome, RecordError> {
    let settings = SessionSettings {
        sample_bytes: options.sample_bytes,
        touch_bytes_min: TOUCH_BYTES_MIN,
        redact: options.redact,
    };
    let session = Session::new(settings, &options.output)?;
    let interrupts = Interrupts::new();
    let cpu_start = own_cpu();
    let (output, subject) = begin(&options, &session)?;
    let mut run = Run {
        session,
        output,
        processes: Processes::new(options.redact),
        subject,
        load: Load::new(),
        load_status: None,
        start: Instant::now(),
        interrupts,
        progress: options.progress.take(),
    };
    let reason = run.collect(&options)?;
    Ok(run.finish(reason, &options, cpu_start))
}

/// The file and what goes into it. A file that was there stays as it is when there is nothing to
/// record.
fn begin(options: &RecordOptions, session: &Session) -> Result<(Output, Subject), RecordError> {
    match &options.target {
        Target::Process(pid) => {
            let failed = |problem| RecordError::Attach { pid: *pid, problem };
            let attached = Attached::to(*pid, session.directory()).map_err(failed)?;
            let output = create(options, command_of(*pid), session)?;
            Ok((output, Subject::Attached(Some(attached))))
        }
        Target::Command(words) => {
            fs::metadata(&options.recorder)
                .map_err(|error| RecordError::Recorder { path: options.recorder.clone(), error })?;
            let text = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let output = create(options, text, session)?;
            let RecordOptions { recorder, stdout, foreground, .. } = options;
            let child = spawn(words, recorder, session.directory(), stdout, *foreground).map_err(
                |error| {
                    let _ = fs::remove_file(&options.output);
                    RecordError::Command { program: program_of(words), error }
                },
            )?;
            Ok((output, Subject::command(child)))
        }
    }
}

fn create(
    options: &RecordOptions,
    command: Vec<String>,
    session: &Session,
) -> Result<Output, RecordError> {
    let failed = |error| RecordError::Output { path: options.output.clone(), error };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&options.output)
        .map_err(failed)?;
    let second = file.try_clone().map_err(failed)?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let info = SessionInfo {
        heapwright_version: options.heapwright_version.clone(),
        command: if options.redact { Vec::new() } else { command },
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
    subject: Subject,
    load: Load,
    load_status: Option<i32>,
    start: Instant,
    interrupts: Interrupts,
    progress: Option<TellProgress>,
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
                self.session.keep_spare();
                self.processes.find_new(&self.session, &mut self.output);
                processes_known = processes;
            }
            let taken = self.processes.drain(&mut self.output);
            if look {
                next_look = now + LOOK_INTERVAL;
                self.processes.close_dead(&mut self.output);
                self.look_at_processes(options)?;
            }
            self.subject.look_at_child();
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

    /// Lets new descendants of an attached process record; a process that cannot is an error.
    fn look_at_processes(&mut self, options: &RecordOptions) -> Result<(), RecordError> {
        let pid = self.subject.pid().unwrap_or(0);
        self.subject.look_at_processes().map_err(|problem: AttachProblem| {
            let _ = fs::remove_file(&options.output);
            RecordError::Attach { pid, problem }
        })
    }

    fn stop_reason(&mut self, options: &RecordOptions) -> Result<Option<StopReason>, RecordError> {
        if self.subject.is_over() {
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
        let server = self.subject.pid().filter(|_| !self.subject.is_over());
        match self.load.drive(options, server, self.start) {
            Ok(None) => Ok(None),
            Ok(status) => {
                self.load_status = status;
                self.stop_command(options);
                self.processes.drain(&mut self.output);
                Ok(Some(StopReason::Load))
            }
            Err(error) => {
                self.stop_command(options);
                Err(error)
            }
        }
    }

    /// Asks a command of ours to end, ever more firmly, and drains meanwhile.
    fn stop_command(&mut self, options: &RecordOptions) {
        let Some(child) = self.subject.child_id() else { return };
        for signal in [SIGTERM, SIGINT, SIGKILL] {
            if self.subject.is_over() {
                return;
            }
            // To the command alone: it stops its own children, as under its usual manager. It may
            // have ended by itself, which is noticed below.
            let _ = send_signal(child, false, signal);
            let deadline = Instant::now() + STOP_GRACE;
            while !self.subject.is_over() && Instant::now() < deadline {
                if self.processes.drain(&mut self.output) == 0 {
                    self.sleep();
                }
                self.processes.find_new(&self.session, &mut self.output);
                self.subject.try_wait();
            }
        }
        if !self.subject.is_over() {
            let _ = send_signal(child, !options.foreground, SIGKILL);
            self.wait_blocking();
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
            command_ended: self.subject.is_over(),
            command_has_terminal: self.subject.has_terminal(),
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
        self.subject.let_go();
        let ended = self.subject.ended();
        let end = EndInfo {
            reason: reason.name().into(),
            exit_status: ended.map(|ended| shell_status(ended.status)),
            end_time: self.session.now(),
            units_per_second: self.session.units_per_second(),
            program_cpu_s: ended.map_or(0.0, |ended| ended.cpu.as_secs_f64()),
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
        let ended = self.subject.ended();
        RecordOutcome {
            reason,
            exit_status: ended.map(|ended| shell_status(ended.status)),
            load_status: self.load_status,
            events,
            dropped: self.processes.dropped(),
            unwritten_events,
            output_error,
            bytes: fs::metadata(&options.output).map_or(bytes, |facts| facts.len()),
            processes: self.processes.count(),
            lost_processes,
            program_cpu: ended.map_or(Duration::ZERO, |ended| ended.cpu),
            collector_cpu,
            wall,
        }
    }

    /// Does with a command that outlived the recording what was asked.
    fn settle(&mut self, options: &RecordOptions) {
        if self.subject.is_over() {
            return;
        }
        match options.after_stop {
            AfterStop::Leave => {}
            AfterStop::Terminate => {
                self.output = blank_output();
                self.stop_command(options);
            }
            AfterStop::Wait => self.wait_blocking(),
        }
    }

    /// Waits for a command of ours; each further Ctrl-C is passed on to it.
    fn wait_blocking(&mut self) {
        let Some(child) = self.subject.child_id() else { return };
        let mut passed_on = self.interrupts.count();
        while !self.subject.try_wait() {
            if self.interrupts.count() > passed_on {
                passed_on = self.interrupts.count();
                // It may just have ended: the next look tells.
                let _ = send_signal(child, true, SIGINT);
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

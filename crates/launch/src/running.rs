//! A child process whose use of CPU and memory is known when it has ended.

use heapwright_os::{Errno, Usage, await_end, own_usage, send_signal, wait_child};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;

/// How often a wait with a limit looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What a child reads: the same at every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// Our own standard input, from its beginning: it is a file.
    File,
    /// Nothing.
    Nothing,
}

/// A child, as a rule in a process group of its own.
#[derive(Debug)]
pub struct Running {
    child: Child,
    started: Instant,
    rss_floor_bytes: u64,
    leads_group: bool,
    ended: Option<Ended>,
}

/// How a child ended, and what it used.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// From just before its start to its end.
    pub wall: Duration,
    /// CPU time, faults and peak of it and of the children it waited for.
    pub usage: Usage,
    /// Below this, in bytes, `usage.peak_rss_bytes` says nothing: it is our own peak, which the
    /// kernel carries over into the child.
    pub rss_floor_bytes: u64,
}

impl Stdin {
    /// What repeated runs can read: our standard input if it is a regular file.
    pub fn repeatable() -> Self {
        match fs::metadata("/proc/self/fd/0") {
            Ok(metadata) if metadata.is_file() => Self::File,
            _ => Self::Nothing,
        }
    }

    /// Opens it for one run.
    ///
    /// # Errors
    /// When our standard input cannot be opened again.
    pub fn open(self) -> io::Result<Stdio> {
        Ok(match self {
            Self::File => File::open("/proc/self/fd/0")?.into(),
            Self::Nothing => Stdio::null(),
        })
    }
}

impl Running {
    /// Starts `command` in a process group of its own, so that it can be stopped with
    /// everything it started.
    ///
    /// # Errors
    /// The system's.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Self::spawn(command.process_group(0), true)
    }

    /// Starts `command` in our own process group: the terminal's keys reach it, and stopping it
    /// stops it alone.
    ///
    /// # Errors
    /// The system's.
    pub fn start_in_our_group(command: &mut Command) -> io::Result<Self> {
        Self::spawn(command, false)
    }

    fn spawn(command: &mut Command, leads_group: bool) -> io::Result<Self> {
        let rss_floor_bytes = own_usage().peak_rss_bytes;
        let started = Instant::now();
        let child = command.spawn()?;
        Ok(Self { child, started, rss_floor_bytes, leads_group, ended: None })
    }

    /// Its process id, which is its group's if it has one of its own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Peaks at or below this many bytes are our own, carried over by the kernel.
    pub fn rss_floor_bytes(&self) -> u64 {
        self.rss_floor_bytes
    }

    /// The reading end of its standard output, once, if that is a pipe.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The reading end of its standard error, once, if that is a pipe.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it is no child of ours any more.
    pub fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.look(true)? {
                return Ok(ended);
            }
        }
    }

    /// Waits for its end, at most for `limit`; none when it still runs then, or when `stop`
    /// says so (asked every 2 ms).
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn wait_for(
        &mut self,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Option<Ended>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(ended) = self.look(false)? {
                return Ok(Some(ended));
            }
            if Instant::now() >= until || stop() {
                return Ok(None);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for its end and meanwhile calls `watch` every `every` with its process id and the
    /// time since its start; when that returns false, the whole group is killed.
    ///
    /// The end is noticed at once, however seldom `watch` is called.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn wait_watched(
        &mut self,
        every: Duration,
        watch: &mut (dyn FnMut(u32, Duration) -> bool + Send),
    ) -> io::Result<Ended> {
        if self.ended.is_none() {
            let (over, ended) = (Condvar::new(), Mutex::new(false));
            let (pid, started, leads_group) = (self.pid(), self.started, self.leads_group);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut done = ended.lock().expect("no panic below");
                    while !*done {
                        // Not ended, or ended and not waited for: the number is still its own.
                        if !watch(pid, started.elapsed()) {
                            let _ = send_signal(pid, leads_group, SIGKILL);
                        }
                        done = over.wait_timeout(done, every).expect("no panic below").0;
                    }
                });
                while await_end(pid) == Err(Errno::EINTR) {}
                *ended.lock().expect("no panic above") = true;
                over.notify_all();
            });
        }
        self.wait()
    }

    /// Sends `signal` to it, or to all of its own group. Nothing happens when it has ended.
    pub fn signal(&self, signal: i32, group: bool) {
        // Ended means waited for: the number may be another process's by now. Its group can
        // still have members, and as long as it has, the number is not given away.
        let group = group && self.leads_group;
        if self.ended.is_none() || group {
            let _ = send_signal(self.pid(), group, signal);
        }
    }

    /// Looks whether it has ended, or waits for that.
    fn look(&mut self, block: bool) -> io::Result<Option<Ended>> {
        if self.ended.is_some() {
            return Ok(self.ended);
        }
        match wait_child(self.pid(), block) {
            Ok(Some(end)) => {
                self.ended = Some(Ended {
                    status: ExitStatus::from_raw(end.wait_status),
                    wall: self.started.elapsed(),
                    usage: end.usage,
                    rss_floor_bytes: self.rss_floor_bytes,
                });
                Ok(self.ended)
            }
            Ok(None) | Err(Errno::EINTR) => Ok(None),
            Err(errno) => Err(io::Error::from_raw_os_error(errno.0)),
        }
    }
}

impl Drop for Running {
    /// Nothing outlives its handle: the whole group is killed.
    fn drop(&mut self) {
        self.signal(SIGKILL, true);
        let _ = self.wait();
    }
}

impl Ended {
    /// User and system CPU time in seconds.
    pub fn cpu_s(&self) -> f64 {
        (self.usage.user + self.usage.system).as_secs_f64()
    }

    /// Highest resident bytes, or none when our own peak hides it.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        (self.usage.peak_rss_bytes > self.rss_floor_bytes).then_some(self.usage.peak_rss_bytes)
    }
}

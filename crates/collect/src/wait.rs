//! Waiting for a child and what it used.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// CPU time of the child and of the descendants it waited for.
    pub(crate) cpu: Duration,
}

/// What a child is doing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChildState {
    /// It runs, or there is no such child.
    Running,
    /// It was stopped because it read or wrote the terminal.
    WantsTerminal,
    /// It has ended.
    Ended(Ended),
}

/// Looks whether the child `pid` has ended, without waiting.
pub(crate) fn try_wait(pid: u32) -> Option<Ended> {
    match look(pid) {
        ChildState::Ended(ended) => Some(ended),
        _ => None,
    }
}

/// Looks what the child `pid` is doing, without waiting.
pub(crate) fn look(pid: u32) -> ChildState {
    const OPTIONS: i32 = libc::WNOHANG | libc::WUNTRACED;
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills status and usage.
    let result = unsafe { libc::wait4(pid as i32, &raw mut status, OPTIONS, usage.as_mut_ptr()) };
    if result != pid as i32 {
        return ChildState::Running;
    }
    if libc::WIFSTOPPED(status) {
        let for_terminal = matches!(libc::WSTOPSIG(status), libc::SIGTTIN | libc::SIGTTOU);
        return if for_terminal { ChildState::WantsTerminal } else { ChildState::Running };
    }
    // SAFETY: zeroed, and filled by the kernel; every bit pattern is valid.
    let usage = unsafe { usage.assume_init() };
    ChildState::Ended(Ended { status: ExitStatus::from_raw(status), cpu: cpu(&usage) })
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the usage.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: zeroed, and every bit pattern is valid.
    cpu(&unsafe { usage.assume_init() })
}

fn cpu(usage: &libc::rusage) -> Duration {
    let time = |part: libc::timeval| Duration::new(part.tv_sec as u64, part.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// The status as a shell gives it: 128 + signal for a signal.
pub(crate) fn shell_status(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

//! Waiting for a child and what it used.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use heapwright_os::{look_at_child, own_usage};

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
    match look_at_child(pid) {
        Err(_) | Ok(heapwright_os::ChildState::Running) => ChildState::Running,
        Ok(heapwright_os::ChildState::WantsTerminal) => ChildState::WantsTerminal,
        Ok(heapwright_os::ChildState::Ended(child)) => ChildState::Ended(Ended {
            status: ExitStatus::from_raw(child.wait_status),
            cpu: child.usage.user + child.usage.system,
        }),
    }
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    let usage = own_usage();
    usage.user + usage.system
}

/// The status as a shell gives it: 128 + signal for a signal.
pub(crate) fn shell_status(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

//! Child processes: waiting for one with what it used, and signals.

use core::mem::MaybeUninit;
use core::time::Duration;

use crate::Errno;
use crate::syscall::{syscall3, syscall6};

/// What a process and the children it waited for have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in the program.
    pub user: Duration,
    /// CPU time in the kernel for it.
    pub system: Duration,
    /// Highest resident set of the largest one of the processes, in bytes. The kernel carries
    /// the figure of the process that started it over an exec, so it is a floor for small ones.
    pub peak_rss_bytes: u64,
    /// Page faults served without I/O.
    pub minor_faults: u64,
    /// Page faults that had to read.
    pub major_faults: u64,
}

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedChild {
    /// Its process id, free for reuse now.
    pub pid: u32,
    /// As of `waitpid`: `std::os::unix::process::ExitStatusExt::from_raw` reads it.
    pub wait_status: i32,
    /// What it used.
    pub usage: Usage,
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// It runs.
    Running,
    /// It was stopped because it read or wrote the terminal.
    WantsTerminal,
    /// It has ended.
    Ended(EndedChild),
}

/// Looks what child `pid` is doing, without waiting.
///
/// # Errors
/// The kernel's: `ECHILD` when it is no child of ours.
pub fn look_at_child(pid: u32) -> Result<ChildState, Errno> {
    let Some(child) = wait_with(pid, libc::WNOHANG | libc::WUNTRACED)? else {
        return Ok(ChildState::Running);
    };
    if !libc::WIFSTOPPED(child.wait_status) {
        return Ok(ChildState::Ended(child));
    }
    let for_terminal = matches!(libc::WSTOPSIG(child.wait_status), libc::SIGTTIN | libc::SIGTTOU);
    Ok(if for_terminal { ChildState::WantsTerminal } else { ChildState::Running })
}

/// Waits for child `pid` to end, or looks whether it has when `block` is false (then none
/// means that it runs).
///
/// # Errors
/// The kernel's: `ECHILD` when it is no child of ours, `EINTR` when a signal came.
pub fn wait_child(pid: u32, block: bool) -> Result<Option<EndedChild>, Errno> {
    wait_with(pid, if block { 0 } else { libc::WNOHANG })
}

fn wait_with(pid: u32, flags: i32) -> Result<Option<EndedChild>, Errno> {
    let mut wait_status = 0i32;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let status_address = (&raw mut wait_status).expose_provenance();
    let usage_address = usage.as_mut_ptr().expose_provenance();
    let arguments = [pid as usize, status_address, flags as usize, usage_address, 0, 0];
    // SAFETY: both addresses are of locals of the kernel's types that outlive the call.
    let ended = unsafe { syscall6(libc::SYS_wait4, arguments) }?;
    if ended == 0 {
        return Ok(None);
    }
    // SAFETY: zeroed above, which is a valid `rusage`, and then filled by the kernel.
    let usage = usage_of(&unsafe { usage.assume_init() });
    Ok(Some(EndedChild { pid: ended as u32, wait_status, usage }))
}

/// Waits until child `pid` has ended, but leaves it to [`wait_child`]: until that, its number
/// is not given to another process.
///
/// # Errors
/// The kernel's: `ECHILD` when it is no child of ours, `EINTR` when a signal came.
pub fn await_end(pid: u32) -> Result<(), Errno> {
    let options = (libc::WEXITED | libc::WNOWAIT) as usize;
    let arguments = [libc::P_PID as usize, pid as usize, 0, options, 0, 0];
    // SAFETY: the kernel takes null for the information it would write.
    unsafe { syscall6(libc::SYS_waitid, arguments) }.map(|_| ())
}

/// What this process itself has used so far, its children apart.
pub fn own_usage() -> Usage {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let address = usage.as_mut_ptr().expose_provenance();
    // SAFETY: the address is of a local of the kernel's type; RUSAGE_SELF is always taken.
    let _ = unsafe { syscall3(libc::SYS_getrusage, libc::RUSAGE_SELF as usize, address, 0) };
    // SAFETY: zeroed above, which is a valid `rusage`, and perhaps filled by the kernel.
    usage_of(&unsafe { usage.assume_init() })
}

/// Sends `signal` to process `pid`, or to every process of its group when `group` is set.
///
/// # Errors
/// The kernel's: `ESRCH` when there is none.
pub fn send_signal(pid: u32, group: bool, signal: i32) -> Result<(), Errno> {
    let target = if group { -(pid as isize) } else { pid as isize };
    // SAFETY: numbers only; a signal never touches this process's memory.
    unsafe { syscall3(libc::SYS_kill, target as usize, signal as usize, 0) }.map(|_| ())
}

fn usage_of(usage: &libc::rusage) -> Usage {
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    Usage {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        peak_rss_bytes: usage.ru_maxrss as u64 * 1024,
        minor_faults: usage.ru_minflt as u64,
        major_faults: usage.ru_majflt as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::{await_end, own_usage, send_signal, wait_child};
    use crate::Errno;

    #[test]
    fn a_stranger_is_no_child() {
        assert!(wait_child(1, false).is_err());
        assert!(await_end(1).is_err());
        assert_eq!(send_signal(0x3fff_ffff, false, 0), Err(Errno::ESRCH));
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = own_usage();
        assert!(usage.peak_rss_bytes > 64 * 1024);
        assert!(usage.minor_faults > 0);
    }
}

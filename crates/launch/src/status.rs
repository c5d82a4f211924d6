//! Exit statuses as a shell counts them, and the three that are ours.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Something of ours failed, as `env` and `nohup` have it.
pub const OURS_FAILED: u8 = 125;
/// The command was found but could not be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub const NOT_FOUND: u8 = 127;

/// The status a shell would report: the program's own, or 128 + N when signal N ended it.
pub fn shell_status(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128u8.wrapping_add(signal as u8),
        (None, None) => OURS_FAILED,
    }
}

/// How it ended, in words: `exit status 3`, `killed by signal 11 (SIGSEGV)`.
pub fn describe_status(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("exit status {}", shell_status(status));
    };
    let name = match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        5 => " (SIGTRAP)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        14 => " (SIGALRM)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        25 => " (SIGXFSZ)",
        31 => " (SIGSYS)",
        _ => "",
    };
    format!("killed by signal {signal}{name}")
}

#[cfg(test)]
mod tests {
    use super::{describe_status, shell_status};
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn signals_count_from_128() {
        let killed = ExitStatus::from_raw(9);
        assert_eq!(
            (shell_status(killed), describe_status(killed).as_str()),
            (137, "killed by signal 9 (SIGKILL)")
        );
        let left = ExitStatus::from_raw(3 << 8);
        assert_eq!((shell_status(left), describe_status(left).as_str()), (3, "exit status 3"));
    }
}

//! The terminal on standard input, and dispositions of signals.

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    // SAFETY: asks about a descriptor.
    unsafe { libc::isatty(libc::STDIN_FILENO) == 1 }
}

/// The process group that we are in.
pub fn own_process_group() -> u32 {
    // SAFETY: asks for a number.
    unsafe { libc::getpgrp() as u32 }
}

/// Makes `group` the foreground group of the terminal on standard input; a refusal leaves it as
/// it is. From the background that would stop us, so the signal for it is ignored meanwhile.
pub fn give_terminal_to(group: u32) {
    // SAFETY: replaces the disposition of one signal by a constant.
    let before = unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    // SAFETY: takes numbers.
    unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, group as i32) };
    // SAFETY: restores what was there.
    unsafe { libc::signal(libc::SIGTTOU, before) };
}

/// Whether we ignore `signal`.
pub fn is_signal_ignored(signal: i32) -> bool {
    let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; libc fills the structure.
    let result = unsafe { libc::sigaction(signal, core::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed, and every bit pattern is valid.
    let action = unsafe { action.assume_init() };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

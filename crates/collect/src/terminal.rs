//! Lending the terminal to a command that wants to read it.
//!
//! The command runs in a process group of its own, so that Ctrl-C ends the recording and not the
//! command. A program in such a group is stopped by the kernel when it reads the terminal; it
//! gets the terminal then (and Ctrl-C with it), until it ends.

use crate::command::send;

/// The terminal in another group's hands; comes back when dropped.
pub(crate) struct Loan {
    own_group: i32,
}

impl Loan {
    /// Gives the terminal on standard input to `group`, which has stopped for it, and lets it go
    /// on. None when standard input is no terminal.
    pub(crate) fn to(group: u32) -> Option<Self> {
        // SAFETY: asks about a descriptor.
        if unsafe { libc::isatty(libc::STDIN_FILENO) } == 0 {
            return None;
        }
        // SAFETY: asks for a number.
        let own_group = unsafe { libc::getpgrp() };
        give(group as i32);
        send(group, true, libc::SIGCONT);
        Some(Self { own_group })
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        give(self.own_group);
    }
}

/// Makes `group` the terminal's foreground group. From the background that would stop us, so
/// the signal for it is ignored meanwhile.
fn give(group: i32) {
    // SAFETY: replaces the disposition of one signal, by a constant.
    let before = unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    // SAFETY: takes numbers; a refusal leaves the terminal as it is.
    unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, group) };
    // SAFETY: restores what was there.
    unsafe { libc::signal(libc::SIGTTOU, before) };
}

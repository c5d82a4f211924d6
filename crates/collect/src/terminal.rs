//! Lending the terminal to a command that wants to read it.
//!
//! The command runs in a process group of its own, so that Ctrl-C ends the recording and not the
//! command. A program in such a group is stopped by the kernel when it reads the terminal; it
//! gets the terminal then (and Ctrl-C with it), until it ends.

use heapwright_os::{give_terminal_to, own_process_group, send_signal, stdin_is_terminal};
use signal_hook::consts::SIGCONT;

/// The terminal in another group's hands; comes back when dropped.
pub(crate) struct Loan {
    own_group: u32,
}

impl Loan {
    /// Gives the terminal on standard input to `group`, which has stopped for it, and lets it go
    /// on. None when standard input is no terminal.
    pub(crate) fn to(group: u32) -> Option<Self> {
        if !stdin_is_terminal() {
            return None;
        }
        let own_group = own_process_group();
        give_terminal_to(group);
        // It may have been killed meanwhile, which is noticed elsewhere.
        let _ = send_signal(group, true, SIGCONT);
        Some(Self { own_group })
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        give_terminal_to(self.own_group);
    }
}

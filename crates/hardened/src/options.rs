//! What a user can choose: the variable `HEAPWRIGHT_HARDENED`, words `key=value` between commas.
//!
//! - `on-error=abort` (default), `on-error=continue`, `on-error=exit:N`.
//! - `log=PATH`: reports go to the end of that file, not to standard error.
//! - `sweep=1`: all blocks are looked at when the program ends.
//! - `zero=all`: a freed slot is zeroed, and looked at when it is used again, from end to end, and
//!   pages of freed large blocks are not used again. Fixed by the first allocation, as what it says
//!   is in the table of classes, which is read-only from then on.

use core::ffi::CStr;

use heapwright_os::{env_var, has_environment, is_secure};
use heapwright_sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

/// The variable.
pub const VARIABLE: &str = "HEAPWRIGHT_HARDENED";
const PATH_BYTES_MAX: usize = 1024;

/// What happens after a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// `SIGABRT`.
    Abort,
    /// The process ends with this status.
    Exit(u8),
    /// The program goes on; what is damaged is never handed out again.
    Continue,
}

/// Above every status: go on.
const CONTINUE: u32 = 256;
const ABORT: u32 = 257;

static REACTION: AtomicU32 = AtomicU32::new(ABORT);
static SWEEP: AtomicU32 = AtomicU32::new(0);
static ZEROES_ALL: AtomicU32 = AtomicU32::new(0);
static IS_READ: AtomicU32 = AtomicU32::new(0);
static PATH: [AtomicU8; PATH_BYTES_MAX] = [const { AtomicU8::new(0) }; PATH_BYTES_MAX];
static PATH_BYTES: AtomicUsize = AtomicUsize::new(0);

/// What happens after a report.
pub(crate) fn reaction() -> Reaction {
    read_environment();
    match REACTION.load(Ordering::Relaxed) {
        CONTINUE => Reaction::Continue,
        ABORT => Reaction::Abort,
        status => Reaction::Exit(status as u8),
    }
}

/// Whether all blocks are looked at when the program ends.
pub(crate) fn wants_sweep() -> bool {
    read_environment();
    SWEEP.load(Ordering::Relaxed) != 0
}

/// Whether freed memory is zeroed from end to end, not as far as its class says.
pub(crate) fn zeroes_all() -> bool {
    read_environment();
    ZEROES_ALL.load(Ordering::Relaxed) != 0
}

/// Reads the variable once libc has its environment. Ignored where the program has more rights
/// than its caller.
pub(crate) fn read_environment() {
    if IS_READ.load(Ordering::Relaxed) == 1 || !has_environment() {
        return;
    }
    IS_READ.store(1, Ordering::Relaxed);
    if let Some(text) = env_var(VARIABLE)
        && !is_secure()
    {
        parse(text.to_bytes());
    }
}

/// Takes the words of `text`. Unknown ones are passed over: the caller may be newer.
fn parse(text: &[u8]) {
    for word in text.split(|byte| *byte == b',') {
        let mut halves = word.splitn(2, |byte| *byte == b'=');
        let key = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        match key {
            b"on-error" => {
                if let Some(number) = reaction_number(value) {
                    REACTION.store(number, Ordering::Relaxed);
                }
            }
            b"sweep" => SWEEP.store(u32::from(value == b"1"), Ordering::Relaxed),
            b"zero" => ZEROES_ALL.store(u32::from(value == b"all"), Ordering::Relaxed),
            b"log" => set_path(value),
            _ => {}
        }
    }
}

fn reaction_number(value: &[u8]) -> Option<u32> {
    match value {
        b"continue" => Some(CONTINUE),
        b"abort" => Some(ABORT),
        _ => {
            let digits = value.strip_prefix(b"exit:")?;
            let status: u8 = core::str::from_utf8(digits).ok()?.parse().ok()?;
            Some(u32::from(status))
        }
    }
}

fn set_path(path: &[u8]) {
    // A path that does not fit is left out: reports go to standard error then.
    if path.len() < PATH_BYTES_MAX {
        for (place, byte) in PATH.iter().zip(path) {
            place.store(*byte, Ordering::Relaxed);
        }
        PATH_BYTES.store(path.len(), Ordering::Relaxed);
    }
}

/// Calls `open` with the path of the report file, if one was given.
pub(crate) fn with_path<R>(open: impl FnOnce(&CStr) -> R) -> Option<R> {
    read_environment();
    let bytes = PATH_BYTES.load(Ordering::Relaxed);
    if bytes == 0 {
        return None;
    }
    let mut path = [0; PATH_BYTES_MAX];
    for (place, byte) in path.iter_mut().zip(&PATH[..bytes]) {
        *place = byte.load(Ordering::Relaxed);
    }
    CStr::from_bytes_until_nul(&path).ok().map(open)
}

#[cfg(test)]
mod tests {
    use super::{ABORT, CONTINUE, reaction_number};

    #[test]
    fn reactions_are_read_and_nonsense_is_none() {
        assert_eq!(reaction_number(b"continue"), Some(CONTINUE));
        assert_eq!(reaction_number(b"abort"), Some(ABORT));
        assert_eq!(reaction_number(b"exit:99"), Some(99));
        for wrong in [&b"exit:256"[..], b"exit:", b"stop", b""] {
            assert_eq!(reaction_number(wrong), None);
        }
    }
}

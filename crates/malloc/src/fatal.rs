//! The end of a process whose heap cannot be trusted: one fixed line, then abort.

use heapwright_os::{Fd, abort, write_all};

/// Writes `line` to standard error and aborts.
#[cold]
#[inline(never)]
pub(crate) fn fatal(line: &[u8]) -> ! {
    // Nobody can be told when even this fails.
    let _ = write_all(&Fd::STDERR, line);
    abort()
}

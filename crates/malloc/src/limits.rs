//! How much memory the allocator may hold, and the options that a user can set.
//!
//! The figure that limits are about is what the pool has handed out and not got back purged:
//! spans, large blocks, and free runs that may be resident. It is an upper bound of resident
//! memory, known without asking the kernel.

use heapwright_os::{env_var, has_environment, is_secure};
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Limits in bytes; `usize::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Above this, free memory goes back to the kernel at once.
    pub soft_bytes: usize,
    /// Above this, allocations fail.
    pub hard_bytes: usize,
}

static SOFT_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);
static HARD_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);
/// 1 when no thread of ours may be started.
static IS_PURGER_FORBIDDEN: AtomicU32 = AtomicU32::new(0);
/// 1 when the environment was read.
static IS_ENVIRONMENT_READ: AtomicU32 = AtomicU32::new(0);

/// The limits in force.
pub fn limits() -> Limits {
    Limits {
        soft_bytes: SOFT_BYTES.load(Ordering::Relaxed),
        hard_bytes: HARD_BYTES.load(Ordering::Relaxed),
    }
}

/// Sets the limits for what is allocated from now on; nothing is taken away. O(1).
pub fn set_limits(limits: Limits) {
    SOFT_BYTES.store(limits.soft_bytes, Ordering::Relaxed);
    HARD_BYTES.store(limits.hard_bytes, Ordering::Relaxed);
}

/// Whether a thread that purges may be started once the process has threads; true at first. One
/// that runs ends by itself within a second.
pub fn allow_purger(is_allowed: bool) {
    IS_PURGER_FORBIDDEN.store(u32::from(!is_allowed), Ordering::Relaxed);
}

/// Whether a purger may be started.
pub(crate) fn is_purger_allowed() -> bool {
    IS_PURGER_FORBIDDEN.load(Ordering::Relaxed) == 0
}

/// Reads `HEAPWRIGHT_SOFT_LIMIT` and `HEAPWRIGHT_HARD_LIMIT` (bytes; K, M, G and T multiply by
/// powers of 1024) and `HEAPWRIGHT_PURGER` (0 forbids the thread), once libc has its environment.
/// Ignored where the program has more rights than its caller.
pub(crate) fn read_environment() {
    if IS_ENVIRONMENT_READ.load(Ordering::Relaxed) == 1 || !has_environment() {
        return;
    }
    IS_ENVIRONMENT_READ.store(1, Ordering::Relaxed);
    if is_secure() {
        return;
    }
    for (name, limit) in
        [("HEAPWRIGHT_SOFT_LIMIT", &SOFT_BYTES), ("HEAPWRIGHT_HARD_LIMIT", &HARD_BYTES)]
    {
        if let Some(bytes) = env_var(name).and_then(|text| parse_bytes(text.to_bytes())) {
            limit.store(bytes, Ordering::Relaxed);
        }
    }
    if env_var("HEAPWRIGHT_PURGER").is_some_and(|text| text.to_bytes() == b"0") {
        allow_purger(false);
    }
}

/// `64M` as bytes; none for what is no size.
fn parse_bytes(text: &[u8]) -> Option<usize> {
    let (digits, shift) = match text.split_last()? {
        (b'K' | b'k', digits) => (digits, 10),
        (b'M' | b'm', digits) => (digits, 20),
        (b'G' | b'g', digits) => (digits, 30),
        (b'T' | b't', digits) => (digits, 40),
        _ => (text, 0),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0usize;
    for digit in digits {
        let digit = (*digit as char).to_digit(10)?;
        value = value.checked_mul(10)?.checked_add(digit as usize)?;
    }
    value.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse_bytes(b"4096"), Some(4096));
        assert_eq!(parse_bytes(b"64M"), Some(64 << 20));
        assert_eq!(parse_bytes(b"2g"), Some(2 << 30));
        for wrong in [&b""[..], b"M", b"12x", b"-1", b"99999999999999999999", b"99999999T"] {
            assert_eq!(parse_bytes(wrong), None);
        }
    }
}

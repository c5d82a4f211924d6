//! How much memory the allocator may hold. How a user says so: `options`.
//!
//! The figure that limits are about is what the pool has handed out and not got back purged:
//! spans, large blocks, and free runs that may be resident. It is an upper bound of resident
//! memory, known without asking the kernel.

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

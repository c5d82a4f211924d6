//! How much a thread does for merging at a stretch.

use heapwright_os::monotonic_ns;

/// Time that a thread of the program lends at a stretch. What was begun is finished, which takes
/// half as long again at most: a group of `MEMBER_COUNT_MAX`, a sort.
const SLICE_NS: u64 = 300_000;
/// The same in windows, so that it does not depend on the clock alone.
pub(crate) const SLICE_WINDOWS: u32 = 32;

/// What may still be done at this stretch.
#[derive(Debug)]
pub(crate) struct Budget {
    end_ns: u64,
    windows_left: u32,
    /// Whether nobody waits for the thread.
    pub(crate) is_unlimited: bool,
}

impl Budget {
    /// No end: for a thread of ours, and for whoever asks for everything.
    pub(crate) fn unlimited() -> Self {
        Self { end_ns: u64::MAX, windows_left: u32::MAX, is_unlimited: true }
    }

    /// A stretch of a thread that has other things to do.
    pub(crate) fn slice() -> Self {
        let end_ns = monotonic_ns() + SLICE_NS;
        Self { end_ns, windows_left: SLICE_WINDOWS, is_unlimited: false }
    }

    /// Notes that the kernel was asked to merge so many windows.
    pub(crate) fn use_windows(&mut self, count: usize) {
        if !self.is_unlimited {
            self.windows_left = self.windows_left.saturating_sub(count as u32);
        }
    }

    /// Whether it is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.windows_left == 0 || (!self.is_unlimited && monotonic_ns() >= self.end_ns)
    }
}

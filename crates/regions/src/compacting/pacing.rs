//! How much of a pass is done at once, by heap and pool alike.

use core::cell::Cell;

/// Given back to the kernel at once; these 16 pages take as long as copying `RETURN_WORK` bytes,
/// which is what a step works between two looks at the clock: with four times as many a step came
/// to its end as much later.
pub(super) const RETURN_BYTES: usize = 64 << 10;
pub(super) const RETURN_WORK: usize = 16 << 10;
/// The clock is read after so much work: some ten microseconds.
#[cfg(feature = "os")]
const WORK_PER_LOOK: usize = 16 << 10;

/// A call that must not be entered again from its own callback; ends with this value, also by a
/// panic of the callback.
pub(super) struct Busy<'a>(&'a Cell<bool>);

impl<'a> Busy<'a> {
    /// None while there is one already.
    pub(super) fn begin(flag: &'a Cell<bool>) -> Option<Self> {
        // Lazily: a value made and dropped would end the call that is under way.
        (!flag.replace(true)).then(|| Self(flag))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Has `step` work for about `time`. It is told how much work to do, and says how much it did and
/// whether the pass is over.
#[cfg(feature = "os")]
pub(super) fn for_time(time: core::time::Duration, mut step: impl FnMut(usize) -> (usize, bool)) {
    use heapwright_os::monotonic_ns;

    let end = monotonic_ns().saturating_add(time.as_nanos().try_into().unwrap_or(u64::MAX));
    loop {
        let (work, is_over) = step(WORK_PER_LOOK);
        if is_over || work == 0 || monotonic_ns() >= end {
            return;
        }
    }
}

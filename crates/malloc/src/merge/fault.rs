//! Failures on purpose, for tests: each step of a merge can be made to fail.

use heapwright_os::Errno;

/// The steps that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// Taking memory for the group.
    Memory = 1,
    /// Taking the window away.
    Take = 2,
    /// Mapping the group over the window, with the bytes copied and the window away.
    Map = 3,
}

#[cfg(feature = "merge-faults")]
static FAILING: heapwright_sync::atomic::AtomicU32 = heapwright_sync::atomic::AtomicU32::new(0);

/// Lets `step` fail in every other window from now on; none: nothing fails any more.
#[cfg(feature = "merge-faults")]
pub fn fail_merge_step(step: Option<Step>) {
    let value = step.map_or(0, |step| step as u32);
    FAILING.store(value, heapwright_sync::atomic::Ordering::Relaxed);
}

/// Fails when a test wants `step` to.
#[cfg(feature = "merge-faults")]
pub(crate) fn inject(step: Step) -> Result<(), Errno> {
    use heapwright_sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let is_due = FAILING.load(Ordering::Relaxed) == step as u32
        && COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
    if is_due { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// Nothing fails on purpose.
#[cfg(not(feature = "merge-faults"))]
#[inline(always)]
pub(crate) fn inject(_step: Step) -> Result<(), Errno> {
    Ok(())
}

//! The state of watching, in a page that the kernel wipes in the child of a fork: a child finds
//! nothing and opens a page of its own, instead of writing into its parent's. A child of `vfork`,
//! which runs in the parent's memory, finds the parent's.

use heapwright_os::{Advice, Protection, advise, page_bytes, reserve};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// All zero in the child of a fork.
pub(crate) struct State {
    /// The statistics page, mapped; null when it is not open.
    pub(crate) page: AtomicPtr<AtomicU64>,
    /// 1 while a thread is at it.
    pub(crate) is_busy: AtomicU32,
    /// 1 while the helper thread runs: it does everything, and heartbeats nothing.
    pub(crate) has_helper: AtomicU32,
    /// 1 when the page was tried in this process.
    pub(crate) is_tried: AtomicU32,
    /// Cycle count before which the page is not written again.
    pub(crate) next_cycles: AtomicU64,
}

static STATE: AtomicPtr<State> = AtomicPtr::new(core::ptr::null_mut());

/// The state; none in a process that is not watched.
#[inline]
pub(crate) fn state() -> Option<&'static State> {
    // Acquire: pairs with the Release in `make_state`.
    // SAFETY: null, or a page that is never given back.
    unsafe { STATE.load(Ordering::Acquire).as_ref() }
}

/// Makes the state; none when the kernel has no page for it.
pub(crate) fn make_state() -> Option<&'static State> {
    if let Some(state) = state() {
        return Some(state);
    }
    let page = reserve(page_bytes(), Protection::ReadWrite).ok()?;
    // Without it (before Linux 4.14) a child would write into its parent's page.
    // SAFETY: a fresh page of ours.
    unsafe { advise(page, page_bytes(), Advice::WipeOnFork) }.ok()?;
    STATE.store(page.as_ptr().cast(), Ordering::Release);
    state()
}

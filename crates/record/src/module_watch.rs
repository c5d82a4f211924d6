//! When the list of modules is to be read again.

use heapwright_os::monotonic_ns;
use heapwright_sync::atomic::{AtomicU64, Ordering};

use crate::session::{Mode, mode};

/// Tells that modules are about to be loaded (call before `dlopen`).
pub fn modules_changed() {
    if mode() == Mode::On {
        MODULE_PAUSE_NS.store(0, Ordering::Relaxed);
        heapwright_unwind::modules_loaded();
    }
}

/// Wait between two readings of the module list for the sake of an unknown address, and when
/// the next may be: code without a file (a JIT's) must not make us read it all the time, and a
/// module whose loading we did not see must be found soon.
static MODULE_PAUSE_NS: AtomicU64 = AtomicU64::new(0);
static MODULE_NEXT_NS: AtomicU64 = AtomicU64::new(0);
const MODULE_PAUSE_NS_MIN: u64 = 5_000_000;
const MODULE_PAUSE_NS_MAX: u64 = 1_000_000_000;

/// Whether it is worth while to walk a stack again that ended at an unknown address: the list
/// of modules will be read anew.
#[cold]
pub(crate) fn may_look_for_modules() -> bool {
    let now_ns = monotonic_ns();
    let pause_ns = MODULE_PAUSE_NS.load(Ordering::Relaxed);
    if pause_ns != 0 && now_ns < MODULE_NEXT_NS.load(Ordering::Relaxed) {
        return false;
    }
    let pause_ns = (pause_ns * 2).clamp(MODULE_PAUSE_NS_MIN, MODULE_PAUSE_NS_MAX);
    MODULE_PAUSE_NS.store(pause_ns, Ordering::Relaxed);
    MODULE_NEXT_NS.store(now_ns + pause_ns, Ordering::Relaxed);
    heapwright_unwind::modules_loaded();
    true
}

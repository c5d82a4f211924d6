//! The thread of a watched process: it keeps the page fresh and answers readers when the program
//! itself is idle. Started only where the environment asks for watching.

use core::ffi::c_void;
use core::time::Duration;

use heapwright_malloc::{is_unannounced_child, thread_count};
use heapwright_os::{futex_wait, spawn_helper};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::beat::look;
use crate::state::{State, state};

/// Time between two looks for requests.
const ROUND: Duration = Duration::from_millis(50);
/// Bytes of its stack, the thread-local storage of the program's objects included.
const STACK_BYTES: usize = 256 * 1024;
/// Rounds without a thread that allocates after which it ends: a process may be waiting for its
/// last thread, and before `main` there is none yet.
const ROUNDS_ALONE_MAX: u32 = 20;

/// A word that nobody changes, to sleep on.
static NEVER: AtomicU32 = AtomicU32::new(0);

/// Starts it. Without it, after a refusal or where no thread may be started, heartbeats do all the
/// work.
pub(crate) fn start(state: &State) {
    if is_unannounced_child() {
        return;
    }
    state.has_helper.store(1, Ordering::Relaxed);
    if !spawn_helper(main, STACK_BYTES) {
        state.has_helper.store(0, Ordering::Relaxed);
    }
}

unsafe extern "C" fn main(_: *mut c_void) -> *mut c_void {
    let Some(state) = state() else { return core::ptr::null_mut() };
    let mut rounds_alone = 0;
    while rounds_alone < ROUNDS_ALONE_MAX {
        let _ = futex_wait(&NEVER, 0, Some(ROUND));
        rounds_alone = if thread_count() == 0 { rounds_alone + 1 } else { 0 };
        look(state);
    }
    state.has_helper.store(0, Ordering::Relaxed);
    core::ptr::null_mut()
}

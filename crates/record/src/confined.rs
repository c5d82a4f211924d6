//! Programs that forbid themselves system calls (seccomp): a call that the program's own filter
//! does not know would end the program, so from then on the recorder makes only those that an
//! allocator makes too: `mmap`, `munmap` and `futex`.

use heapwright_os::yield_now;
use heapwright_sync::atomic::{AtomicU32, Ordering};

/// How much deeper than here the calling thread's stack may become without stacks being cut.
const STACK_BYTES: usize = 1 << 20;

static CONFINED: AtomicU32 = AtomicU32::new(0);

/// The program is about to give system calls up: call right before that.
///
/// Rings get all their memory now and the modules are read once more. Threads, processes and
/// modules that come later are not recorded; their events are counted as dropped where they can
/// be. Touched pages are not asked for any more.
pub fn confine() {
    match crate::mode() {
        crate::Mode::On if !is_confined() => {}
        // It will say no when it is asked to record.
        crate::Mode::Dormant => return CONFINED.store(1, Ordering::Release),
        _ => return,
    }
    heapwright_unwind::refresh_modules();
    if let Some(guard) = crate::thread::enter() {
        guard.prepare_stack(STACK_BYTES);
    }
    heapwright_unwind::freeze_modules();
    crate::process::allocate_all_slots();
    CONFINED.store(1, Ordering::Release);
}

/// Whether the program may have given system calls up.
#[inline]
pub(crate) fn is_confined() -> bool {
    CONFINED.load(Ordering::Relaxed) != 0
}

/// Gives the CPU to another thread, or only waits a little.
pub(crate) fn pause() {
    if is_confined() {
        core::hint::spin_loop();
    } else {
        yield_now();
    }
}

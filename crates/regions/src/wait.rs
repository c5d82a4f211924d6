//! How a thread waits for another one in a region's lock.

use heapwright_sync::Wait;
use heapwright_sync::atomic::AtomicU32;

/// Sleeps with the kernel's help, or spins where there is no kernel.
#[derive(Debug)]
pub(crate) struct Sleep;

impl Wait for Sleep {
    #[cfg(feature = "os")]
    fn wait(word: &AtomicU32, value: u32) {
        // Whatever the reason for coming back, the caller looks again.
        let _ = heapwright_os::futex_wait(word, value, None);
    }

    #[cfg(feature = "os")]
    fn wake_one(word: &AtomicU32) {
        heapwright_os::futex_wake(word, 1);
    }

    #[cfg(not(feature = "os"))]
    fn wait(_: &AtomicU32, _: u32) {
        core::hint::spin_loop();
    }

    #[cfg(not(feature = "os"))]
    fn wake_one(_: &AtomicU32) {}
}

/// A number of the calling thread's own, as `Lock::lock` wants one.
#[cfg(feature = "os")]
pub(crate) fn token() -> usize {
    heapwright_os::thread_pointer()
}

/// As above: an address on its stack. A thread that meets itself then waits for ever.
#[cfg(not(feature = "os"))]
#[inline(never)]
pub(crate) fn token() -> usize {
    let here = 0u8;
    core::ptr::from_ref(&here).addr()
}

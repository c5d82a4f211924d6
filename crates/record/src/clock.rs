//! The recording's clock: the CPU's cycle counter in units of 2^shift ticks, or monotonic
//! nanoseconds where the counter does not run evenly on all CPUs.

use heapwright_format::spool::SessionHeader;
use heapwright_os::{cycle_counter, cycle_counter_ordered, monotonic_ns};
use heapwright_sync::atomic::Ordering;

/// Which clock the session chose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    shift: u32,
    monotonic: bool,
}

impl Clock {
    pub(crate) fn of(session: &SessionHeader) -> Self {
        // Relaxed: set before any recorder is started.
        let shift = session.time_shift.load(Ordering::Relaxed) & 63;
        Self { shift, monotonic: session.clock.load(Ordering::Relaxed) != 0 }
    }

    /// Now, in units; to be called before a free.
    #[inline(always)]
    pub(crate) fn before(self) -> u64 {
        if self.monotonic { self.slow() } else { cycle_counter() >> self.shift }
    }

    /// Now, in units, not earlier than the loads before; to be called after an allocation.
    #[inline(always)]
    pub(crate) fn after(self) -> u64 {
        if self.monotonic { self.slow() } else { cycle_counter_ordered() >> self.shift }
    }

    #[cold]
    fn slow(self) -> u64 {
        monotonic_ns() >> self.shift
    }
}

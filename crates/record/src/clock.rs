//! The recording's clock: the CPU's cycle counter in units of 2^shift ticks, or monotonic
//! nanoseconds where the counter does not run evenly on all CPUs.

use heapwright_format::spool::SessionHeader;
use heapwright_os::{cycle_counter, monotonic_ns};
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

    /// Now, in units: asked for before a free and after an allocation.
    ///
    /// The CPU may read its counter some 100 ns early, before an allocation's loads are done;
    /// ordering them by a fence would cost 10 ns an event or more (ADR 0004). An allocation can so seem to come before the
    /// free that made room for it: the reader puts that right (`heapwright_format::objects`).
    #[inline(always)]
    pub(crate) fn now(self) -> u64 {
        if self.monotonic { self.slow() } else { cycle_counter() >> self.shift }
    }

    #[cold]
    fn slow(self) -> u64 {
        monotonic_ns() >> self.shift
    }
}

//! The recording's clock: the CPU's cycle counter in units of 2^shift ticks, or monotonic
//! nanoseconds where the counter does not run evenly on all CPUs.
//!
//! Reading the counter costs the program some 25 ns an event, most of it because the CPU does
//! not work ahead across it. A thread that is alone in allocating needs no time to put its
//! events in order. So it reads the counter once in [`RUN`] events while they come densely, and
//! the events between have the time of that reading. As soon as a second thread has events,
//! both read it for each (ADR 0005).
//!
//! # Invariants
//! - I1: an event that happens before another of the same process has no later time, but for some
//!   100 ns by which a CPU reads its counter before an instruction that stands earlier. (The
//!   reader puts right what comes of that: `heapwright_format::objects`.)
//!
//! Why I1 holds. A time is *kept* when an earlier reading is used again, else *fresh*; fresh
//! times are right by themselves. A kept time is never too late. It could be too early against
//! an event of another thread that came before. Let thread B keep time `b` for an event that
//! comes after event E of thread A, whose time is `a`.
//! 1. B saw itself as the owner at its event. Coherence: no store of another thread into
//!    [`Order::owner`] that comes before that event is later than B's claim.
//! 2. At E, after it had read its counter (or as the owner before B, earlier still), A saw the
//!    owner. Had that been B, then A had shared the clock before E, against 1. So A looked
//!    before B's claim was visible, and read its counter 100 ns after that at the latest: an
//!    interrupt between the two has both done again.
//! 3. B keeps no reading that is not [`PROBATION`] after its claim. So `a <= b`.

use heapwright_format::spool::SessionHeader;
use heapwright_os::{cycle_counter, monotonic_ns};
use heapwright_sync::atomic::{AtomicU32, Ordering};

/// Events that have one reading, at most.
const RUN: u32 = 16;
/// Events come densely when the last reading is at most this many ticks ago: 10 to 30 us.
const DENSE_TICKS: u64 = 1 << 15;
/// Ticks for which a new owner goes on reading: some 30 us, far longer than a CPU has an
/// instruction under way.
const PROBATION: u64 = 1 << 16;
/// Events in a row that a thread records before it tries to be the owner.
const CLAIM_AFTER: u32 = 1024;

/// Who is alone in recording, for one process.
#[repr(align(64))]
pub(crate) struct Order {
    /// Number of the owner, who may keep its reading; [`SHARED`] when nobody may.
    owner: AtomicU32,
}

/// Zero, as a block fresh from the kernel has it.
const SHARED: u32 = 0;

/// A thread's reading of the clock.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Clock {
    /// Events left for which the reading is kept.
    left: u32,
    /// The thread's number, not 0 and not used again; 0 when every event is to be read.
    thread: u32,
    reading: u64,
    claimed_at: u64,
    /// Events since the clock was shared.
    events: u32,
    shift: u8,
    monotonic: bool,
}

impl Clock {
    /// The clock that the session chose, for the thread with this number (from 0). With
    /// `every_event`, which suits events that are far apart, no reading is kept.
    pub(crate) fn of(session: &SessionHeader, thread: u32, every_event: bool) -> Self {
        // Relaxed: set before any recorder is started.
        let shift = session.time_shift.load(Ordering::Relaxed) & 63;
        Self::new(shift as u8, session.clock.load(Ordering::Relaxed) != 0, thread, every_event)
    }

    fn new(shift: u8, monotonic: bool, thread: u32, every_event: bool) -> Self {
        let thread = if every_event { 0 } else { thread.wrapping_add(1) };
        Self { left: 0, thread, reading: 0, claimed_at: 0, events: 0, shift, monotonic }
    }

    /// The time of an event, in units: asked for before a free and after an allocation.
    #[inline(always)]
    pub(crate) fn now(&mut self, order: &Order) -> u64 {
        // Relaxed: coherence is all that I1 asks for.
        if self.left != 0 && order.owner.load(Ordering::Relaxed) == self.thread {
            self.left -= 1;
            return self.reading >> self.shift;
        }
        self.read(order)
    }

    /// The time now, in units, for what is no event of the heap.
    pub(crate) fn fresh(&self) -> u64 {
        self.ticks() >> self.shift
    }

    #[inline(never)]
    fn read(&mut self, order: &Order) -> u64 {
        let last = self.reading;
        loop {
            self.reading = self.ticks();
            self.left = 0;
            // After the counter was read, for step 2 of I1.
            let owner = order.owner.load(Ordering::Relaxed);
            if self.thread == 0 {
                break;
            }
            if owner == self.thread {
                let is_dense = self.reading.wrapping_sub(last) <= DENSE_TICKS;
                let is_settled = self.reading.wrapping_sub(self.claimed_at) > PROBATION;
                self.left = if is_dense && is_settled { RUN - 1 } else { 0 };
                break;
            }
            if owner == SHARED {
                self.events += 1;
                if self.events > CLAIM_AFTER {
                    self.claim(order);
                }
                break;
            }
            self.events = 0;
            // SeqCst: visible before the counter is read again.
            order.owner.swap(SHARED, Ordering::SeqCst);
        }
        self.reading >> self.shift
    }

    #[cold]
    fn claim(&mut self, order: &Order) {
        self.events = 0;
        // SeqCst: visible before the counter is read below, from where the probation runs.
        let claim =
            order.owner.compare_exchange(SHARED, self.thread, Ordering::SeqCst, Ordering::Relaxed);
        if claim.is_ok() {
            self.claimed_at = self.ticks();
        }
    }

    #[inline(always)]
    fn ticks(&self) -> u64 {
        if self.monotonic { monotonic_ns() } else { cycle_counter() }
    }
}

const _: () = assert!(DENSE_TICKS < PROBATION);

#[cfg(test)]
mod tests {
    extern crate std;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::thread;

    use heapwright_sync::atomic::AtomicU32;

    use super::{CLAIM_AFTER, Clock, Order, RUN, SHARED};

    fn order() -> Order {
        Order { owner: AtomicU32::new(SHARED) }
    }

    #[test]
    fn a_thread_alone_reads_once_in_a_run() {
        let order = order();
        let mut clock = Clock::new(0, false, 0, false);
        let mut readings = 0;
        let mut last = 0;
        let mut kept = 0;
        for _ in 0..2_000_000 {
            let time = clock.now(&order);
            assert!(time >= last);
            readings += u32::from(time != last);
            kept += u32::from(time == last);
            last = time;
        }
        assert!(kept > readings, "{kept} kept, {readings} read");
        assert!(readings >= 2_000_000 / RUN, "{readings}");
    }

    #[test]
    fn sampled_events_are_each_read() {
        let order = order();
        let mut clock = Clock::new(0, false, 0, true);
        let mut last = 0;
        for _ in 0..CLAIM_AFTER * 4 {
            let time = clock.now(&order);
            assert!(time > last);
            last = time;
        }
        assert_eq!(order.owner.load(Ordering::Relaxed), SHARED);
    }

    /// Blocks of events by threads in turn; the turn is what happens before.
    #[test]
    fn times_follow_what_happens_before() {
        const THREADS: usize = 3;
        const TURNS: usize = 3_000;
        let (order, turn, last) = (order(), AtomicUsize::new(0), AtomicU64::new(0));
        let kept = AtomicU64::new(0);
        let wrong = AtomicU64::new(0);
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (order, turn, last, kept, wrong) = (&order, &turn, &last, &kept, &wrong);
                scope.spawn(move || {
                    let mut clock = Clock::new(0, false, number as u32, false);
                    loop {
                        let now = turn.load(Ordering::Acquire);
                        if now >= TURNS {
                            return;
                        }
                        if now % THREADS != number {
                            thread::yield_now();
                            continue;
                        }
                        // Long enough turns to own the clock, and very short ones.
                        let count = if now % 10 < 3 { 3 } else { 4 * CLAIM_AFTER as usize };
                        let mut before = last.load(Ordering::Relaxed);
                        for _ in 0..count {
                            let time = clock.now(order);
                            // 1000 ticks for an early reading.
                            wrong.fetch_add(u64::from(time + 1000 < before), Ordering::Relaxed);
                            kept.fetch_add(u64::from(time == before), Ordering::Relaxed);
                            before = before.max(time);
                        }
                        last.store(before, Ordering::Relaxed);
                        turn.store(now + 1, Ordering::Release);
                    }
                });
            }
        });
        assert_eq!(wrong.load(Ordering::Relaxed), 0, "times before those of earlier events");
        assert!(kept.load(Ordering::Relaxed) > 100_000, "readings were kept: {kept:?}");
    }
}

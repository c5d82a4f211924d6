//! Who may go on: epochs, and the waiting for them.
//!
//! # Invariants
//! - I1: `completed` is the number of epochs of which all operations, and those of all epochs
//!   before, are done. It only grows, one by one, by whoever holds the claim on the boundary.
//! - I2: a thread is inside epoch `e` only after `completed >= need(e)`.
//! - I3: a boundary that is marked is passed by no thread before its sample is taken:
//!   `need(e)` is past every marked epoch below `e` (design/replay#I5).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use heapwright_os::{futex_wait, futex_wake};

use crate::sys;

/// Looks at a word this often before sleeping on it: some microseconds, less than a sleep costs.
const SPINS: u32 = 200;

/// Sleepers on one of these are those that wait for a count equal to it modulo their number.
const GATE_COUNT: usize = 64;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Gate {
    passed: AtomicU32,
    sleepers: AtomicU32,
}

/// The epochs of a run.
#[derive(Debug)]
pub(super) struct Order {
    remaining: &'static [AtomicU32],
    need: &'static [AtomicU32],
    completed: AtomicU32,
    claimed: AtomicU32,
    gates: [Gate; GATE_COUNT],
    /// CPU time that threads spent waiting.
    wait_ns: AtomicU64,
}

impl Order {
    /// An order of the epochs of `remaining`, which holds for each the number of threads that
    /// have operations in it; `need` holds for each the epochs to be complete before it.
    pub(super) fn new(remaining: &'static [AtomicU32], need: &'static [AtomicU32]) -> Self {
        Self {
            remaining,
            need,
            completed: AtomicU32::new(0),
            claimed: AtomicU32::new(0),
            gates: std::array::from_fn(|_| Gate::default()),
            wait_ns: AtomicU64::new(0),
        }
    }

    /// Number of epochs.
    pub(super) fn epoch_count(&self) -> u32 {
        self.remaining.len() as u32
    }

    /// Number of epochs that are done.
    pub(super) fn completed(&self) -> u32 {
        // SeqCst: part of the handshake in `leave`; also publishes what those epochs did.
        self.completed.load(Ordering::SeqCst)
    }

    /// CPU time spent waiting so far.
    pub(super) fn wait_ns(&self) -> u64 {
        self.wait_ns.load(Ordering::Relaxed)
    }

    /// Waits until epoch `epoch` may be entered. A thread that has to wait waits until all
    /// others have caught up: it then goes on for a whole window instead of one epoch.
    #[inline]
    pub(super) fn enter(&self, epoch: u32) {
        let need = self.need[epoch as usize].load(Ordering::Relaxed);
        if self.completed() < need {
            self.wait_for(epoch);
        }
    }

    /// The calling thread has done its part of `epoch`. Calls `boundary` for each epoch that is
    /// complete by that, before anyone is told; never twice for an epoch, and in order.
    pub(super) fn leave(&self, epoch: u32, boundary: impl FnMut(u32)) {
        // SeqCst, here and below: of two threads, one that takes the last part of epoch n + 1
        // and one that completes epoch n, at least one sees the other's store.
        if self.remaining[epoch as usize].fetch_sub(1, Ordering::SeqCst) == 1 {
            self.advance(boundary);
        }
    }

    /// Passes all epochs that are complete; also to be called once at the start, for epochs in
    /// which no thread has a part.
    pub(super) fn advance(&self, mut boundary: impl FnMut(u32)) {
        loop {
            let next = self.completed.load(Ordering::SeqCst);
            let Some(remaining) = self.remaining.get(next as usize) else { return };
            if remaining.load(Ordering::SeqCst) != 0 {
                return;
            }
            let claim =
                self.claimed.compare_exchange(next, next + 1, Ordering::SeqCst, Ordering::SeqCst);
            if claim.is_err() {
                // Whoever holds the claim looks at the next epoch afterwards.
                return;
            }
            boundary(next);
            self.completed.store(next + 1, Ordering::SeqCst);
            let gate = &self.gates[(next as usize + 1) % GATE_COUNT];
            gate.passed.fetch_add(1, Ordering::SeqCst);
            if gate.sleepers.load(Ordering::SeqCst) > 0 {
                futex_wake(&gate.passed, u32::MAX >> 1);
            }
        }
    }

    /// Waits until `count` epochs are done.
    #[cold]
    #[inline(never)]
    pub(super) fn wait_for(&self, count: u32) {
        let before_ns = sys::thread_cpu_ns();
        let mut spins = 0;
        while self.completed() < count {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            let gate = &self.gates[count as usize % GATE_COUNT];
            // SeqCst: either this sleeper is counted before the gate is looked at, or the look
            // at `completed` below sees the epoch done.
            gate.sleepers.fetch_add(1, Ordering::SeqCst);
            let passed = gate.passed.load(Ordering::SeqCst);
            if self.completed() < count {
                // Any return is a reason to look again.
                let _ = futex_wait(&gate.passed, passed, None);
            }
            gate.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        self.add_wait(sys::thread_cpu_ns().saturating_sub(before_ns));
    }

    /// Waits until `look` gives something: a pointer that another thread is about to store.
    #[cold]
    #[inline(never)]
    pub(super) fn wait_until<T>(&self, look: impl Fn() -> Option<T>) -> T {
        let before_ns = sys::thread_cpu_ns();
        let mut tries = 0u32;
        let found = loop {
            if let Some(found) = look() {
                break found;
            }
            tries += 1;
            // First as if the other thread ran on another core, then as if it needed this one;
            // after that it has to run for a while anyway.
            if tries < SPINS {
                std::hint::spin_loop();
            } else if tries < SPINS + 16 {
                std::thread::yield_now();
            } else {
                sys::sleep_us(50);
            }
        };
        self.add_wait(sys::thread_cpu_ns().saturating_sub(before_ns));
        found
    }

    fn add_wait(&self, ns: u64) {
        self.wait_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Order;

    const THREADS: usize = 6;
    const EPOCHS: usize = 3000;
    const WINDOW: u32 = 3;

    fn counters() -> &'static [AtomicU32] {
        Box::leak((0..EPOCHS).map(|_| AtomicU32::new(0)).collect::<Vec<_>>().into_boxed_slice())
    }

    /// Whether `thread` has operations in `epoch`; some epochs have none at all.
    fn takes_part(seed: u64, thread: usize, epoch: usize) -> bool {
        let mixed =
            (seed ^ (thread as u64) << 32 ^ epoch as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40).is_multiple_of(3) && epoch % 17 != 5 && epoch > 20
    }

    /// I1 to I3 under load: boundaries once each and in order, nobody ahead of his epoch.
    #[test]
    fn threads_keep_to_their_epochs() {
        for seed in 1..4u64 {
            let (remaining, need) = (counters(), counters());
            let mut past_mark = 0;
            for epoch in 0..EPOCHS {
                let parts = (0..THREADS).filter(|&thread| takes_part(seed, thread, epoch));
                remaining[epoch].store(parts.count() as u32, Ordering::Relaxed);
                let after_window = (epoch as u32).saturating_sub(WINDOW);
                need[epoch].store(after_window.max(past_mark), Ordering::Relaxed);
                if epoch % 250 == 249 {
                    past_mark = epoch as u32 + 1;
                }
            }
            let order = Order::new(remaining, need);
            let passed = AtomicU32::new(0);
            let first = remaining.iter().position(|left| left.load(Ordering::Relaxed) > 0);
            let first = first.expect("parts") as u32;
            assert!(first > 20);
            order.advance(|done| assert_eq!(passed.swap(done + 1, Ordering::SeqCst), done));
            assert_eq!(order.completed(), first, "nobody has a part in the first epochs");
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (order, passed) = (&order, &passed);
                    scope.spawn(move || {
                        for epoch in (0..EPOCHS).filter(|&e| takes_part(seed, thread, e)) {
                            order.enter(epoch as u32);
                            let need = need[epoch].load(Ordering::Relaxed);
                            assert!(passed.load(Ordering::SeqCst) >= need, "seed {seed}");
                            assert!(remaining[epoch].load(Ordering::SeqCst) > 0);
                            order.leave(epoch as u32, |done| {
                                assert_eq!(passed.swap(done + 1, Ordering::SeqCst), done);
                            });
                        }
                    });
                }
            });
            assert_eq!(order.completed(), order.epoch_count(), "seed {seed}");
            assert!(remaining.iter().all(|left| left.load(Ordering::SeqCst) == 0));
        }
    }

    #[test]
    fn waiting_gives_what_another_thread_stores() {
        let order = Order::new(&[], &[]);
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                word.store(7, Ordering::Release);
            });
            let look = || Some(word.load(Ordering::Acquire)).filter(|&found| found != 0);
            assert_eq!(order.wait_until(look), 7);
        });
        assert!(order.wait_ns() > 0);
    }
}

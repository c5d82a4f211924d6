//! When threads that share work have none any more.
//!
//! Each takes from a common store, works, and may put more into it. None left in the store does not
//! mean the end, since another thread may be about to put some there; all idle at once does.
//! Source: Flood, Detlefs, Shavit, Zhang, "Parallel garbage collection for shared memory
//! multiprocessors", JVM 2001.
//!
//! # Invariants
//! - U1: work enters the store from threads that are not counted in `idle`, and a thread counts
//!   itself there after it found the store empty; so when all are idle, the store is empty and
//!   stays so.

use crate::atomic::{AtomicUsize, Ordering};

/// Counts the threads that share work, and those of them that wait for some.
#[derive(Debug)]
pub struct Quiescence {
    threads: AtomicUsize,
    idle: AtomicUsize,
}

impl Quiescence {
    /// For one thread, the caller.
    pub fn new() -> Self {
        Self { threads: AtomicUsize::new(1), idle: AtomicUsize::new(0) }
    }

    /// One more thread takes part: called before it is started, by one that is not idle.
    pub fn join(&self) {
        self.threads.fetch_add(1, Ordering::AcqRel);
    }

    /// The thread of the last [`Quiescence::join`] could not be started.
    pub fn unjoin(&self) {
        self.threads.fetch_sub(1, Ordering::AcqRel);
    }

    /// The caller, who is not idle, takes no more part, and puts no more work into the store.
    pub fn retire(&self) {
        // AcqRel: as in `next`.
        self.idle.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits for work; returns whether the caller has some, or else nobody has any more.
    ///
    /// `take` takes some out of the store and tells whether there was any; `has_some` is a hint
    /// that there may be; `pause` passes the time until the next look.
    pub fn next(
        &self,
        has_some: impl Fn() -> bool,
        mut take: impl FnMut() -> bool,
        mut pause: impl FnMut(),
    ) -> bool {
        if take() {
            return true;
        }
        // AcqRel: what this thread did is seen by whoever finds all idle, and the reverse.
        self.idle.fetch_add(1, Ordering::AcqRel);
        loop {
            // Acquire: pairs with the releases of `idle` and of `threads`.
            let idle = self.idle.load(Ordering::Acquire);
            if idle == self.threads.load(Ordering::Acquire) {
                return false;
            }
            if has_some() {
                // Before the look, so that nobody finds all idle while this thread has work.
                self.idle.fetch_sub(1, Ordering::AcqRel);
                if take() {
                    return true;
                }
                self.idle.fetch_add(1, Ordering::AcqRel);
            }
            pause();
        }
    }
}

impl Default for Quiescence {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::cell::Cell;

    use super::Quiescence;

    #[test]
    fn one_thread_ends_when_the_store_is_empty() {
        let quiescence = Quiescence::new();
        let left = Cell::new(3);
        let take = || left.get() > 0 && left.replace(left.get() - 1) > 0;
        for _ in 0..3 {
            assert!(quiescence.next(|| true, take, || {}));
        }
        assert!(!quiescence.next(|| true, take, || panic!("nobody to wait for")));
    }

    #[test]
    fn a_thread_that_never_began_and_one_that_retired_are_not_waited_for() {
        let quiescence = Quiescence::new();
        quiescence.join();
        quiescence.unjoin();
        quiescence.join();
        quiescence.retire();
        assert!(!quiescence.next(|| false, || false, || panic!("nobody to wait for")));
    }
}

#[cfg(all(test, loom))]
mod model {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use loom::sync::{Arc, Mutex};

    use super::Quiescence;
    use crate::atomic::{AtomicUsize, Ordering};

    /// Work: a number above 0 puts one less into the store when it is done.
    struct Shared {
        quiescence: Quiescence,
        store: Mutex<Vec<u32>>,
        /// A hint that may be old.
        len: AtomicUsize,
        /// Written by whoever works, read by whoever finds the end: seen without an order of its
        /// own.
        done: AtomicUsize,
    }

    impl Shared {
        fn new(first: u32) -> Self {
            Self {
                quiescence: Quiescence::new(),
                store: Mutex::new(vec![first]),
                len: AtomicUsize::new(1),
                done: AtomicUsize::new(0),
            }
        }

        fn put(&self, work: u32) {
            let mut store = self.store.lock().unwrap();
            store.push(work);
            self.len.store(store.len(), Ordering::Relaxed);
        }

        fn take(&self) -> Option<u32> {
            let mut store = self.store.lock().unwrap();
            let work = store.pop();
            self.len.store(store.len(), Ordering::Relaxed);
            work
        }

        /// Works to the end; what was done by all by then.
        fn run(&self) -> usize {
            loop {
                let mut work = None;
                let take = || {
                    work = self.take();
                    work.is_some()
                };
                let has_some = || self.len.load(Ordering::Relaxed) > 0;
                if !self.quiescence.next(has_some, take, loom::thread::yield_now) {
                    return self.done.load(Ordering::Relaxed);
                }
                if let Some(more) = work.and_then(|work| work.checked_sub(1)) {
                    self.put(more);
                }
                self.done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn check(threads: usize, first: u32) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let shared = Arc::new(Shared::new(first));
            let others: Vec<_> = (1..threads)
                .map(|_| {
                    shared.quiescence.join();
                    let shared = Arc::clone(&shared);
                    loom::thread::spawn(move || shared.run())
                })
                .collect();
            let all = first as usize + 1;
            assert_eq!(shared.run(), all, "the end was seen before the work was done");
            for other in others {
                assert_eq!(other.join().unwrap(), all);
            }
        });
    }

    /// With three threads, two of which wait for each other's steps, loom's model does not end.
    #[test]
    fn two_threads_end_when_all_work_is_done() {
        check(2, 2);
    }

    /// One gives up with work of others left: they end.
    #[test]
    fn a_thread_that_retires_is_not_waited_for() {
        loom::model(|| {
            let shared = Arc::new(Shared::new(1));
            shared.quiescence.join();
            let other = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || shared.run())
            };
            shared.quiescence.retire();
            assert_eq!(other.join().unwrap(), 2);
        });
    }
}

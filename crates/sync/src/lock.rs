//! A lock for allocators: it sleeps, it can be carried over a fork, and a thread that meets
//! itself is told instead of sleeping for ever.
//!
//! The word is 0 when the lock is free, else a token of the thread inside, with its lowest bit set
//! when there are sleepers. The token is in the word, and not only beside it, because a signal can
//! come between any two stores.
//! Source: Drepper, "Futexes Are Tricky", 2011, mutex 2.
//!
//! # Invariants
//! - I1: one thread at a time is between taking the word and freeing it.
//! - I2: whoever sleeps has seen the word with its lowest bit set, or set it; so whoever frees it
//!   by an exchange wakes one. Where [`Wait::IS_WAKE_LOSABLE`], the sleeper wakes by itself.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::atomic::{AtomicU32, AtomicUsize, Ordering};

/// How a thread sleeps on a word and is woken; a futex, or yielding.
pub trait Wait {
    /// Sleeps while `*word == value`; may return for no reason.
    fn wait(word: &AtomicU32, value: u32);
    /// Wakes one sleeper.
    fn wake_one(word: &AtomicU32);
    /// Whether a lock may be freed without an atomic exchange, which costs as much as taking it.
    /// Somebody who goes to sleep in that very moment is then not woken: `wait` has to return by
    /// itself after a while. For locks that hardly anybody ever waits for.
    const IS_WAKE_LOSABLE: bool = false;
    /// Called before each sleep, with the lock not held: the place to notice that the holder can
    /// not come back, as in the child of a fork that nobody announced.
    fn before_wait() {}
}

/// The calling thread holds the lock already: it was interrupted inside (by a signal whose
/// handler came back here), and would sleep for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reentered;

const FREE: u32 = 0;
/// Bit of the word: there may be sleepers.
const CONTENDED: u32 = 1;

/// What the thread whose number is `me` leaves in the word: equal for two threads only when their
/// numbers differ by a multiple of 64 GiB, or by less than 64.
fn token_of(me: usize) -> u32 {
    (me >> 5) as u32 & !CONTENDED | 1 << 31
}

/// Looks at the word before sleeping: an allocator's critical sections are short.
const SPIN_COUNT: u32 = if cfg!(loom) { 1 } else { 64 };

/// A value that one thread at a time may touch.
#[derive(Debug)]
pub struct Lock<T, W> {
    word: AtomicU32,
    /// Token of the thread inside; 0 when there is none.
    holder: AtomicUsize,
    value: UnsafeCell<T>,
    wait: PhantomData<fn() -> W>,
}

// SAFETY: the value is reached through `lock` only, which lets one thread in at a time.
unsafe impl<T: Send, W> Sync for Lock<T, W> {}

impl<T, W: Wait> Lock<T, W> {
    /// A free lock around `value`.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            holder: AtomicUsize::new(0),
            value: UnsafeCell::new(value),
            wait: PhantomData,
        }
    }

    /// A free lock around `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            holder: AtomicUsize::new(0),
            value: UnsafeCell::new(value),
            wait: PhantomData,
        }
    }

    /// Takes the lock. `me` is a number of the calling thread's own, not 0 (the address of
    /// something thread-local).
    ///
    /// # Errors
    /// [`Reentered`] when this thread holds the lock already.
    #[inline]
    pub fn lock(&self, me: usize) -> Result<Guard<'_, T, W>, Reentered> {
        debug_assert_ne!(me, 0);
        // Acquire: pairs with the Release in `unlock`; sees what the last holder wrote.
        let token = token_of(me);
        if self.word.compare_exchange(FREE, token, Ordering::Acquire, Ordering::Relaxed).is_err() {
            lock_slow::<W>(&self.word, &self.holder, me)?;
        }
        self.holder.store(me, Ordering::Relaxed);
        Ok(Guard { lock: self })
    }

    /// Takes the lock if it is free; `me` as for [`Lock::lock`].
    #[inline]
    pub fn try_lock(&self, me: usize) -> Option<Guard<'_, T, W>> {
        debug_assert_ne!(me, 0);
        // Acquire: as in `lock`.
        self.word
            .compare_exchange(FREE, token_of(me), Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        self.holder.store(me, Ordering::Relaxed);
        Some(Guard { lock: self })
    }

    /// Whether somebody holds the lock now.
    pub fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }

    /// Whether the thread `holder` holds the lock now. For a thread that keeps it, or is known to
    /// keep it; of others it may be over at once.
    pub fn is_held_by(&self, holder: usize) -> bool {
        self.is_held() && self.holder.load(Ordering::Relaxed) == holder
    }

    /// Whether [`Lock::lock`] would say [`Reentered`] to the calling thread, `me`: what a signal
    /// handler asks about the code that it interrupted.
    pub fn is_reentered_by(&self, me: usize) -> bool {
        is_inside(&self.word, &self.holder, me)
    }

    fn unlock(&self) {
        self.holder.store(0, Ordering::Relaxed);
        if W::IS_WAKE_LOSABLE && self.word.load(Ordering::Relaxed) & CONTENDED == 0 {
            // Release: pairs with the Acquire in `lock`.
            self.word.store(FREE, Ordering::Release);
            return;
        }
        // Release: pairs with the Acquire in `lock`.
        if self.word.swap(FREE, Ordering::Release) & CONTENDED != 0 {
            W::wake_one(&self.word);
        }
    }

    /// Frees the lock if a thread other than `me` holds it; whether one did. What it guards may be
    /// half changed then. For the child of a fork that kept no lock: the holder is not there.
    pub fn break_if_held_by_other(&self, me: usize) -> bool {
        if !self.is_held() || self.holder.load(Ordering::Relaxed) == me {
            return false;
        }
        self.unlock();
        true
    }

    /// Frees the lock without a guard: for the two sides of a fork, whose guard was forgotten
    /// before it.
    ///
    /// # Safety
    /// - The calling thread took the lock and forgot the guard; or a thread that did has left it to
    ///   this one to free it; or this is the only thread of a child, whose parent's thread did so
    ///   before the fork.
    pub unsafe fn force_unlock(&self) {
        self.unlock();
    }

    /// The value, for a thread that took the lock and forgot the guard.
    ///
    /// # Safety
    /// - The calling thread holds the lock while the reference lives, and makes no other one.
    pub unsafe fn value_while_held(&self) -> &T {
        // SAFETY: the caller's promise: nobody else is inside.
        unsafe { &*self.value.get() }
    }
}

/// Whether the thread `me` has the lock, or is about to have it or to leave it.
fn is_inside(word: &AtomicU32, holder: &AtomicUsize, me: usize) -> bool {
    let inside = holder.load(Ordering::Relaxed);
    // 0 while the thread inside is about to say who it is, or to leave.
    inside == me || (inside == 0 && word.load(Ordering::Relaxed) & !CONTENDED == token_of(me))
}

/// [`Lock::lock`] of a lock that is not free: one function for locks around values of all types.
#[cold]
#[inline(never)]
fn lock_slow<W: Wait>(word: &AtomicU32, holder: &AtomicUsize, me: usize) -> Result<(), Reentered> {
    let token = token_of(me);
    if is_inside(word, holder, me) {
        return Err(Reentered);
    }
    for _ in 0..SPIN_COUNT {
        // Acquire: as in `lock`.
        if word.load(Ordering::Relaxed) == FREE
            && word.compare_exchange(FREE, token, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        // Whoever has slept takes the lock as contended, so that `unlock` wakes the next one.
        let wanted = if seen == FREE { token } else { seen } | CONTENDED;
        // Acquire: as in `lock`.
        if seen != wanted
            && let Err(now) =
                word.compare_exchange(seen, wanted, Ordering::Acquire, Ordering::Relaxed)
        {
            seen = now;
            continue;
        }
        if seen == FREE {
            return Ok(());
        }
        W::before_wait();
        W::wait(word, wanted);
        seen = word.load(Ordering::Relaxed);
    }
}

/// The right to the value, until dropped.
#[derive(Debug)]
pub struct Guard<'a, T, W: Wait> {
    lock: &'a Lock<T, W>,
}

impl<T, W: Wait> Deref for Guard<'_, T, W> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while its thread holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, W: Wait> DerefMut for Guard<'_, T, W> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists only while its thread holds the lock, and is borrowed here.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, W: Wait> Drop for Guard<'_, T, W> {
    fn drop(&mut self) {
        self.lock.unlock();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use super::{Lock, Reentered, Wait};
    use crate::atomic::{AtomicU32, Ordering};

    struct Yield;

    impl Wait for Yield {
        fn wait(_word: &AtomicU32, _value: u32) {
            std::thread::yield_now();
        }
        fn wake_one(_word: &AtomicU32) {}
    }

    #[test]
    fn no_increment_is_lost() {
        static COUNT: Lock<u64, Yield> = Lock::new(0);
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        *COUNT.lock(thread * 64).expect("not held by this thread") += 1;
                    }
                });
            }
        });
        assert_eq!(*COUNT.lock(64).expect("free"), 40_000);
    }

    #[test]
    fn a_thread_that_meets_itself_is_told() {
        let lock: Lock<(), Yield> = Lock::new(());
        let guard = lock.lock(7).expect("free");
        assert!(matches!(lock.lock(7), Err(Reentered)));
        drop(guard);
        assert!(lock.lock(7).is_ok());
    }

    #[test]
    fn a_thread_that_meets_itself_between_two_stores_is_told() {
        let lock: Lock<(), Yield> = Lock::new(());
        // As a signal finds it right behind the exchange of `lock`, or before that of `unlock`.
        core::mem::forget(lock.lock(7 << 6).expect("free"));
        lock.holder.store(0, Ordering::Relaxed);
        assert!(matches!(lock.lock(7 << 6), Err(Reentered)));
        assert!(lock.try_lock(7 << 6).is_none());
        // SAFETY: this thread took it and forgot the guard.
        unsafe { lock.force_unlock() };
        assert!(lock.lock(7 << 6).is_ok());
    }

    #[test]
    fn trying_does_not_wait() {
        let lock: Lock<u8, Yield> = Lock::new(3);
        let guard = lock.try_lock(7).expect("free");
        assert!(lock.is_held() && lock.try_lock(8).is_none());
        assert!(lock.is_held_by(7) && !lock.is_held_by(8));
        drop(guard);
        assert_eq!(lock.try_lock(8).as_deref(), Some(&3));
        assert!(!lock.is_held() && !lock.is_held_by(7));
    }
}

#[cfg(all(test, loom))]
mod model {
    extern crate std;

    use std::vec::Vec;

    use loom::sync::Arc;

    use super::{Lock, Wait};
    use crate::atomic::{AtomicU32, Ordering};

    /// Freed by a plain store. The model has no clock that would wake a sleeper, so nobody sleeps.
    struct Losable;

    impl Wait for Losable {
        const IS_WAKE_LOSABLE: bool = true;

        fn wait(_word: &AtomicU32, _value: u32) {
            unreachable!("only tried");
        }
        fn wake_one(_word: &AtomicU32) {}
    }

    /// Sleeps until somebody wakes it, for ever if nobody wakes it: loom then reports that.
    struct Sleep;

    impl Wait for Sleep {
        fn wait(word: &AtomicU32, value: u32) {
            let mut count = WAKES.0.lock().unwrap();
            if word.load(Ordering::Relaxed) != value {
                return;
            }
            let before = *count;
            while *count == before {
                count = WAKES.1.wait(count).unwrap();
            }
        }
        fn wake_one(_word: &AtomicU32) {
            *WAKES.0.lock().unwrap() += 1;
            WAKES.1.notify_all();
        }
    }

    loom::lazy_static! {
        static ref WAKES: (loom::sync::Mutex<u32>, loom::sync::Condvar) =
            (loom::sync::Mutex::new(0), loom::sync::Condvar::new());
    }

    /// Two that lock and one that tries; they sleep until they are woken, and nobody does for
    /// ever. At most three preemptions: ten seconds.
    #[test]
    fn nobody_sleeps_for_ever() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let lock = Arc::new(Lock::<usize, Sleep>::new(0));
            let threads: Vec<_> = (1..=2)
                .map(|thread| {
                    let lock = Arc::clone(&lock);
                    loom::thread::spawn(move || *lock.lock(thread << 6).unwrap() += 1)
                })
                .collect();
            if let Some(mut count) = lock.try_lock(3 << 6) {
                *count += 10;
            }
            for thread in threads {
                thread.join().unwrap();
            }
            let count = *lock.lock(3 << 6).unwrap();
            assert!(count == 2 || count == 12);
        });
    }

    /// Three threads that try a lock that is freed by a plain store, as an owner's heap's is: what
    /// those did that got in is seen by who comes next.
    #[test]
    fn no_increment_is_lost_when_freed_by_a_plain_store() {
        loom::model(|| {
            let lock = Arc::new(Lock::<usize, Losable>::new(0));
            let increment = |lock: &Lock<usize, Losable>, me: usize| {
                lock.try_lock(me << 6).map_or(0, |mut count| {
                    *count += 1;
                    1
                })
            };
            let threads: Vec<_> = (1..=2)
                .map(|me| {
                    let lock = Arc::clone(&lock);
                    loom::thread::spawn(move || increment(&lock, me) + increment(&lock, me))
                })
                .collect();
            let mut done = increment(&lock, 3);
            done += threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>();
            assert_eq!(*lock.try_lock(3 << 6).expect("free"), done);
        });
    }
}

//! Signals held back from the calling thread for as long as it must not be interrupted.

use core::marker::PhantomData;

use crate::syscall::syscall6;

/// The signal that cannot be blocked (`SIGKILL`), so its bit is in no thread's mask.
const UNBLOCKABLE: u64 = 1 << (libc::SIGKILL - 1);

/// Signals blocked in the calling thread; dropping it restores what was blocked before.
#[derive(Debug)]
pub struct SignalsHeld {
    before: u64,
    /// The mask is the thread's own.
    _of_this_thread: PhantomData<*const ()>,
}

impl SignalsHeld {
    /// Holds back all of them. Two system calls in all.
    #[must_use = "dropping it lets the signals through"]
    pub fn all() -> Self {
        Self::holding(!0)
    }

    /// Holds back all but those that libc keeps for itself, from 32 up to the first real-time
    /// signal that programs may use: who calls `setuid` waits until each thread has handled one of
    /// them. Two system calls in all.
    #[must_use = "dropping it lets the signals through"]
    pub fn of_the_program() -> Self {
        /// The first real-time signal of the kernel's.
        const FIRST_OF_LIBC: u32 = 32;
        let first_of_program = u32::try_from(libc::SIGRTMIN()).unwrap_or(FIRST_OF_LIBC);
        // Signal n is bit n - 1.
        let mask = (FIRST_OF_LIBC..first_of_program.min(64))
            .fold(!0, |mask, signal| mask & !(1 << (signal - 1)));
        Self::holding(mask)
    }

    fn holding(mask: u64) -> Self {
        Self { before: exchange(mask), _of_this_thread: PhantomData }
    }

    /// Keeps holding them, until [`SignalsHeld::from_raw`]. Not zero.
    pub fn into_raw(self) -> u64 {
        let before = self.before;
        core::mem::forget(self);
        before | UNBLOCKABLE
    }

    /// The signals held by what `raw` was made of, by this thread or the parent of its fork; none
    /// when that is zero.
    pub fn from_raw(raw: u64) -> Option<Self> {
        (raw != 0).then_some(Self { before: raw & !UNBLOCKABLE, _of_this_thread: PhantomData })
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        exchange(self.before);
    }
}

/// Sets the calling thread's mask of blocked signals; returns the old one.
fn exchange(mask: u64) -> u64 {
    let mut old = 0u64;
    let new = (&raw const mask).expose_provenance();
    let place = (&raw mut old).expose_provenance();
    let args = [libc::SIG_SETMASK as usize, new, place, size_of::<u64>(), 0, 0];
    // SAFETY: the kernel reads the one set and writes the other.
    let _ = unsafe { syscall6(libc::SYS_rt_sigprocmask, args) };
    old
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::SignalsHeld;
    use crate::signals::{SignalAction, set_signal_action, signal_thread};

    static CALLS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count(_signal: i32) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn a_held_signal_comes_when_the_last_is_dropped() {
        let action = SignalAction { handler: count as *const () as usize, flags: 0, mask: 0 };
        // SAFETY: a handler that may run at any time, for a signal that no other test uses.
        let old = unsafe { set_signal_action(libc::SIGWINCH, action) }.expect("set");
        let outer = SignalsHeld::of_the_program();
        let inner = SignalsHeld::all();
        signal_thread(crate::thread_id(), libc::SIGWINCH).expect("sent");
        let raw = inner.into_raw();
        drop(SignalsHeld::from_raw(raw).expect("not zero"));
        assert_eq!(CALLS.load(Ordering::Relaxed), 0);
        let raw = outer.into_raw();
        assert_eq!(CALLS.load(Ordering::Relaxed), 0);
        drop(SignalsHeld::from_raw(raw).expect("not zero"));
        assert_eq!(CALLS.load(Ordering::Relaxed), 1);
        assert!(SignalsHeld::from_raw(0).is_none());
        // SAFETY: as it was.
        unsafe { set_signal_action(libc::SIGWINCH, old) }.expect("set back");
    }
}

//! Stopping the other threads, to see their registers and how deep their stacks are.

use core::ffi::c_void;

use heapwright_os::{
    REGISTER_COUNT, SignalAction, futex_wait, futex_wake, interrupted, monotonic_ns,
    set_signal_action, signal_thread, thread_id, thread_ids, yield_now,
};
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Threads that can be stopped.
const THREAD_COUNT_MAX: usize = 1024;
/// How long they may take.
const PATIENCE_NS: u64 = 500_000_000;
/// A signal that programs leave alone: the last but one of the real-time ones.
const STOP_SIGNAL: i32 = 63;

/// What a stopped thread left.
struct Place {
    sp: AtomicUsize,
    registers: [AtomicUsize; REGISTER_COUNT],
}

static PLACES: [Place; THREAD_COUNT_MAX] = [const {
    Place { sp: AtomicUsize::new(0), registers: [const { AtomicUsize::new(0) }; REGISTER_COUNT] }
}; THREAD_COUNT_MAX];
/// Places given out, and filled.
static CLAIMED: AtomicUsize = AtomicUsize::new(0);
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
/// 1 while threads are to stand still.
static HELD: AtomicU32 = AtomicU32::new(0);

/// The other threads, standing still.
pub(crate) struct Stopped {
    count: usize,
}

extern "C" fn stand_still(_signal: i32, info: *const c_void, context: *const c_void) {
    // SAFETY: the kernel's own arguments.
    let state = unsafe { interrupted(info, context) };
    let place = CLAIMED.fetch_add(1, Ordering::Relaxed);
    if let Some(place) = PLACES.get(place) {
        place.sp.store(state.sp, Ordering::Relaxed);
        for (to, from) in place.registers.iter().zip(state.registers) {
            to.store(from, Ordering::Relaxed);
        }
    }
    // Release: pairs with the Acquire in `stop`; publishes the place.
    ARRIVED.fetch_add(1, Ordering::Release);
    while HELD.load(Ordering::Acquire) != 0 {
        let _ = futex_wait(&HELD, 1, None);
    }
}

impl Stopped {
    /// Stops the other threads; none when one of them does not answer in time.
    pub(crate) fn stop() -> Option<Self> {
        let mut ids = [0; THREAD_COUNT_MAX];
        let count = thread_ids(&mut ids);
        if count <= 1 {
            return (count == 1).then_some(Self { count: 0 });
        }
        let flags = SignalAction::THREE_ARGUMENTS | SignalAction::RESTART;
        let handler = stand_still as *const () as usize;
        // SAFETY: our handler has three arguments, and does only what a handler may.
        unsafe { set_signal_action(STOP_SIGNAL, SignalAction { handler, flags, mask: !0 }) }
            .ok()?;
        HELD.store(1, Ordering::Release);
        let me = thread_id();
        let others = ids.get(..count)?.iter().filter(|id| **id != me);
        let sent = others.filter(|id| signal_thread(**id, STOP_SIGNAL).is_ok()).count();
        let until = monotonic_ns() + PATIENCE_NS;
        // Acquire: pairs with the Release in `stand_still`.
        while ARRIVED.load(Ordering::Acquire) < sent {
            if monotonic_ns() > until {
                Self { count: 0 }.go_on();
                return None;
            }
            yield_now();
        }
        Some(Self { count: sent })
    }

    /// Lets them go on.
    pub(crate) fn go_on(self) {
        HELD.store(0, Ordering::Release);
        futex_wake(&HELD, u32::MAX >> 1);
    }

    /// Where their stacks end.
    pub(crate) fn stack_pointers(&self) -> impl Iterator<Item = usize> {
        PLACES[..self.count].iter().map(|place| place.sp.load(Ordering::Relaxed))
    }

    /// Their registers.
    pub(crate) fn words(&self) -> impl Iterator<Item = usize> {
        PLACES[..self.count]
            .iter()
            .flat_map(|place| &place.registers)
            .map(|word| word.load(Ordering::Relaxed))
    }
}

//! The sampling heap profile of this process: which stacks allocate, and which of their blocks
//! live.

use heapwright_malloc::{ProfilerHooks, SampleRate, SampledBlock, set_profiler};
use heapwright_os::{
    Futex, Protection, at_fork, cycle_counter, monotonic_ns, process_id, reserve, thread_pointer,
};
use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};
use heapwright_sync::{Guard, Lock};
use heapwright_unwind::{Memo, Registers};

use crate::live_blocks::{LiveBlock, LiveBlocks};
use crate::sites::Sites;
use crate::stacks::{FRAMES_MAX, Stacks};

/// Mean bytes between two samples unless another rate is asked for.
pub const DEFAULT_RATE_BYTES: u32 = 512 * 1024;

/// All samples.
pub(crate) struct Profile {
    pub(crate) stacks: Stacks,
    pub(crate) sites: Sites,
    pub(crate) live: LiveBlocks,
    /// Stack walker's memory, made at the first sample.
    memo: *mut Memo,
    /// Thread that the memo's last stack was of.
    memo_thread: usize,
    /// Samples that could not be kept.
    pub(crate) lost: u64,
    /// When sampling began, on the monotonic clock.
    pub(crate) started_ns: u64,
}

// SAFETY: the memo is this structure's own mapping.
unsafe impl Send for Profile {}

static PROFILE: Lock<Profile, Futex> = Lock::new(Profile {
    stacks: Stacks::new(),
    sites: Sites::new(),
    live: LiveBlocks::new(),
    memo: core::ptr::null_mut(),
    memo_thread: 0,
    lost: 0,
    started_ns: 0,
});

static RATE_BYTES: AtomicU32 = AtomicU32::new(0);
/// Figures that the page shows without taking the lock.
pub(crate) static TAKEN: AtomicU64 = AtomicU64::new(0);
pub(crate) static FREED: AtomicU64 = AtomicU64::new(0);
pub(crate) static LOST: AtomicU64 = AtomicU64::new(0);
pub(crate) static TABLE_BYTES: AtomicU64 = AtomicU64::new(0);
/// 1 when forks keep the lock.
static FORKS: AtomicU32 = AtomicU32::new(0);

static HOOKS: ProfilerHooks = ProfilerHooks { allocated, freed };

/// Samples one block in `rate_bytes` bytes from now on (0: [`DEFAULT_RATE_BYTES`]); what was
/// sampled before is kept. Whether it could be set up.
pub fn start_profile(rate_bytes: u32) -> bool {
    let rate_bytes = if rate_bytes == 0 { DEFAULT_RATE_BYTES } else { rate_bytes };
    if FORKS.swap(1, Ordering::Relaxed) == 0 {
        // A refusal costs children of threaded programs their profile only.
        let _ = at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
        heapwright_unwind::refresh_modules();
    }
    if let Some(mut profile) = lock()
        && profile.started_ns == 0
    {
        profile.started_ns = monotonic_ns();
    }
    RATE_BYTES.store(rate_bytes, Ordering::Relaxed);
    let seed = cycle_counter() ^ u64::from(process_id()) << 32;
    set_profiler(&HOOKS, SampleRate::Bytes(rate_bytes), seed)
}

/// Samples no more; what was sampled stays known until it is freed.
pub fn stop_profile() {
    RATE_BYTES.store(0, Ordering::Relaxed);
    set_profiler(&HOOKS, SampleRate::Off, 0);
}

/// Mean bytes between samples; 0 when it is off.
pub(crate) fn rate_bytes() -> u32 {
    RATE_BYTES.load(Ordering::Relaxed)
}

/// The samples, locked; none when this thread holds them already (a sample inside a sample, or a
/// signal handler).
pub(crate) fn lock() -> Option<Guard<'static, Profile, Futex>> {
    PROFILE.lock(thread_pointer()).ok()
}

#[inline(never)]
fn allocated(sample: &SampledBlock) -> bool {
    let registers = Registers::current();
    let Some(mut profile) = lock() else { return false };
    let is_kept = profile.enter(sample, registers);
    if is_kept {
        TAKEN.fetch_add(1, Ordering::Relaxed);
    } else {
        profile.lost += 1;
        LOST.fetch_add(1, Ordering::Relaxed);
    }
    let bytes = profile.stacks.bytes() + profile.sites.bytes() + profile.live.bytes();
    TABLE_BYTES.store((bytes + size_of::<Memo>()) as u64, Ordering::Relaxed);
    is_kept
}

fn freed(block: *mut u8) -> *mut u8 {
    let Some(mut profile) = lock() else { return core::ptr::null_mut() };
    let Some(found) = profile.live.remove(block.addr()) else { return core::ptr::null_mut() };
    FREED.fetch_add(1, Ordering::Relaxed);
    if let Some(site) = profile.sites.get_mut(found.site) {
        site.freed += 1;
    }
    if found.is_held { found.place } else { core::ptr::null_mut() }
}

impl Profile {
    /// Enters a sample; false when there is no memory for it.
    fn enter(&mut self, sample: &SampledBlock, registers: Registers) -> bool {
        let mut frames = [0; FRAMES_MAX];
        let count = self.walk(registers, &mut frames);
        let Some(stack) = self.stacks.number_of(&frames[..count]) else { return false };
        let usable_bytes = sample.usable_bytes as u64;
        let rate = u64::from(rate_bytes());
        let Some(number) = self.sites.number_of(stack, usable_bytes, rate) else { return false };
        let block = LiveBlock {
            address: sample.block.addr(),
            place: sample.place,
            is_held: sample.is_held,
            site: number,
            born_ns: monotonic_ns(),
        };
        if !self.live.insert(block) {
            return false;
        }
        if let Some(site) = self.sites.get_mut(number) {
            site.taken += 1;
            site.requested_bytes += sample.requested_bytes as u64;
        }
        true
    }

    /// The return addresses of the stack at `registers`, innermost first; how many.
    fn walk(&mut self, registers: Registers, frames: &mut [usize; FRAMES_MAX]) -> usize {
        if self.memo.is_null() {
            let Ok(fresh) = reserve(size_of::<Memo>(), Protection::ReadWrite) else { return 0 };
            self.memo = fresh.as_ptr().cast();
        }
        // SAFETY: our own mapping, large and aligned enough; zeroed bytes are a valid memo.
        let memo = unsafe { &mut *self.memo };
        let me = thread_pointer();
        if core::mem::replace(&mut self.memo_thread, me) != me {
            memo.change_thread();
        }
        // SAFETY: registers of a frame of this thread that is running still.
        unsafe { memo.capture(registers) };
        let innermost_first = memo.frames().iter().rev();
        let mut count = 0;
        for (frame, place) in innermost_first.zip(frames.iter_mut()) {
            *place = frame.return_address();
            count += 1;
        }
        count
    }
}

heapwright_os::forks!("heapwright_watch_inner_forks_0_1", "heapwright_watch_signals_0_1");

unsafe extern "C" fn before_fork() {
    // A signal handler has interrupted a sample, or another fork.
    if forks::begins(PROFILE.is_reentered_by(thread_pointer())) {
        return;
    }
    if let Some(profile) = lock() {
        // Kept over the fork; freed below, by the same thread, in both processes.
        core::mem::forget(profile);
    }
}

unsafe extern "C" fn after_fork_in_parent() {
    let Some(_signals) = forks::ends() else { return };
    // SAFETY: taken by this thread in `before_fork`, the guard forgotten.
    unsafe { PROFILE.force_unlock() };
}

unsafe extern "C" fn after_fork_in_child() {
    let Some(_signals) = forks::ends() else { return };
    // SAFETY: the child has only this thread, which is not in a capture.
    unsafe { heapwright_unwind::reset_after_fork() };
    // SAFETY: as in the parent.
    unsafe { PROFILE.force_unlock() };
    if let Some(mut profile) = lock()
        && !profile.memo.is_null()
    {
        // The stack is another thread's now, if anybody's.
        profile.memo_thread = 0;
    }
}

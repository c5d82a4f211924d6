//! Samples of the small and large blocks that a program asks for, for a profiler and for guarding
//! a few of them: without an instruction on the hot paths, and nothing but a test in slow ones
//! while it is off.
//!
//! A thread counts down, class by class, the blocks until the next sample (`sampled_lists`). A
//! refill hands out a list that ends before the sample, so the sample itself always comes the
//! slow way, with the size that was asked for at hand. It is taken here, when all locks are free
//! again:
//! - for the **profiler**, the block moves into a zone of the samples' own, so that its free comes
//!   the slow way as well, alone among its class's. The place that it leaves stays taken while it
//!   lives, so that other blocks lie and pages are pinned as they would be without a profiler;
//!   above [`HELD_BYTES_MAX`] that would be dear, and the place is only noted.
//! - the **guard** may give another block instead, one outside the region.
//!
//! Large blocks, whose every step is a slow path, stay in place and carry a mark.
//!
//! # Not here
//! Blocks of zones and blocks with a mapping of their own are never sampled. Stacks, sums and
//! files are the hooks' business.

use core::alloc::Layout;
use core::ffi::c_void;

use heapwright_core::exponential::exponential_of;
use heapwright_core::size_class::class_bytes;
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::block::Block;
use crate::descriptor::Descriptor;
use crate::free::free;
use crate::region::descriptor_of;
use crate::sampled_lists::{DUE_GUARD, DUE_PROFILE};
use crate::zone::Zone;
use crate::zone_place::ZonePlace;

/// The place of a sampled block up to this size stays taken while the block lives: at one sample
/// in 512 KiB that is at most 0.8 % of such blocks' bytes.
pub const HELD_BYTES_MAX: usize = 4096;

/// How often a sample is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleRate {
    /// Never.
    Off,
    /// A block of `b` usable bytes with probability 1 − exp(−b / this); at least 1.
    Bytes(u32),
    /// Each block with probability 1 / this; at least 1.
    Blocks(u32),
}

/// A block that was sampled for the profiler.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SampledBlock {
    /// Where it is; also what [`ProfilerHooks::freed`] is told.
    pub block: *mut u8,
    /// Where it would be without the profiler.
    pub place: *mut u8,
    /// Whether `place` stays taken until the block is freed.
    pub is_held: bool,
    /// What the program asked for.
    pub requested_bytes: usize,
    /// What it may touch; this decides the probability.
    pub usable_bytes: usize,
}

/// What a profiler is told. Both hooks are called without a lock of the allocator's, on the
/// thread that allocates or frees. One that allocates has to cope with being called again from
/// inside itself.
#[derive(Debug)]
pub struct ProfilerHooks {
    /// A block is about to be handed out; false declines it, and it is an ordinary one then.
    pub allocated: fn(&SampledBlock) -> bool,
    /// A block that `allocated` accepted is about to be freed; the result is its `place` when it
    /// was held, else null.
    pub freed: fn(*mut u8) -> *mut u8,
}

/// What may take the place of a small block. Called without a lock of the allocator's.
#[derive(Debug)]
pub struct GuardHooks {
    /// A block outside the allocator's memory for a request of so many bytes at such an
    /// alignment; null leaves it with an ordinary one.
    pub replace: fn(requested_bytes: usize, align_bytes: usize) -> *mut u8,
    /// Frees a block outside the allocator's memory; whether it was the guard's. The number is the
    /// one given to [`free_by`](crate::free_by), 0 for `free` and `realloc`.
    pub free: fn(*mut u8, u8) -> bool,
    /// Usable bytes of a block outside the allocator's memory, if it is the guard's.
    pub usable_bytes: fn(*mut u8) -> Option<usize>,
}

static PROFILER: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static GUARD: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
/// Rates as [`encode`] gives them; 0 is off.
static RATES: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// Changes when a rate does; 0 until the first time.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// Where randomness starts; a counter for what threads share.
static RANDOM: AtomicU64 = AtomicU64::new(0);
/// Where the samples' zone lives.
static PLACE: AtomicPtr<ZonePlace> = AtomicPtr::new(core::ptr::null_mut());
static ZONE_ID: AtomicU64 = AtomicU64::new(0);

const BLOCKS_FLAG: u64 = 1 << 32;
/// A large block's `Descriptor::place` when it is a sample.
const LARGE_SAMPLED: u8 = 0x80;
/// Makes consecutive counters far apart; odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

fn encode(rate: SampleRate) -> u64 {
    match rate {
        SampleRate::Off => 0,
        SampleRate::Bytes(bytes) => u64::from(bytes.max(1)),
        SampleRate::Blocks(count) => BLOCKS_FLAG | u64::from(count.max(1)),
    }
}

/// The rate of channel `channel` of `sampled_lists`.
pub(crate) fn rate(channel: usize) -> SampleRate {
    let number = RATES[channel].load(Ordering::Relaxed);
    match number {
        0 => SampleRate::Off,
        _ if number & BLOCKS_FLAG == 0 => SampleRate::Bytes(number as u32),
        _ => SampleRate::Blocks(number as u32),
    }
}

/// Changes when a rate does; 0 when nothing was ever sampled.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// A number for a thread's own randomness.
pub(crate) fn fresh_seed() -> u64 {
    RANDOM.fetch_add(1, Ordering::Relaxed).wrapping_mul(SPREAD).rotate_left(17)
}

/// Samples blocks for a profiler from now on, or with [`SampleRate::Off`] no more; frees of
/// blocks sampled so far are told still. What threads have in their free lists is handed out
/// first. Whether it could be set up (one zone's metadata).
///
/// `seed` decides which blocks: the same program with the same seed, on one thread, gives the
/// same samples.
pub fn set_profiler(hooks: &'static ProfilerHooks, rate: SampleRate, seed: u64) -> bool {
    if rate != SampleRate::Off && PLACE.load(Ordering::Acquire).is_null() {
        let Some(zone) = Zone::create() else { return false };
        ZONE_ID.store(zone.id(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `samples_zone`. Of two that set it up at once one
        // wastes its zone, which has no blocks.
        PLACE.store(core::ptr::from_ref(zone.place()).cast_mut(), Ordering::Release);
    }
    // Release: pairs with the Acquire in `profiler`.
    PROFILER.store(core::ptr::from_ref(hooks).cast_mut().cast(), Ordering::Release);
    set_rate(0, rate, seed);
    true
}

/// Offers small blocks to a guard from now on, or with [`SampleRate::Off`] no more; `seed` as for
/// [`set_profiler`].
pub fn set_guard(hooks: &'static GuardHooks, rate: SampleRate, seed: u64) {
    // Release: pairs with the Acquire in `guard`.
    GUARD.store(core::ptr::from_ref(hooks).cast_mut().cast(), Ordering::Release);
    set_rate(1, rate, seed);
}

fn set_rate(channel: usize, rate: SampleRate, seed: u64) {
    RANDOM.store(seed, Ordering::Relaxed);
    RATES[channel].store(encode(rate), Ordering::Relaxed);
    // Never 0 again, however often it changes.
    let next = GENERATION.load(Ordering::Relaxed).wrapping_add(1).max(1);
    GENERATION.store(next, Ordering::Release);
}

fn profiler() -> Option<&'static ProfilerHooks> {
    let hooks = PROFILER.load(Ordering::Acquire).cast::<ProfilerHooks>();
    // SAFETY: null, or stored from a static reference by `set_profiler`.
    unsafe { hooks.as_ref() }
}

/// The guard's hooks, if it was ever set.
#[inline]
pub(crate) fn guard() -> Option<&'static GuardHooks> {
    let hooks = GUARD.load(Ordering::Acquire).cast::<GuardHooks>();
    // SAFETY: null, or stored from a static reference by `set_guard`.
    unsafe { hooks.as_ref() }
}

fn samples_zone() -> Option<Zone> {
    // Acquire: pairs with the Release in `set_profiler`; then the number is there.
    // SAFETY: null, or stored from a static reference; places live for ever.
    let place = unsafe { PLACE.load(Ordering::Acquire).as_ref() }?;
    Some(Zone::named(place, ZONE_ID.load(Ordering::Relaxed)))
}

/// What the program gets instead of `block`, a fresh one of `class_index` that is due for `due`.
/// No lock is held.
#[cold]
#[inline(never)]
pub(crate) fn take(
    due: u8,
    block: *mut u8,
    class_index: usize,
    requested_bytes: usize,
    align_bytes: usize,
) -> *mut u8 {
    if due & DUE_GUARD != 0
        && let Some(guard) = guard()
    {
        let other = (guard.replace)(requested_bytes, align_bytes);
        if !other.is_null() {
            // SAFETY: just allocated; nobody has seen it.
            unsafe { free(block) };
            return other;
        }
    }
    if due & DUE_PROFILE == 0 {
        return block;
    }
    let (Some(profiler), Some(zone)) = (profiler(), samples_zone()) else { return block };
    let usable_bytes = class_bytes(class_index);
    // As strictly aligned as the class's slots have to be for this request.
    let layout = Layout::from_size_align(usable_bytes, align_bytes);
    let Some(moved) = layout.ok().and_then(|layout| zone.alloc(layout).ok()) else { return block };
    let moved = moved.as_ptr();
    let is_held = usable_bytes <= HELD_BYTES_MAX;
    let sample =
        SampledBlock { block: moved, place: block, is_held, requested_bytes, usable_bytes };
    if !(profiler.allocated)(&sample) {
        if let Some(head) = descriptor_of(moved) {
            crate::zone::give_back(head, moved.cast());
        }
        return block;
    }
    if !is_held {
        // SAFETY: just allocated; nobody has seen it.
        unsafe { free(block) };
    }
    moved
}

/// Whether `place` is where samples live.
#[inline]
pub(crate) fn is_samples(place: &ZonePlace) -> bool {
    core::ptr::eq(PLACE.load(Ordering::Relaxed), place)
}

/// A sample is about to be freed; the place that was held for it, or null.
#[cold]
pub(crate) fn freed(block: Block) -> *mut u8 {
    profiler().map_or(core::ptr::null_mut(), |hooks| (hooks.freed)(block.cast()))
}

/// Maybe samples a large block that was just allocated; no lock is held.
#[inline]
pub(crate) fn large(block: *mut u8, requested_bytes: usize) {
    if generation() != 0 && !block.is_null() {
        large_slow(block, requested_bytes);
    }
}

#[cold]
fn large_slow(block: *mut u8, requested_bytes: usize) {
    let Some(head) = descriptor_of(block) else { return };
    let usable_bytes = head.extra.load(Ordering::Relaxed) as usize;
    let state = RANDOM.fetch_add(1, Ordering::Relaxed).wrapping_mul(SPREAD);
    let distance = exponential_of(state);
    let is_taken = match rate(0) {
        SampleRate::Off => false,
        SampleRate::Bytes(bytes) => distance * f64::from(bytes) < usable_bytes as f64,
        SampleRate::Blocks(count) => distance * f64::from(count) < 1.0,
    };
    let sample =
        SampledBlock { block, place: block, is_held: false, requested_bytes, usable_bytes };
    if is_taken && profiler().is_some_and(|hooks| (hooks.allocated)(&sample)) {
        head.place.store(LARGE_SAMPLED, Ordering::Relaxed);
    }
}

/// The large block at `block` is about to be freed, resized or moved.
#[inline]
pub(crate) fn large_ends(head: &Descriptor, block: *mut u8) {
    if head.place.load(Ordering::Relaxed) == LARGE_SAMPLED {
        head.place.store(0, Ordering::Relaxed);
        freed(block.cast());
    }
}

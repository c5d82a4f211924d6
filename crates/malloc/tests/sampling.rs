//! Samples: their sums are right on average, and nothing else changes.

use std::alloc::Layout;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use heapwright_malloc::{
    GuardHooks, ProfilerHooks, SampleRate, SampledBlock, alloc, alloc_aligned, alloc_zeroed, free,
    realloc, set_guard, set_profiler, trim, usable_bytes,
};

/// Sampling is the process's; the tests of this file take turns.
static ALONE: Mutex<()> = Mutex::new(());

/// A live sample: its held place or 0, requested and usable bytes.
type Live = HashMap<usize, (usize, usize, usize)>;
static LIVE: Mutex<Option<Live>> = Mutex::new(None);
/// Sum over all samples of 1 / probability, and of its square's excess: estimate and variance of
/// the number of blocks.
static SUMS: Mutex<[f64; 3]> = Mutex::new([0.0; 3]);
const RATE_BYTES: u32 = 16 * 1024;

fn probability(usable_bytes: usize) -> f64 {
    -(-(usable_bytes as f64) / f64::from(RATE_BYTES)).exp_m1()
}

fn note(sample: &SampledBlock) -> bool {
    let held = if sample.is_held { sample.place.addr() } else { 0 };
    let entry = (held, sample.requested_bytes, sample.usable_bytes);
    let mut live = LIVE.lock().unwrap();
    let before = live.get_or_insert_with(HashMap::new).insert(sample.block.addr(), entry);
    assert_eq!(before, None, "a live block was sampled again");
    assert!(sample.requested_bytes <= sample.usable_bytes);
    let weight = 1.0 / probability(sample.usable_bytes);
    let bytes = sample.usable_bytes as f64;
    let mut sums = SUMS.lock().unwrap();
    sums[0] += weight;
    sums[1] += weight * bytes;
    sums[2] += weight * (weight - 1.0) * bytes * bytes;
    true
}

fn forget(block: *mut u8) -> *mut u8 {
    let mut live = LIVE.lock().unwrap();
    let (held, _, _) = live.as_mut().and_then(|live| live.remove(&block.addr())).expect("sampled");
    std::ptr::with_exposed_provenance_mut(held)
}

static HOOKS: ProfilerHooks = ProfilerHooks { allocated: note, freed: forget };

fn live_count() -> usize {
    LIVE.lock().unwrap().as_ref().map_or(0, HashMap::len)
}

fn sizes(seed: u64) -> impl Iterator<Item = usize> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let log2 = 4 + (state >> 60) % 13;
        (1usize << log2) + (state >> 33) as usize % (1 << log2)
    })
}

#[test]
fn estimates_agree_with_exact_sums_over_many_seeds() {
    let _alone = ALONE.lock().unwrap();
    let mut errors = [0.0; 2];
    let mut variance = 0.0;
    for seed in 0..60u64 {
        // No lists are left from before, which would go unsampled.
        trim();
        *SUMS.lock().unwrap() = [0.0; 3];
        assert!(set_profiler(&HOOKS, SampleRate::Bytes(RATE_BYTES), seed));
        let mut exact = [0.0; 2];
        let mut kept = Vec::new();
        for (step, bytes) in sizes(seed).take(3000).enumerate() {
            let block = alloc(bytes);
            exact[0] += 1.0;
            // SAFETY: just allocated.
            exact[1] += unsafe { usable_bytes(block) } as f64;
            kept.push(block);
            if step % 3 != 0 {
                let freed = kept.swap_remove(step * 7 % kept.len());
                // SAFETY: live, and used no more.
                unsafe { free(freed) };
            }
        }
        set_profiler(&HOOKS, SampleRate::Off, seed);
        let sums = *SUMS.lock().unwrap();
        errors[0] += sums[0] - exact[0];
        errors[1] += (sums[1] - exact[1]) / exact[1];
        variance += sums[2] / (exact[1] * exact[1]);
        for block in kept {
            // SAFETY: live, and used no more.
            unsafe { free(block) };
        }
        assert_eq!(live_count(), 0, "a free of a sample was missed");
    }
    // The sum of the errors of sixty independent estimates, against its own deviation.
    let deviation = variance.sqrt();
    assert!(deviation < 0.6, "too few samples to say anything: {deviation}");
    assert!(errors[1].abs() < 4.0 * deviation, "biased: {} ± {deviation}", errors[1]);
}

#[test]
fn sampled_blocks_are_blocks_like_others() {
    let _alone = ALONE.lock().unwrap();
    trim();
    assert!(set_profiler(&HOOKS, SampleRate::Blocks(2), 5));
    let mut blocks: Vec<(*mut u8, usize, u8)> = Vec::new();
    for (step, bytes) in sizes(9).take(2000).enumerate() {
        let fill = step as u8;
        let block = match step % 3 {
            0 => alloc(bytes),
            1 => alloc_zeroed(bytes),
            _ => alloc_aligned(64, bytes),
        };
        assert!(!block.is_null());
        if step % 3 == 2 {
            assert!(block.addr().is_multiple_of(64));
        }
        // SAFETY: a fresh block of that size.
        unsafe { block.write_bytes(fill, bytes) };
        blocks.push((block, bytes, fill));
        if step % 5 == 0 {
            let (old, old_bytes, fill) = blocks.swap_remove(step * 3 % blocks.len());
            // SAFETY: a live block, its result used only.
            let block = unsafe { realloc(old, old_bytes * 2) };
            assert!(!block.is_null());
            blocks.push((block, old_bytes, fill));
        }
    }
    assert!(live_count() > 500, "half of all were to be sampled");
    let addresses: Vec<usize> = blocks.iter().map(|(block, ..)| block.addr()).collect();
    let held: Vec<usize> =
        LIVE.lock().unwrap().as_ref().unwrap().values().map(|(held, ..)| *held).collect();
    assert!(held.iter().any(|place| *place != 0));
    assert!(held.iter().all(|place| !addresses.contains(place)), "a held place was given away");
    // Half of them are freed by another thread.
    let sent: Vec<(usize, usize, u8)> = blocks
        .split_off(blocks.len() / 2)
        .into_iter()
        .map(|(block, bytes, fill)| (block.expose_provenance(), bytes, fill))
        .collect();
    let check_and_free = |block: *mut u8, bytes: usize, fill: u8| {
        // SAFETY: a live block of at least that size.
        let contents = unsafe { std::slice::from_raw_parts(block, bytes) };
        assert!(contents.iter().all(|byte| *byte == fill));
        // SAFETY: live, and used no more.
        unsafe { free(block) };
    };
    std::thread::spawn(move || {
        for (address, bytes, fill) in sent {
            check_and_free(std::ptr::with_exposed_provenance_mut(address), bytes, fill);
        }
    })
    .join()
    .unwrap();
    set_profiler(&HOOKS, SampleRate::Off, 0);
    for (block, bytes, fill) in blocks {
        check_and_free(block, bytes, fill);
    }
    assert_eq!(live_count(), 0);
}

#[test]
fn threads_sample_each_for_itself_and_leave_nothing() {
    let _alone = ALONE.lock().unwrap();
    assert!(set_profiler(&HOOKS, SampleRate::Bytes(4096), 11));
    for round in 0..20u64 {
        std::thread::spawn(move || {
            let blocks: Vec<*mut u8> = sizes(round).take(200).map(alloc).collect();
            assert!(live_count() > 0);
            for block in blocks {
                // SAFETY: live, and used no more.
                unsafe { free(block) };
            }
        })
        .join()
        .unwrap();
    }
    set_profiler(&HOOKS, SampleRate::Off, 0);
    assert_eq!(live_count(), 0);
}

static REPLACED: AtomicUsize = AtomicUsize::new(0);
const GUARDED: Layout = Layout::new::<[u64; 64]>();
static GUARDED_LIVE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn replace(requested_bytes: usize, align_bytes: usize) -> *mut u8 {
    if requested_bytes > GUARDED.size() || align_bytes > 16 {
        return std::ptr::null_mut();
    }
    REPLACED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the layout is not empty.
    let block = unsafe { std::alloc::alloc(GUARDED) };
    GUARDED_LIVE.lock().unwrap().push(block.addr());
    block
}

fn free_guarded(block: *mut u8, _taker: u8) -> bool {
    let mut live = GUARDED_LIVE.lock().unwrap();
    let Some(found) = live.iter().position(|address| *address == block.addr()) else {
        return false;
    };
    live.swap_remove(found);
    // SAFETY: made by `replace` with that layout.
    unsafe { std::alloc::dealloc(block, GUARDED) };
    true
}

fn guarded_bytes(block: *mut u8) -> Option<usize> {
    GUARDED_LIVE.lock().unwrap().contains(&block.addr()).then_some(GUARDED.size())
}

static GUARD: GuardHooks = GuardHooks { replace, free: free_guarded, usable_bytes: guarded_bytes };

#[test]
fn a_guard_may_give_other_blocks() {
    let _alone = ALONE.lock().unwrap();
    trim();
    set_guard(&GUARD, SampleRate::Blocks(16), 3);
    let mut blocks: Vec<*mut u8> = (0..1600).map(|step| alloc(16 + step % 200)).collect();
    set_guard(&GUARD, SampleRate::Off, 3);
    let replaced = REPLACED.load(Ordering::Relaxed);
    assert!((40..250).contains(&replaced), "{replaced} of 1600 at 1 in 16");
    let guarded = |block: &*mut u8| guarded_bytes(*block).is_some();
    assert_eq!(blocks.iter().filter(|block| guarded(block)).count(), replaced);
    for block in &mut blocks {
        if guarded(block) {
            // SAFETY: a live block, its result used only.
            assert_eq!(unsafe { usable_bytes(*block) }, GUARDED.size());
        }
        // SAFETY: as above.
        *block = unsafe { realloc(*block, 4000) };
        assert!(!guarded(block));
        // SAFETY: live, and used no more.
        unsafe { free(*block) };
    }
    assert!(GUARDED_LIVE.lock().unwrap().is_empty());
}

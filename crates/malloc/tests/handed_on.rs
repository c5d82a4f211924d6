//! What one thread has built and another uses up is then the other's: also the free slots, though
//! the maker sleeps. Otherwise they would wait for it, and the other thread would need as much
//! fresh memory again.

use std::collections::BTreeSet;
use std::thread;

use heapwright_malloc::{alloc, free};

const COUNT: usize = 20_000;
const BYTES: usize = 64;
/// A slice, on every processor: spans of small slots are one each.
const SLICE_BYTES: usize = if cfg!(target_arch = "x86_64") { 32 * 1024 } else { 64 * 1024 };

fn take(count: usize) -> Vec<usize> {
    (0..count)
        .map(|_| {
            let block = alloc(BYTES);
            assert!(!block.is_null());
            block.expose_provenance()
        })
        .collect()
}

fn give(blocks: &[usize]) {
    for &block in blocks {
        // SAFETY: live, and not used again.
        unsafe { free(std::ptr::with_exposed_provenance_mut(block)) };
    }
}

fn slices(blocks: &[usize]) -> BTreeSet<usize> {
    blocks.iter().map(|block| block / SLICE_BYTES).collect()
}

#[test]
fn who_uses_up_what_a_sleeping_thread_built_gets_its_slots() {
    let built = take(COUNT);
    let old = slices(&built);
    let (gone, kept): (Vec<_>, Vec<_>) = built.chunks(2).map(|pair| (pair[0], pair[1])).unzip();
    // This thread waits for that one, and enters no slow path meanwhile.
    let again = thread::spawn(move || {
        give(&gone);
        take(gone.len())
    })
    .join()
    .expect("no panic");
    let new = slices(&again).difference(&old).count();
    // The last span was not full, and has at most a span's slots for which another is needed.
    assert!(new <= 1, "{new} slices more for half of what was in {}", old.len());
    let distinct: BTreeSet<_> = again.iter().chain(&kept).collect();
    assert_eq!(distinct.len(), again.len() + kept.len(), "a block was handed out twice");
    give(&again);
    give(&kept);
    // Not a test of its own: what other threads leave behind would be taken for fresh memory.
    maker_uses_its_own_up();
}

/// Whoever built it takes it over again when it frees first.
fn maker_uses_its_own_up() {
    let built = take(COUNT);
    let old = slices(&built);
    give(&built[..COUNT / 2]);
    let again = take(COUNT / 2);
    assert!(slices(&again).difference(&old).count() <= 1);
    give(&again);
    give(&built[COUNT / 2..]);
}

//! What one thread has built and another uses up is then the other's: also the free slots, though
//! the maker sleeps. Otherwise they would wait for it, and the other thread would need as much
//! fresh memory again.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
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
    // No tests of their own: what other threads leave behind would be taken for fresh memory.
    maker_uses_its_own_up();
    maker_is_not_robbed();
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

/// A thread that frees a block here and there does not get the rest.
fn maker_is_not_robbed() {
    let built = take(COUNT);
    let old = slices(&built);
    let mut rest = Vec::new();
    let mut seen = BTreeSet::new();
    let (to_other, ones) = channel::<Vec<usize>>();
    let (to_maker, answers) = channel();
    let other = thread::spawn(move || {
        // A thread without a heap takes nothing over.
        give(&take(1));
        for blocks in ones {
            give(&blocks);
            to_maker.send(()).expect("the maker waits");
        }
    });
    let mut ones = Vec::new();
    for block in built {
        let is_first = seen.insert(block / SLICE_BYTES);
        if is_first { &mut ones } else { &mut rest }.push(block);
    }
    to_other.send(ones).expect("the other one waits");
    answers.recv().expect("it answers");
    // It lives on, and enters no slow path meanwhile.
    let half = rest.len() / 2;
    give(&rest[..half]);
    let again = take(half);
    let new = slices(&again).difference(&old).count();
    assert!(new <= 1, "{new} slices more for half of what was in {}", old.len());
    drop(to_other);
    other.join().expect("no panic");
    give(&again);
    give(&rest[half..]);
}

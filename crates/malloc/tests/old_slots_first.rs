//! Slots that were freed are used again before pages that were never touched, in whichever of a
//! class's spans they lie. One test, since other threads' blocks would be in the way.

use std::collections::BTreeSet;

const BYTES: usize = 208;
/// Two spans of the class and a few slots of a third one.
const FIRST_COUNT: usize = 2 * 156 + 5;
const AGAIN_COUNT: usize = 140;

#[test]
fn freed_slots_are_used_before_fresh_pages() {
    let blocks: Vec<*mut u8> = (0..FIRST_COUNT).map(|_| heapwright_malloc::alloc(BYTES)).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    let mut freed = BTreeSet::new();
    for &block in blocks[..2 * 156].iter().step_by(2) {
        // SAFETY: allocated above, freed once.
        unsafe { heapwright_malloc::free(block) };
        freed.insert(block.addr());
    }
    let again: Vec<*mut u8> = (0..AGAIN_COUNT).map(|_| heapwright_malloc::alloc(BYTES)).collect();
    let fresh = again.iter().filter(|block| !freed.contains(&block.addr())).count();
    // What the thread's list and the page begun hold.
    assert!(fresh <= 60, "{fresh} of {AGAIN_COUNT} on new memory, {} slots free", freed.len());
    let kept = blocks.iter().skip(1).step_by(2).chain(blocks[2 * 156..].iter().step_by(2));
    for &block in kept.chain(&again) {
        // SAFETY: allocated above; those freed before are odd ones out, and each is freed once.
        unsafe { heapwright_malloc::free(block) };
    }
}

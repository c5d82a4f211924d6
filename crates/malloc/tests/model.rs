//! Random programs of operations against a model: no two live blocks overlap, addresses are
//! aligned, every usable byte can be written and keeps its value until the block is freed or
//! shrunk.

mod random;

use std::collections::BTreeMap;

use heapwright_malloc::{alloc, alloc_aligned, alloc_zeroed, free, realloc, trim, usable_bytes};
use random::Random;

impl Random {
    /// Mostly small, some up to 64 KiB, a few up to 4 MiB; often next to a class's edge.
    fn bytes(&mut self) -> usize {
        let log2 = match self.below(100) {
            0..70 => self.below(10),
            70..97 => 10 + self.below(6),
            _ => 16 + self.below(6),
        };
        let bytes = (1 << log2) + self.below(1 << log2);
        bytes.saturating_add_signed(self.below(3) as isize - 1)
    }
}

struct Live {
    bytes: usize,
    usable_bytes: usize,
    fill: u8,
}

/// The model: what is live, by address.
struct Model {
    live: BTreeMap<usize, (*mut u8, Live)>,
    fill: u8,
}

impl Model {
    fn add(&mut self, block: *mut u8, bytes: usize, align_bytes: usize, seed: u64) {
        assert!(!block.is_null(), "seed {seed}: {bytes} bytes at {align_bytes}");
        let address = block.addr();
        assert!(address.is_multiple_of(align_bytes.max(16)), "seed {seed}: {address:x}");
        // SAFETY: just allocated.
        let usable = unsafe { usable_bytes(block) };
        assert!(usable >= bytes, "seed {seed}: {usable} < {bytes}");
        if let Some((below, (_, live))) = self.live.range(..=address).next_back() {
            assert!(below + live.usable_bytes <= address, "seed {seed}: overlap below");
        }
        if let Some((above, _)) = self.live.range(address..).next() {
            assert!(address + usable <= *above, "seed {seed}: overlap above");
        }
        self.fill = self.fill.wrapping_add(1);
        // SAFETY: the block's usable bytes are ours.
        unsafe { block.write_bytes(self.fill, usable) };
        self.live.insert(address, (block, Live { bytes, usable_bytes: usable, fill: self.fill }));
    }

    fn take(&mut self, random: &mut Random, seed: u64) -> Option<(*mut u8, Live)> {
        let from = random.next() as usize;
        let low = self.live.keys().next()?;
        let high = self.live.keys().next_back()?;
        let near = low + from % (high - low + 1);
        let address = *self.live.range(near..).next()?.0;
        let (block, live) = self.live.remove(&address)?;
        check(block, live.usable_bytes, live.fill, seed);
        Some((block, live))
    }
}

fn check(block: *mut u8, bytes: usize, fill: u8, seed: u64) {
    // SAFETY: a live block with at least that many bytes, all written.
    let contents = unsafe { std::slice::from_raw_parts(block, bytes) };
    let wrong = contents.iter().position(|byte| *byte != fill);
    let found = wrong.map(|at| contents[at]);
    assert_eq!(wrong, None, "seed {seed}: {bytes} bytes at {block:p}: {found:?}, not {fill}");
}

fn run(seed: u64, steps: usize) {
    let mut random = Random(seed);
    let mut model = Model { live: BTreeMap::new(), fill: 0 };
    for step in 0..steps {
        // Grows and shrinks in turn, so that spans fill and empty.
        let grow = if step / 2000 % 2 == 0 { 70 } else { 30 };
        let bytes = random.bytes();
        match random.below(100) {
            choice if choice < grow / 2 => model.add(alloc(bytes), bytes, 1, seed),
            choice if choice < grow * 7 / 10 => {
                let block = alloc_zeroed(bytes);
                assert!(!block.is_null());
                check(block, bytes, 0, seed);
                model.add(block, bytes, 1, seed);
            }
            choice if choice < grow => {
                let align_bytes = 1 << random.below(19);
                model.add(alloc_aligned(align_bytes, bytes), bytes, align_bytes, seed);
            }
            choice if choice < 85 => {
                if let Some((block, _)) = model.take(&mut random, seed) {
                    // SAFETY: live, and out of the model now.
                    unsafe { free(block) };
                }
            }
            99 if step % 3 == 0 => {
                trim();
            }
            _ => {
                if let Some((block, live)) = model.take(&mut random, seed) {
                    // SAFETY: live, and out of the model now.
                    let moved = unsafe { realloc(block, bytes) };
                    assert!(!moved.is_null());
                    check(moved, live.bytes.min(bytes), live.fill, seed);
                    model.add(moved, bytes, 1, seed);
                }
            }
        }
    }
    for (block, live) in std::mem::take(&mut model.live).into_values() {
        check(block, live.usable_bytes, live.fill, seed);
        // SAFETY: live, and out of the model.
        unsafe { free(block) };
    }
}

#[test]
fn random_programs_agree_with_the_model() {
    for seed in 1..=8 {
        run(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed), 12_000);
    }
}

#[test]
fn random_programs_agree_with_the_model_in_four_threads_at_once() {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || run(0xd1b5_4a32_d192_ed03_u64.wrapping_add(thread), 12_000));
        }
    });
}

#[test]
fn every_size_up_to_80_kib_has_room_and_neighbours_stay_whole() {
    let mut blocks = Vec::new();
    for bytes in (0..80 * 1024).step_by(37) {
        let block = alloc(bytes);
        assert!(!block.is_null());
        // SAFETY: just allocated.
        let usable = unsafe { usable_bytes(block) };
        assert!(
            usable >= bytes && usable <= (bytes + bytes / 8 + 15).max(bytes + 4095 + 65536 / 16)
        );
        // SAFETY: the usable bytes are ours.
        unsafe { block.write_bytes(bytes as u8, usable) };
        blocks.push((block, usable, bytes as u8));
    }
    for (block, usable, fill) in blocks {
        check(block, usable, fill, 0);
        // SAFETY: live.
        unsafe { free(block) };
    }
}

#[test]
fn nothing_is_given_beyond_the_largest_block() {
    assert!(alloc(isize::MAX as usize + 1).is_null());
    assert!(alloc(usize::MAX).is_null());
    assert!(alloc_zeroed(usize::MAX).is_null());
    assert!(alloc_aligned(4096, usize::MAX - 4096).is_null());
    assert!(alloc_aligned(1 << 63, 16).is_null());
    assert!(alloc_aligned(48, 16).is_null(), "no power of two");
    let block = alloc(100);
    // SAFETY: a live block; a failing realloc leaves it.
    assert!(unsafe { realloc(block, usize::MAX) }.is_null());
    // SAFETY: as above.
    assert_eq!(unsafe { usable_bytes(block) }, 112);
    // SAFETY: as above.
    unsafe { free(block) };
}

#[test]
fn empty_requests_give_different_blocks() {
    let (first, second) = (alloc(0), alloc(0));
    assert!(!first.is_null() && first != second);
    // SAFETY: live.
    unsafe { free(first) };
    // SAFETY: live.
    unsafe { free(second) };
    // SAFETY: null is nothing.
    unsafe { free(std::ptr::null_mut()) };
}

#[test]
fn a_growing_large_block_keeps_its_contents() {
    let mut bytes = 1 << 20;
    let mut block = alloc(bytes);
    let mut pins = Vec::new();
    // SAFETY: ours.
    unsafe { block.write_bytes(0xa5, bytes) };
    while bytes < 64 << 20 {
        // A neighbour, so that it has to move.
        pins.push(alloc(70_000));
        let more = bytes * 3 / 2;
        // SAFETY: live.
        block = unsafe { realloc(block, more) };
        assert!(!block.is_null());
        check(block, bytes, 0xa5, 0);
        // SAFETY: the new part is ours.
        unsafe { block.write_bytes(0xa5, more) };
        bytes = more;
    }
    // SAFETY: live.
    block = unsafe { realloc(block, 50_000) };
    check(block, 50_000, 0xa5, 0);
    // SAFETY: live.
    unsafe { free(block) };
    for pin in pins {
        // SAFETY: live.
        unsafe { free(pin) };
    }
}

//! Random programs of allocations, frees, writes and resizings, with everything merged at every
//! step, against a model: each byte of each live block is compared again and again. In a process
//! with threads, where the purger merges, and in a child with one thread, which merges itself.

mod random;

use heapwright_malloc::{
    MergeState, alloc, alloc_zeroed, allow_merging, free, merge_statistics, realloc, trim,
};
use random::Random;

/// A block and what its bytes are: they depend on where they lie and on `seed`.
struct Block {
    start: *mut u8,
    bytes: usize,
    seed: u8,
}

impl Block {
    fn contents(&mut self) -> &mut [u8] {
        // SAFETY: live, of that length, and this value's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }

    fn fill(&mut self, seed: u8) {
        self.seed = seed;
        for (at, byte) in self.contents().iter_mut().enumerate() {
            *byte = seed.wrapping_add(at as u8);
        }
    }

    fn is_right(&mut self) -> bool {
        let seed = self.seed;
        self.contents().iter().enumerate().all(|(at, byte)| *byte == seed.wrapping_add(at as u8))
    }
}

/// Runs a program; whether every byte was right all the time. Does not panic: it runs in a child,
/// too.
fn is_right_all_along(seed: u64, step_count: usize) -> bool {
    let mut random = Random(seed);
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_right = true;
    for step in 0..step_count {
        match random.below(100) {
            // A burst of one size, or of several, of which most dies later.
            0..35 => {
                let log2 = 4 + random.below(8);
                for _ in 0..random.below(400) {
                    let bytes = (1 << log2) + random.below(1 << log2);
                    let is_zeroed = random.below(4) == 0;
                    let start = if is_zeroed { alloc_zeroed(bytes) } else { alloc(bytes) };
                    if start.is_null() {
                        return false;
                    }
                    let mut block = Block { start, bytes, seed: 0 };
                    is_right &= !is_zeroed || block.contents().iter().all(|byte| *byte == 0);
                    block.fill(random.next() as u8);
                    blocks.push(block);
                }
            }
            35..65 => {
                let kept = 1 + random.below(16);
                let from = random.below(blocks.len() + 1);
                for at in (from..blocks.len()).rev() {
                    if random.below(kept) != 0 {
                        let mut block = blocks.swap_remove(at);
                        is_right &= block.is_right();
                        // SAFETY: live, and in the list no more.
                        unsafe { free(block.start) };
                    }
                }
            }
            65..90 => {
                let stride = 1 + random.below(40);
                for block in blocks.iter_mut().step_by(stride) {
                    is_right &= block.is_right();
                    block.fill(random.next() as u8);
                }
            }
            _ if !blocks.is_empty() => {
                let at = random.below(blocks.len());
                let block = &mut blocks[at];
                let bytes = 1 + random.below(3000);
                // SAFETY: live; only the result is used from here on.
                let moved = unsafe { realloc(block.start, bytes) };
                if moved.is_null() {
                    return false;
                }
                (block.start, block.bytes) = (moved, block.bytes.min(bytes));
                is_right &= block.is_right();
                block.bytes = bytes;
                block.fill(random.next() as u8);
            }
            _ => {}
        }
        trim();
        if step % 7 == 0 {
            is_right &= blocks.iter_mut().all(Block::is_right);
        }
    }
    for mut block in blocks {
        is_right &= block.is_right();
        // SAFETY: live.
        unsafe { free(block.start) };
    }
    is_right
}

fn say_what_was_merged(where_from: &str) {
    let found = merge_statistics();
    let (merged, again) = (found.merged_count, found.merged_again_count);
    eprintln!("{where_from}: merging {}: {merged} windows, {again} again", found.state.name());
    assert!(found.state != MergeState::Works || merged > 0);
}

#[test]
fn random_programs_with_merging_at_every_step_keep_every_byte() {
    allow_merging(true);
    for seed in 1..=4u64 {
        assert!(is_right_all_along(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 150), "seed {seed}");
    }
    say_what_was_merged("with threads");
}

#[test]
fn random_programs_that_merge_themselves_keep_every_byte() {
    // A thread that never had a block forks unannounced, and the other test's may be taking its
    // first lock at that moment.
    let block = alloc(16);
    // SAFETY: the block made above, given up.
    unsafe { free(block) };
    // SAFETY: the child calls the allocator, libc's, and `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        allow_merging(true);
        let wrong = (1..=6u64)
            .find(|seed| !is_right_all_along(seed.wrapping_mul(0xd1b5_4a32_d192_ed03), 150));
        say_what_was_merged("alone");
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(wrong.unwrap_or(0) as i32) };
    }
    let mut status = 0;
    // SAFETY: our child, and room for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "status {status:x}");
    assert_eq!(libc::WEXITSTATUS(status), 0, "the seed that went wrong");
}

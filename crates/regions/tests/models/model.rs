//! Random programs on any region, beside a list of what must be there.

use std::alloc::Layout;
use std::ptr::NonNull;

use heapwright_regions::{AllocError, Figure, Region};
use heapwright_testkit::Random;

/// A live block, all of whose bytes are `fill`.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub start: NonNull<u8>,
    pub layout: Layout,
    fill: u8,
}

impl Block {
    /// Fills a fresh block.
    pub fn fresh(start: NonNull<u8>, layout: Layout, fill: u8) -> Self {
        assert!(start.as_ptr().addr().is_multiple_of(layout.align()), "{start:p} for {layout:?}");
        // SAFETY: a fresh block of that size.
        unsafe { start.write_bytes(fill, layout.size()) };
        Self { start, layout, fill }
    }

    /// Whether the first `bytes` are as they were written: nobody else has the block.
    pub fn holds(self, bytes: usize) {
        for at in 0..bytes {
            // SAFETY: inside a live block.
            let byte = unsafe { self.start.add(at) };
            // SAFETY: written when the block was made.
            assert_eq!(unsafe { byte.read() }, self.fill, "byte {at} of {self:?}");
        }
    }
}

/// What a program asks for.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub bytes_max: u64,
    pub align_log2_max: u64,
    pub steps: u32,
    /// Of 100 steps, how many allocate.
    pub allocs_per_100: u64,
}

pub fn random_layout(random: &mut Random, shape: Shape) -> Layout {
    let size =
        if random.below(40) == 0 { 0 } else { random.log_uniform(1, shape.bytes_max) as usize };
    Layout::from_size_align(size, 1 << random.below(shape.align_log2_max + 1)).expect("a layout")
}

/// Allocates, resizes and frees in any order; frees everything at the end. How many requests were
/// refused.
pub fn run<R: Region>(region: &R, seed: u64, shape: Shape) -> u32 {
    println!("seed {seed}, {shape:?}");
    let random = &mut Random::new(seed);
    let mut live: Vec<Block> = Vec::new();
    let mut refused = 0;
    for step in 0..shape.steps {
        let roll = random.below(100);
        if roll < shape.allocs_per_100 || live.is_empty() {
            let layout = random_layout(random, shape);
            match region.try_alloc_block(layout) {
                Ok(start) => live.push(Block::fresh(start, layout, step as u8)),
                Err(AllocError::TooLarge { .. }) => panic!("{layout:?} is not too large"),
                Err(_) => refused += 1,
            }
        } else if roll < 95 {
            let block = live.swap_remove(random.below(live.len() as u64) as usize);
            block.holds(block.layout.size());
            // SAFETY: live, unused from here.
            unsafe { region.free_block(block.start, block.layout) };
        } else {
            let index = random.below(live.len() as u64) as usize;
            let Block { start, layout, .. } = live[index];
            let new = Layout::from_size_align(random_layout(random, shape).size(), layout.align())
                .expect("a layout");
            // SAFETY: live; the old pointer is not used after success.
            match unsafe { region.resize_block(start, layout, new) } {
                Ok(moved) => {
                    Block { start: moved, ..live[index] }.holds(layout.size().min(new.size()));
                    live[index] = Block::fresh(moved, new, step as u8);
                }
                Err(_) => refused += 1,
            }
        }
        if step % 256 == 0 {
            live.iter().for_each(|block| block.holds(block.layout.size()));
            check_statistics(region, &live);
        }
    }
    for block in live.drain(..) {
        block.holds(block.layout.size());
        // SAFETY: live, unused from here.
        unsafe { region.free_block(block.start, block.layout) };
    }
    check_statistics(region, &live);
    refused
}

fn check_statistics<R: Region>(region: &R, live: &[Block]) {
    let seen = region.region_statistics();
    let requested: usize = live.iter().map(|block| block.layout.size()).sum();
    if let Some(count) = seen.live_count.value() {
        assert_eq!(count, live.len(), "{seen:?}");
    }
    if let Some(bytes) = seen.live_bytes.value() {
        assert!(bytes >= requested, "{bytes} live of {requested} requested");
        assert!(bytes <= seen.committed_bytes, "{seen:?}");
    }
    if let Figure::Exact(bytes) = seen.requested_bytes {
        assert_eq!(bytes, requested);
    }
}

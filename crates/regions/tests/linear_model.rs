//! Random programs of operations on the linear arena, over every backing, beside a model.

use std::alloc::{Layout, System};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use heapwright_regions::{
    AnonymousPages, Backing, Buffer, Chained, Failing, Limited, Linear, Mark, NoCounts, Upstream,
};
use heapwright_testkit::Random;

struct Block {
    start: NonNull<u8>,
    layout: Layout,
    fill: u8,
}

impl Block {
    fn range(&self) -> std::ops::Range<usize> {
        let start = self.start.as_ptr().addr();
        start..start + self.layout.size()
    }

    fn write(&self) {
        // SAFETY: a live block of that size.
        unsafe { self.start.write_bytes(self.fill, self.layout.size()) };
    }

    fn holds(&self, bytes: usize) {
        for index in 0..bytes {
            // SAFETY: inside the live block.
            let byte = unsafe { self.start.add(index) };
            // SAFETY: written when the block was made.
            let byte = unsafe { byte.read() };
            assert_eq!(byte, self.fill, "byte {index} of {:?}", self.layout);
        }
    }
}

/// What must be true of all live blocks.
fn check(live: &[Block]) {
    let mut ranges: Vec<_> =
        live.iter().filter(|block| block.layout.size() > 0).map(Block::range).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "blocks overlap");
    for block in live {
        assert!(block.range().start.is_multiple_of(block.layout.align()));
        block.holds(block.layout.size());
    }
}

fn random_layout(random: &mut Random) -> Layout {
    let size = match random.below(20) {
        0 => 0,
        1 => random.log_uniform(4096, 300_000),
        _ => random.log_uniform(1, 600),
    };
    Layout::from_size_align(size as usize, 1 << random.below(if size == 0 { 13 } else { 8 }))
        .expect("a layout")
}

/// Runs a program; how many requests were refused.
fn run<B: Backing, const ALIGN: usize>(backing: B, seed: u64, steps: u32) -> u32 {
    println!("seed {seed}");
    let random = &mut Random::new(seed);
    let mut arena: Linear<B, NoCounts, ALIGN> = Linear::aligned_in(backing);
    let mut live: Vec<Block> = Vec::new();
    let mut marks: Vec<(Mark, usize)> = Vec::new();
    let mut refused = 0;
    let floor = |marks: &[(Mark, usize)]| marks.last().map_or(0, |(_, count)| *count);
    for step in 0..steps {
        let fill = step as u8 | 1;
        match random.below(100) {
            0..60 => {
                let layout = random_layout(random);
                let zeroed = random.below(4) == 0;
                let got = if zeroed {
                    arena.try_alloc_layout_zeroed(layout)
                } else {
                    arena.try_alloc_layout(layout)
                };
                match got {
                    Ok(start) => {
                        let block = Block { start, layout, fill: if zeroed { 0 } else { fill } };
                        if zeroed {
                            block.holds(layout.size());
                        }
                        let block = Block { fill, ..block };
                        block.write();
                        live.push(block);
                    }
                    Err(_) => refused += 1,
                }
            }
            60..85 if live.len() > floor(&marks) => {
                // Mostly the last one, sometimes another of this scope.
                let choices = (live.len() - floor(&marks)) as u64;
                let back = if random.below(3) > 0 { 1 } else { 1 + random.below(choices) as usize };
                let index = live.len() - back;
                let Block { start, layout, fill } = live[index];
                let other = random_layout(random);
                let align =
                    layout.align().max(if random.below(8) == 0 { other.align() } else { 1 });
                match random.below(3) {
                    0 => {
                        live.remove(index);
                        // SAFETY: live, unused from here.
                        unsafe { arena.dealloc(start, layout) };
                    }
                    1 => {
                        let size = layout.size() + other.size();
                        let new = Layout::from_size_align(size, align).expect("a layout");
                        // SAFETY: live, newer than the last mark, longer.
                        match unsafe { arena.grow(start, layout, new) } {
                            Ok(start) => {
                                live[index] = Block { start, layout: new, fill };
                                live[index].holds(layout.size());
                                live[index].write();
                            }
                            Err(_) => refused += 1,
                        }
                    }
                    _ => {
                        let size = layout.size() / 2;
                        let new = Layout::from_size_align(size, align).expect("a layout");
                        // SAFETY: live, newer than the last mark, shorter.
                        match unsafe { arena.shrink(start, layout, new) } {
                            Ok(start) => live[index] = Block { start, layout: new, fill },
                            Err(_) => refused += 1,
                        }
                    }
                }
            }
            85..91 => marks.push((arena.mark(), live.len())),
            91..97 => {
                if let Some((mark, count)) = marks.pop() {
                    live.truncate(count);
                    // SAFETY: every block since the mark was forgotten, none from before grew.
                    unsafe { arena.rewind(mark) }.expect("a mark of this life");
                }
            }
            97 => {
                live.clear();
                let old = marks.drain(..).next();
                arena.reset();
                if let Some((mark, _)) = old {
                    // SAFETY: no blocks.
                    assert!(unsafe { arena.rewind(mark) }.is_err(), "a mark outlived a reset");
                }
            }
            98 => {
                live.clear();
                marks.clear();
                let keep = random.below(1 << 20) as usize;
                arena.reset_and_trim(keep);
                assert!(arena.statistics().committed_bytes <= keep);
            }
            _ => arena.purge(),
        }
        if step % 16 == 0 {
            check(&live);
            let seen = arena.statistics();
            let sum: usize = live.iter().map(|block| block.layout.size()).sum();
            assert!(seen.live_bytes.value().expect("exact") >= sum);
            assert!(seen.committed_bytes <= seen.reserved_bytes);
        }
    }
    check(&live);
    refused
}

const STEPS: u32 = 1000;

#[test]
fn a_model_agrees_over_anonymous_pages() {
    for seed in 0..8 {
        assert_eq!(run::<_, 8>(AnonymousPages, seed, STEPS), 0);
        assert_eq!(run::<_, 1>(AnonymousPages, seed, STEPS), 0);
    }
}

#[test]
fn a_model_agrees_over_another_allocator() {
    for seed in 0..8 {
        assert_eq!(run::<_, 8>(Upstream(System), seed, STEPS), 0);
        assert_eq!(run::<_, 64>(Upstream(System), seed, STEPS), 0);
    }
}

#[test]
fn a_model_agrees_over_buffers_and_chains() {
    let mut refused = 0;
    for seed in 0..8 {
        let mut memory = vec![MaybeUninit::uninit(); 200_000];
        refused += run::<_, 16>(Buffer::new(&mut memory), seed, STEPS);
        let mut memory = vec![MaybeUninit::uninit(); 1 << 14];
        let chain = Chained::new(Buffer::new(&mut memory), Upstream(System));
        assert_eq!(run::<_, 16>(chain, seed, STEPS), 0);
    }
    assert!(refused > 0, "the memory was never used up");
}

#[test]
fn a_quota_is_never_exceeded() {
    let mut refused = 0;
    for seed in 0..8 {
        let quota = Limited::new(AnonymousPages, 400_000);
        refused += run::<_, 8>(&quota, seed, STEPS);
        assert_eq!(quota.committed_bytes(), 0, "everything came back");
        let quota = Limited::new(Upstream(System), 400_000);
        refused += run::<_, 8>(&quota, seed, STEPS);
        assert_eq!(quota.committed_bytes(), 0, "everything came back");
    }
    assert!(refused > 0, "the memory was never used up");
}

#[test]
fn every_path_survives_the_nth_failure() {
    for calls in 0..40 {
        let once = Failing::once_after(Upstream(System), calls);
        run::<_, 8>(&once, calls, 600);
        let ever = Failing::for_ever_after(Limited::new(AnonymousPages, 64 << 20), calls);
        run::<_, 8>(&ever, calls, 600);
        assert!(calls > 5 || (once.has_failed() && ever.has_failed()), "{calls}");
    }
}

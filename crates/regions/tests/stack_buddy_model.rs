//! Random programs on the stack and the buddy heap, beside a model.

use std::alloc::{Layout, System};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use heapwright_regions::{
    AllocError, AnonymousPages, Backing, Buddy, Buffer, End, Failing, FreeError, Limited,
    LocalCounts, OutOfOrder, Stack, Tails, Upstream,
};
use heapwright_testkit::Random;

#[derive(Clone, Copy)]
struct Block {
    start: NonNull<u8>,
    layout: Layout,
    fill: u8,
}

impl Block {
    fn fresh(start: NonNull<u8>, layout: Layout, fill: u8) -> Self {
        assert!(start.as_ptr().addr().is_multiple_of(layout.align()));
        // SAFETY: a fresh block of that size.
        unsafe { start.write_bytes(fill, layout.size()) };
        Self { start, layout, fill }
    }

    fn holds(self) {
        for at in 0..self.layout.size() {
            // SAFETY: inside a live block.
            let byte = unsafe { self.start.add(at) };
            // SAFETY: written when the block was made.
            assert_eq!(unsafe { byte.read() }, self.fill);
        }
    }
}

fn random_layout(random: &mut Random, most: u64) -> Layout {
    let size = if random.below(20) == 0 { 0 } else { random.log_uniform(1, most) };
    Layout::from_size_align(size as usize, 1 << random.below(8)).expect("a layout")
}

fn run_stack<B: Backing>(
    backing: B,
    out_of_order: OutOfOrder,
    seed: u64,
) -> Result<u32, AllocError> {
    println!("seed {seed}, {out_of_order:?}");
    let random = &mut Random::new(seed);
    let stack = Stack::new_in(backing, 60_000, out_of_order)?;
    let mut live: [Vec<Block>; 2] = [Vec::new(), Vec::new()];
    let (mut marks, mut refused) = (Vec::new(), 0);
    for step in 0..4000u32 {
        let which = random.below(2) as usize;
        let floor = marks.last().map_or(0, |(_, lengths): &(_, [usize; 2])| lengths[which]);
        match random.below(20) {
            0..11 => {
                let end = [End::Low, End::High][which];
                let layout = random_layout(random, 1500);
                match stack.try_alloc(end, layout) {
                    Ok(start) => live[which].push(Block::fresh(start, layout, step as u8)),
                    Err(AllocError::Full { largest_free_bytes, .. }) => {
                        assert!(largest_free_bytes < layout.size() + layout.align());
                        refused += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            11..18 if live[which].len() > floor => {
                let count = live[which].len();
                let newest = random.below(2) == 0;
                let index = if newest {
                    count - 1
                } else {
                    floor + random.below((count - floor) as u64) as usize
                };
                live[which][index].holds();
                // SAFETY: live, unused if it succeeds.
                let freed = unsafe { stack.free(live[which][index].start) };
                if index + 1 == count || out_of_order == OutOfOrder::Defer {
                    assert_eq!(freed, Ok(()));
                    live[which].remove(index);
                } else {
                    assert!(matches!(freed, Err(FreeError::OutOfOrder { .. })), "{freed:?}");
                }
            }
            18 => marks.push((stack.mark(), [live[0].len(), live[1].len()])),
            19 => {
                if let Some((mark, lengths)) = marks.pop() {
                    live[0].truncate(lengths[0]);
                    live[1].truncate(lengths[1]);
                    // SAFETY: blocks since the mark are forgotten; older ones were not freed.
                    unsafe { stack.rewind(mark) }.expect("a mark that was passed");
                }
            }
            _ => {}
        }
        if step % 64 == 0 {
            live.iter().flatten().for_each(|block| block.holds());
        }
    }
    Ok(refused)
}

#[test]
fn a_stack_agrees_with_its_model() {
    let mut refused = 0;
    for seed in 0..6 {
        for policy in [OutOfOrder::Refuse, OutOfOrder::Defer] {
            refused += run_stack(AnonymousPages, policy, seed).expect("memory");
            run_stack(Upstream(System), policy, seed).expect("memory");
            let mut memory = vec![MaybeUninit::uninit(); 61_000];
            run_stack(Buffer::new(&mut memory), policy, seed).expect("61 kB");
        }
    }
    assert!(refused > 0, "never full");
    assert!(run_stack(Failing::once_after(AnonymousPages, 0), OutOfOrder::Defer, 0).is_err());
    assert!(run_stack(Limited::new(AnonymousPages, 50_000), OutOfOrder::Defer, 0).is_err());
}

#[test]
fn a_block_deferred_twice_is_told() {
    let stack = Stack::new_in(AnonymousPages, 4096, OutOfOrder::Defer).expect("memory");
    let layout = Layout::new::<u64>();
    let first = stack.try_alloc(End::High, layout).expect("room");
    stack.try_alloc(End::High, layout).expect("room");
    // SAFETY: live, unused.
    assert_eq!(unsafe { stack.free(first) }, Ok(()));
    let address = first.as_ptr().addr();
    // SAFETY: given back, but a newer block keeps it where it was.
    assert_eq!(unsafe { stack.free(first) }, Err(FreeError::AlreadyFree { address }));
}

fn run_buddy<B: Backing>(
    backing: B,
    tails: Tails,
    leaf: usize,
    seed: u64,
) -> Result<u32, AllocError> {
    println!("seed {seed}, {tails:?}, leaf {leaf}");
    let random = &mut Random::new(seed);
    let heap = Buddy::counted_in(backing, 200_000, leaf, tails, LocalCounts::new())?;
    let fresh = heap.statistics();
    let mut live: Vec<Block> = Vec::new();
    let mut refused = 0;
    for step in 0..4000u32 {
        if random.below(100) < 52 || live.is_empty() {
            let layout = random_layout(random, 8000);
            match heap.try_alloc(layout) {
                Ok(start) => live.push(Block::fresh(start, layout, step as u8)),
                Err(AllocError::Full { largest_free_bytes, .. }) => {
                    let wants = layout.size().max(layout.align()).next_power_of_two().max(leaf);
                    assert!(largest_free_bytes < wants);
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        } else {
            let block = live.swap_remove(random.below(live.len() as u64) as usize);
            block.holds();
            // SAFETY: live, unused from here.
            unsafe { heap.free(block.start, block.layout) }.expect("live");
        }
        if step % 128 == 0 {
            let seen = heap.statistics();
            assert_eq!(seen.live_count.value(), Some(live.len()));
            let sum: usize = live.iter().map(|block| block.layout.size()).sum();
            assert_eq!(seen.requested_bytes.value(), Some(sum));
            live.iter().for_each(|block| block.holds());
        }
    }
    for block in live.drain(..) {
        // SAFETY: live, unused from here.
        unsafe { heap.free(block.start, block.layout) }.expect("live");
    }
    let after = heap.statistics();
    assert_eq!(after.free_bytes, fresh.free_bytes);
    assert_eq!(after.largest_free_bytes, fresh.largest_free_bytes, "everything coalesced");
    Ok(refused)
}

#[test]
fn a_buddy_heap_agrees_with_its_model() {
    let mut refused = 0;
    for seed in 0..3 {
        for tails in [Tails::Keep, Tails::Trim] {
            refused += run_buddy(AnonymousPages, tails, 16, seed).expect("memory");
            refused += run_buddy(Upstream(System), tails, 256, seed).expect("memory");
        }
    }
    let mut memory = vec![MaybeUninit::uninit(); 230_000];
    run_buddy(Buffer::new(&mut memory), Tails::Trim, 32, 9).expect("230 kB");
    assert!(refused > 0, "never full");
    for calls in 0..4 {
        let failing = Failing::once_after(AnonymousPages, calls);
        let quota = Limited::new(failing, 1 << 20);
        assert!(run_buddy(&quota, Tails::Trim, 64, 1).is_err(), "two reserves, two commits");
        assert_eq!(quota.committed_bytes(), 0);
    }
}

#[test]
fn trap_8_alignments_are_kept_or_refused() {
    let heap: Buddy<_> = Buddy::new_in(AnonymousPages, 1 << 20, 64, Tails::Trim).expect("memory");
    for shift in 0..=12 {
        let layout = Layout::from_size_align(100, 1 << shift).expect("a layout");
        let block = heap.try_alloc(layout).expect("room");
        assert!(block.as_ptr().addr().is_multiple_of(1 << shift));
    }
    let wide = Layout::from_size_align(100, 8192).expect("a layout");
    assert!(matches!(heap.try_alloc(wide), Err(AllocError::Unfit { align_bytes: 8192, .. })));
}

#[test]
fn what_is_no_live_block_of_a_buddy_heap_is_refused() {
    let heap: Buddy<_> = Buddy::new_in(AnonymousPages, 1 << 16, 64, Tails::Keep).expect("memory");
    let layout = Layout::new::<[u8; 64]>();
    let block = heap.try_alloc(layout).expect("room");
    // SAFETY: live, unused.
    assert_eq!(unsafe { heap.free(block, layout) }, Ok(()));
    // SAFETY: not live, not inside a live block: refused; likewise below.
    let twice = unsafe { heap.free(block, layout) };
    assert!(matches!(twice, Err(FreeError::AlreadyFree { .. })));
    let mut elsewhere = [0u8; 64];
    // SAFETY: as above.
    let foreign = unsafe { heap.free(NonNull::from(&mut elsewhere).cast(), layout) };
    assert!(matches!(foreign, Err(FreeError::NotOwned { .. })));
    // SAFETY: inside the heap's memory.
    let inside = unsafe { block.add(8) };
    // SAFETY: as above.
    let interior = unsafe { heap.free(inside, layout) };
    assert!(matches!(interior, Err(FreeError::NotBlockStart { distance_bytes: 8, .. })));
    let long = Layout::new::<[u8; 1024]>();
    let block = heap.try_alloc(long).expect("room");
    // SAFETY: inside the block.
    let inside = unsafe { block.add(512) };
    // SAFETY: a live block does not begin there: refused.
    let interior = unsafe { heap.free(inside, layout) };
    assert!(matches!(interior, Err(FreeError::NotBlockStart { distance_bytes: 512, .. })));
    // SAFETY: live, unused.
    assert_eq!(unsafe { heap.free(block, long) }, Ok(()));
}

#[test]
fn trimming_lifts_the_usable_share_of_log_uniform_sizes() {
    const BYTES: usize = 8 << 20;
    let share = |tails| {
        let heap: Buddy<_> = Buddy::new_in(AnonymousPages, BYTES, 16, tails).expect("memory");
        let random = &mut Random::new(5);
        let mut sum = 0;
        loop {
            let size = random.log_uniform(16, 4096) as usize;
            match heap.try_alloc(Layout::from_size_align(size, 1).expect("a layout")) {
                Ok(_) => sum += size,
                Err(_) => return sum as f64 / BYTES as f64,
            }
        }
    };
    let (kept, trimmed) = (share(Tails::Keep), share(Tails::Trim));
    println!("{kept:.3} kept, {trimmed:.3} trimmed");
    assert!((0.70..0.74).contains(&kept), "1 / (2 ln 2) by theory: {kept}");
    assert!(trimmed >= 0.93, "{trimmed}");
}

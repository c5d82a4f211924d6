//! What calls of the OS layer and of backings cost here, each the median of some rounds.
//!
//! Question: is the current node known in nanoseconds, and is a heap in a file opened in
//! milliseconds? `cargo run --release -p heapwright-regions --example backing_costs`

use std::alloc::Layout;
use std::hint::black_box;
use std::time::Instant;

use heapwright_os::{
    DirtyPages, Fd, current_node, guard, huge_bytes, page_bytes, placement, unguard,
};
use heapwright_regions::{
    AnonymousPages, Backing, Bound, FileHeap, FileHeapShape, Guarded, HugePages, HugeWish,
    NodePolicy, Tails,
};

const ROUNDS: usize = 9;

/// Prints the median over rounds of what `f` takes, divided by `count`.
fn row(name: &str, count: usize, mut f: impl FnMut()) {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:<44} {:>12.1} ns", times[ROUNDS / 2]);
}

fn extent(backing: &impl Backing, bytes: usize) {
    let layout = Layout::from_size_align(bytes, 1).expect("a layout");
    let extent = backing.reserve(layout).expect("addresses");
    // SAFETY: given back once, unused.
    unsafe { backing.release(extent) };
}

fn main() {
    const MIB: usize = 1 << 20;
    let page = page_bytes();
    row("current node", 1_000_000, || {
        (0..1_000_000).for_each(|_| {
            black_box(current_node());
        });
    });
    row("reserve and release 1 MiB, anonymous", 1000, || {
        (0..1000).for_each(|_| extent(&AnonymousPages, MIB));
    });
    let guarded = Guarded::new(AnonymousPages, page);
    row("the same between guards", 1000, || (0..1000).for_each(|_| extent(&guarded, MIB)));
    let bound = Bound::new(AnonymousPages, NodePolicy::Prefer(0));
    row("the same on node 0", 1000, || (0..1000).for_each(|_| extent(&bound, MIB)));
    let huge = HugePages::new(HugeWish::Advised);
    row("the same in huge pages", 1000, || (0..1000).for_each(|_| extent(&huge, MIB)));

    let bytes = 64 * MIB;
    let pages = bytes / page;
    let memory = heapwright_os::alloc_local(bytes).expect("memory");
    let start = memory.start();
    row("placement, a page", pages, || {
        black_box(placement(start, bytes)).expect("the kernel tells");
    });
    row("huge bytes of 64 MiB", 1, || {
        black_box(huge_bytes(start, bytes));
    });
    row("guard and its end", 1, || {
        // SAFETY: a page of ours that nobody uses.
        let kind = unsafe { guard(start, page) }.expect("a guard");
        // SAFETY: the guard just made.
        unsafe { unguard(start, page, kind) }.expect("its end");
    });
    // SAFETY: pages of ours, there until the end.
    let mut dirty = unsafe { DirtyPages::follow(start, bytes) };
    println!("dirty pages by {:?}", dirty.method());
    let touch = |count: usize| {
        for index in 0..count {
            // SAFETY: a byte of ours.
            let byte = unsafe { start.add(index * page * (pages / count)) };
            // SAFETY: as above.
            unsafe { byte.write_volatile(1) };
        }
    };
    row("256 dirty pages of 64 MiB told, a page of it", pages, || {
        touch(256);
        let mut told = 0;
        dirty.take(|run| told += run.len()).expect("told");
        assert!(told >= 256 * page);
    });

    let memory = Fd::shared_memory(c"heapwright-costs").expect("memfd");
    let shape = FileHeapShape { bytes: 1 << 30, leaf_bytes: 64, tails: Tails::Trim };
    let again = || memory.duplicate_above(3).expect("a descriptor");
    FileHeap::create_in(again(), 1, shape).expect("room").close().expect("closed");
    row("open and close a heap of 1 GiB in a file", 1, || {
        FileHeap::open_in(again(), 1).expect("opens").close().expect("closed");
    });
    let heap = FileHeap::open_in(again(), 1).expect("opens");
    let layout = Layout::new::<[u8; 200]>();
    row("alloc and free of 200 bytes in it", 100_000, || {
        for _ in 0..100_000 {
            let block = heap.try_alloc(layout).expect("room");
            // SAFETY: live, unused from here.
            unsafe { heap.free(block, layout) }.expect("live");
        }
    });
}

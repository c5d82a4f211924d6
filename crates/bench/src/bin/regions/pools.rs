//! Blocks of one size, one thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::ptr::NonNull;

use heapwright_regions::{
    AnonymousPages, CompactingPool, HandlePool, Lines, Pool, SharedPool, Slab, Upstream,
};

use super::floor::List;
use super::measure::{
    Mode, Probe, Process, Sizes, Subject, Workload, churn, ours, peer, subject, touched,
};

const LINE: Sizes = Sizes::Fixed(64);

pub(crate) fn workloads() -> Vec<Workload> {
    fn subjects<const LIVE: usize>() -> Vec<Subject> {
        vec![
            subject!("floor", "", "", floor::<LIVE>),
            ours!("", pool::<LIVE>),
            ours!("bounded", bounded::<LIVE>),
            ours!("threads", shared::<LIVE>),
            ours!("slab", slab_ours::<LIVE>),
            ours!("values", values::<LIVE>),
            ours!("compacting", compacting::<LIVE>),
            ours!("handles", handles::<LIVE>),
            peer!("slab", slab_peer::<LIVE>),
            peer!("opool", opool_peer::<LIVE>),
            subject!("mimalloc", "libmimalloc-sys", "", mimalloc::<LIVE>),
            subject!("malloc", "", "", system::<LIVE>),
        ]
    }
    let workload =
        |name, subjects| Workload { name, count: 2_000_000, process: Process::Shared, subjects };
    vec![
        workload("pool_64B_1K", subjects::<1000>()),
        workload("pool_64B_100K", subjects::<100_000>()),
        workload("pool_64B_refill_1K", refills::<1000>()),
        workload("pool_64B_refill_100K", refills::<100_000>()),
    ]
}

/// Allocation by itself: of many that died one after the other, all come back. In an exchange the
/// compiler sees a plain pool's block freed and taken at once, and does neither.
fn refills<const LIVE: usize>() -> Vec<Subject> {
    vec![
        ours!("", pool_refill::<LIVE>),
        ours!("values", values_refill::<LIVE>),
        ours!("compacting", compacting_refill::<LIVE>),
        ours!("compacted", compacted_refill::<LIVE>),
        ours!("handles", handles_refill::<LIVE>),
        peer!("slab", slab_peer_refill::<LIVE>),
        subject!("mimalloc", "libmimalloc-sys", "", |probe| {
            let give = |block| mimalloc_give(block, line());
            refill(probe, LIVE, || mimalloc_take(line()), give);
        }),
    ]
}

/// Ends half of `live` values in random order and makes as many, again and again; only the making
/// is timed.
#[inline(always)]
fn refill<B: Copy>(
    probe: &mut Probe<impl Mode>,
    live: usize,
    mut take: impl FnMut() -> B,
    mut give: impl FnMut(B),
) {
    let random = &mut heapwright_testkit::Random::new(1);
    let mut order: Vec<u32> = (0..live as u32).collect();
    for at in (1..live).rev() {
        order.swap(at, random.below(at as u64 + 1) as usize);
    }
    let mut blocks: Vec<B> = (0..live).map(|_| take()).collect();
    let half_count = live / 2;
    let rounds = probe.count / half_count + 1;
    // The first time round is not like the others.
    for half in order.chunks_exact(half_count) {
        half.iter().for_each(|at| give(blocks[*at as usize]));
        half.iter().for_each(|at| blocks[*at as usize] = take());
    }
    for half in order.chunks_exact(half_count).cycle().take(rounds) {
        half.iter().for_each(|at| give(blocks[*at as usize]));
        let start = std::time::Instant::now();
        probe.run(half_count, |index| blocks[half[index] as usize] = take());
        probe.elapsed += start.elapsed();
    }
    probe.elapsed = probe.elapsed.mul_f64(probe.count as f64 / (rounds * half_count) as f64);
    blocks.into_iter().for_each(give);
}

fn line() -> Layout {
    Layout::from_size_align(64, 64).expect("a layout")
}

fn floor<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let list = RefCell::new(List::of(LIVE + 1));
    let list = list.as_ptr();
    // SAFETY: the only reference at that time, in one thread; likewise below.
    let take = |_| touched(unsafe { &mut *list }.take());
    // SAFETY: as above.
    churn(probe, LIVE, LINE, take, |block, _| unsafe { &mut *list }.give(block));
}

fn pool<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool: Pool<_> = Pool::new_in(AnonymousPages, line());
    let take = |_| touched(pool.alloc().expect("memory"));
    // SAFETY: `churn` gives each block back once.
    churn(probe, LIVE, LINE, take, |block, _| unsafe { pool.free(block) });
}

fn bounded<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool = Pool::bounded(Upstream(System), line(), LIVE + 1).expect("memory");
    let take = |_| touched(pool.alloc().expect("bounded by its use"));
    // SAFETY: `churn` gives each block back once.
    churn(probe, LIVE, LINE, take, |block, _| unsafe { pool.free(block) });
}

fn shared<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool = SharedPool::new_in(AnonymousPages, line());
    let local = pool.local();
    let take = |_| touched(local.try_alloc().expect("memory"));
    // SAFETY: `churn` gives each block back once.
    churn(probe, LIVE, LINE, take, |block, _| unsafe { local.free(block) });
}

fn slab_ours<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let slab = Slab::new_in(AnonymousPages, 1 << 30, Lines::Packed).expect("addresses");
    let take = |layout| touched(slab.try_alloc(layout).expect("memory"));
    // SAFETY: `churn` gives each block back once.
    churn(probe, LIVE, LINE, take, |block, layout| unsafe { slab.free(block, layout) });
}

/// The plain pool with whole values moved in and out, as pools under handles do.
fn values<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool: Pool<_> = Pool::new_in(AnonymousPages, line());
    let take = |_| {
        let block = pool.alloc().expect("memory");
        // SAFETY: a fresh block of 64 bytes, aligned to them.
        unsafe { block.cast::<[u64; 8]>().write([1; 8]) };
        block
    };
    churn(probe, LIVE, LINE, take, |block, _| {
        // SAFETY: written by `take`, and nobody's until it is freed.
        let value = unsafe { block.cast::<[u64; 8]>().read() };
        // As much as a pool that gives it back leaves to its caller, who does not look.
        let _given = Some(value);
        // SAFETY: `churn` gives each block back once.
        unsafe { pool.free(block.cast()) }
    });
}

/// Handles instead of pointers, and whole values.
fn compacting<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool: CompactingPool<[u64; 8], _> = CompactingPool::new_in(AnonymousPages);
    let take = |_| pool.insert([1; 8]).expect("memory");
    churn(probe, LIVE, LINE, take, |handle, _| {
        pool.remove(handle).expect("live");
    });
}

/// Handles and whole values that stay where they are.
fn handles<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool: RefCell<HandlePool<[u64; 8], _>> = RefCell::new(HandlePool::new_in(AnonymousPages));
    let take = |_| pool.borrow_mut().insert([1; 8]).expect("memory");
    churn(probe, LIVE, LINE, take, |handle, _| {
        pool.borrow_mut().remove(handle).expect("live");
    });
}

fn pool_refill<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool: Pool<_> = Pool::new_in(AnonymousPages, line());
    // SAFETY: `refill` gives each block back once.
    refill(
        probe,
        LIVE,
        || touched(pool.alloc().expect("memory")),
        |block| unsafe { pool.free(block) },
    );
}

fn values_refill<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool: Pool<_> = Pool::new_in(AnonymousPages, line());
    let take = || {
        let block = pool.alloc().expect("memory");
        // SAFETY: a fresh block of 64 bytes, aligned to them.
        unsafe { block.cast::<[u64; 8]>().write([1; 8]) };
        block
    };
    // SAFETY: `refill` gives each block back once.
    refill(probe, LIVE, take, |block| unsafe { pool.free(block) });
}

fn compacting_refill<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool: CompactingPool<[u64; 8], _> = CompactingPool::new_in(AnonymousPages);
    refill(
        probe,
        LIVE,
        || pool.insert([1; 8]).expect("memory"),
        |handle| {
            pool.remove(handle).expect("live");
        },
    );
}

/// After a burst of four times as many, of which one in eight stayed, and a compaction.
fn compacted_refill<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool: CompactingPool<[u64; 8], _> = CompactingPool::new_in(AnonymousPages);
    let random = &mut heapwright_testkit::Random::new(2);
    let burst: Vec<_> = (0..4 * LIVE).map(|_| pool.insert([1; 8]).expect("memory")).collect();
    let (kept, ended): (Vec<_>, Vec<_>) = burst.into_iter().partition(|_| random.below(8) == 0);
    for handle in ended {
        pool.remove(handle).expect("live");
    }
    pool.compact();
    // What stayed is among the first that `refill` has.
    let mut kept = kept.into_iter();
    let take = || kept.next().unwrap_or_else(|| pool.insert([1; 8]).expect("memory"));
    refill(probe, LIVE, take, |handle| {
        pool.remove(handle).expect("live");
    });
}

fn handles_refill<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool: RefCell<HandlePool<[u64; 8], _>> = RefCell::new(HandlePool::new_in(AnonymousPages));
    refill(
        probe,
        LIVE,
        || pool.borrow_mut().insert([1; 8]).expect("memory"),
        |handle| {
            pool.borrow_mut().remove(handle).expect("live");
        },
    );
}

fn slab_peer_refill<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let slab = RefCell::new(slab::Slab::<[u64; 8]>::new());
    refill(
        probe,
        LIVE,
        || slab.borrow_mut().insert([1; 8]),
        |key| {
            slab.borrow_mut().remove(key);
        },
    );
}

/// Keys instead of pointers.
fn slab_peer<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let slab = RefCell::new(slab::Slab::<[u64; 8]>::new());
    let take = |_| slab.borrow_mut().insert([1; 8]);
    churn(probe, LIVE, LINE, take, |key, _| {
        slab.borrow_mut().remove(key);
    });
}

/// Makes the objects of `opool`.
struct Lines64;

impl opool::PoolAllocator<Box<[u64; 8]>> for Lines64 {
    fn allocate(&self) -> Box<[u64; 8]> {
        Box::new([0; 8])
    }
}

/// Objects that come back by their guards; moving one in and out is a pointer.
fn opool_peer<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    let pool = opool::LocalPool::new_prefilled(LIVE + 1, Lines64);
    let random = &mut heapwright_testkit::Random::new(1);
    let mut live: Vec<_> = (0..LIVE).map(|_| pool.get()).collect();
    let victims: Vec<u32> = (0..1 << 16).map(|_| random.below(LIVE as u64) as u32).collect();
    probe.each(|index| {
        let at = victims[index % victims.len()] as usize;
        drop(live.swap_remove(at));
        let mut object = pool.get();
        object[0] = 1;
        live.push(object);
    });
}

fn mimalloc<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    churn(probe, LIVE, LINE, mimalloc_take, mimalloc_give);
}

/// A block of mimalloc.
#[inline(always)]
pub(crate) fn mimalloc_take(layout: Layout) -> NonNull<u8> {
    // SAFETY: any size may be asked for.
    let block = unsafe { libmimalloc_sys::mi_malloc(layout.size()) };
    touched(NonNull::new(block.cast()).expect("memory"))
}

/// Gives a block of [`mimalloc_take`] back.
#[inline(always)]
pub(crate) fn mimalloc_give(block: NonNull<u8>, _: Layout) {
    // SAFETY: made above and unused, as callers in this program see to.
    unsafe { libmimalloc_sys::mi_free(block.as_ptr().cast()) };
}

fn system<const LIVE: usize>(probe: &mut Probe<impl Mode>) {
    churn(probe, LIVE, LINE, system_take, system_give);
}

/// A block of the system's allocator.
#[inline(always)]
pub(crate) fn system_take(layout: Layout) -> NonNull<u8> {
    // SAFETY: no size here is 0.
    touched(NonNull::new(unsafe { System.alloc(layout) }).expect("memory"))
}

/// Gives a block of [`system_take`] back.
#[inline(always)]
pub(crate) fn system_give(block: NonNull<u8>, layout: Layout) {
    // SAFETY: made above and unused, as callers in this program see to.
    unsafe { System.dealloc(block.as_ptr(), layout) };
}

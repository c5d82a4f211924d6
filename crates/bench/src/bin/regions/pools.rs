//! Blocks of one size, one thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::ptr::NonNull;

use heapwright_regions::{
    AnonymousPages, CompactingPool, HandlePool, Lines, Pool, SharedPool, Slab, Upstream,
};

use super::floor::List;
use super::measure::{Probe, Sizes, Subject, Workload, churn, ours, peer, touched};

const LINE: Sizes = Sizes::Fixed(64);

pub(crate) fn workloads() -> Vec<Workload> {
    fn subjects<const LIVE: usize>() -> Vec<Subject> {
        vec![
            Subject { name: "floor", package: "", variant: "", run: floor::<LIVE> },
            ours("", pool::<LIVE>),
            ours("bounded", bounded::<LIVE>),
            ours("threads", shared::<LIVE>),
            ours("slab", slab_ours::<LIVE>),
            ours("values", values::<LIVE>),
            ours("compacting", compacting::<LIVE>),
            ours("handles", handles::<LIVE>),
            peer("slab", slab_peer::<LIVE>),
            peer("opool", opool_peer::<LIVE>),
            Subject {
                name: "mimalloc",
                package: "libmimalloc-sys",
                variant: "",
                run: mimalloc::<LIVE>,
            },
            Subject { name: "malloc", package: "", variant: "", run: system::<LIVE> },
        ]
    }
    let workload = |name, subjects| Workload { name, count: 2_000_000, latencies: true, subjects };
    vec![
        workload("pool_64B_1K", subjects::<1000>()),
        workload("pool_64B_100K", subjects::<100_000>()),
    ]
}

fn line() -> Layout {
    Layout::from_size_align(64, 64).expect("a layout")
}

fn floor<const LIVE: usize>(probe: &mut Probe) {
    let list = RefCell::new(List::of(LIVE + 1));
    let list = list.as_ptr();
    // SAFETY: the only reference at that time, in one thread; likewise below.
    let take = |_| touched(unsafe { &mut *list }.take());
    // SAFETY: as above.
    churn(probe, LIVE, LINE, take, |block, _| unsafe { &mut *list }.give(block));
}

fn pool<const LIVE: usize>(probe: &mut Probe) {
    let pool: Pool<_> = Pool::new_in(AnonymousPages, line());
    let take = |_| touched(pool.alloc().expect("memory"));
    // SAFETY: `churn` gives each block back once.
    churn(probe, LIVE, LINE, take, |block, _| unsafe { pool.free(block) });
}

fn bounded<const LIVE: usize>(probe: &mut Probe) {
    let pool = Pool::bounded(Upstream(System), line(), LIVE + 1).expect("memory");
    let take = |_| touched(pool.alloc().expect("bounded by its use"));
    // SAFETY: `churn` gives each block back once.
    churn(probe, LIVE, LINE, take, |block, _| unsafe { pool.free(block) });
}

fn shared<const LIVE: usize>(probe: &mut Probe) {
    let pool = SharedPool::new_in(AnonymousPages, line());
    let local = pool.local();
    let take = |_| touched(local.try_alloc().expect("memory"));
    // SAFETY: `churn` gives each block back once.
    churn(probe, LIVE, LINE, take, |block, _| unsafe { local.free(block) });
}

fn slab_ours<const LIVE: usize>(probe: &mut Probe) {
    let slab = Slab::new_in(AnonymousPages, 1 << 30, Lines::Packed).expect("addresses");
    let take = |layout| touched(slab.try_alloc(layout).expect("memory"));
    // SAFETY: `churn` gives each block back once.
    churn(probe, LIVE, LINE, take, |block, layout| unsafe { slab.free(block, layout) });
}

/// The plain pool with whole values moved in and out, as pools under handles do.
fn values<const LIVE: usize>(probe: &mut Probe) {
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
        let _ = Some(value);
        // SAFETY: `churn` gives each block back once.
        unsafe { pool.free(block.cast()) }
    });
}

/// Handles instead of pointers, and whole values.
fn compacting<const LIVE: usize>(probe: &mut Probe) {
    let pool: CompactingPool<[u64; 8], _> = CompactingPool::new_in(AnonymousPages);
    let take = |_| pool.insert([1; 8]).expect("memory");
    churn(probe, LIVE, LINE, take, |handle, _| {
        pool.remove(handle).expect("live");
    });
}

/// Handles and whole values that stay where they are.
fn handles<const LIVE: usize>(probe: &mut Probe) {
    let pool: RefCell<HandlePool<[u64; 8], _>> = RefCell::new(HandlePool::new_in(AnonymousPages));
    let take = |_| pool.borrow_mut().insert([1; 8]).expect("memory");
    churn(probe, LIVE, LINE, take, |handle, _| {
        pool.borrow_mut().remove(handle).expect("live");
    });
}

/// Keys instead of pointers.
fn slab_peer<const LIVE: usize>(probe: &mut Probe) {
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
fn opool_peer<const LIVE: usize>(probe: &mut Probe) {
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

fn mimalloc<const LIVE: usize>(probe: &mut Probe) {
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

fn system<const LIVE: usize>(probe: &mut Probe) {
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

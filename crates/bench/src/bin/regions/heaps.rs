//! Blocks of many sizes, one thread: slab, tight, buddy and the general heaps.

use std::alloc::Layout;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use allocator_api2::alloc::Allocator;
use heapwright_regions::{
    AnonymousPages, Backing, Buddy, Lazy, Lines, Region, SharedSlab, Slab, Tails, Tight,
};

use super::measure::{
    Mode, Probe, Process, Sizes, Subject, Workload, churn, ours, peer, subject, touched,
};
use super::pools::{mimalloc_give, mimalloc_take, system_give, system_take};

/// Memory of the heaps that have a fixed one: twice what is live at most.
const HEAP_BYTES: usize = 256 << 20;
/// Without huge pages, which ours ask for as they grow and mimalloc does, too.
const PLAIN: Lazy<AnonymousPages> = Lazy::new(AnonymousPages);

pub(crate) fn workloads() -> Vec<Workload> {
    // What to draw: 0 log-uniform, else powers of two up to that.
    fn subjects<const LIVE: usize, const MOST: usize>() -> Vec<Subject> {
        let mimalloc = subject!("mimalloc", "libmimalloc-sys", "", |probe| churn(
            probe,
            LIVE,
            sizes::<MOST>(),
            mimalloc_take,
            mimalloc_give
        ));
        let malloc = subject!("malloc", "", "", |probe| churn(
            probe,
            LIVE,
            sizes::<MOST>(),
            system_take,
            system_give
        ));
        vec![
            ours!("slab", |probe| slab::<LIVE, MOST>(probe, AnonymousPages)),
            ours!("slab, plain pages", |probe| slab::<LIVE, MOST>(probe, PLAIN)),
            ours!("slab threads", shared_slab::<LIVE, MOST>),
            ours!("tight", |probe| tight::<LIVE, MOST>(probe, AnonymousPages)),
            ours!("tight, plain pages", |probe| tight::<LIVE, MOST>(probe, PLAIN)),
            ours!("buddy", |probe| buddy::<LIVE, MOST>(probe, AnonymousPages, Tails::Keep)),
            ours!("buddy, plain pages", |probe| buddy::<LIVE, MOST>(probe, PLAIN, Tails::Keep)),
            ours!("buddy trim", |probe| buddy::<LIVE, MOST>(probe, AnonymousPages, Tails::Trim)),
            mimalloc,
            malloc,
            peer!("talc", talc::<LIVE, MOST>),
            peer!("rlsf", rlsf::<LIVE, MOST>),
            peer!("buddy-alloc", buddy_alloc::<LIVE, MOST>),
            peer!("buddy_system_allocator", buddy_system::<LIVE, MOST>),
            peer!("offset-allocator", offset::<LIVE, MOST>),
        ]
    }
    let workload =
        |name, subjects| Workload { name, count: 1_000_000, process: Process::Shared, subjects };
    vec![
        workload("mixed_16B_4K_1K", subjects::<1000, 0>()),
        workload("mixed_16B_4K_40K", subjects::<40_000, 0>()),
        workload("powers_32B_64K_2500", subjects::<2500, 65536>()),
        workload("powers_32B_4K_20K", subjects::<20_000, 4096>()),
    ]
}

const fn sizes<const MOST: usize>() -> Sizes {
    if MOST == 0 { Sizes::LogUniform } else { Sizes::Powers(MOST) }
}

#[inline(always)]
fn over<R: Region>(probe: &mut Probe<impl Mode>, live: usize, sizes: Sizes, region: &R) {
    let take = |layout| touched(region.try_alloc_block(layout).expect("room"));
    churn(probe, live, sizes, take, |block, layout| {
        // SAFETY: `churn` gives each block back once.
        unsafe { region.free_block(block, layout) }
    });
}

fn slab<const LIVE: usize, const MOST: usize>(probe: &mut Probe<impl Mode>, backing: impl Backing) {
    let slab = Slab::new_in(backing, 1 << 30, Lines::Packed).expect("addresses");
    over(probe, LIVE, sizes::<MOST>(), &slab);
}

fn shared_slab<const LIVE: usize, const MOST: usize>(probe: &mut Probe<impl Mode>) {
    let slab = SharedSlab::new_in(AnonymousPages, 1 << 30, Lines::Packed).expect("addresses");
    over(probe, LIVE, sizes::<MOST>(), &slab.local().expect("a handle"));
}

fn tight<const LIVE: usize, const MOST: usize>(
    probe: &mut Probe<impl Mode>,
    backing: impl Backing,
) {
    let heap: Tight<_> = Tight::new_in(backing, HEAP_BYTES).expect("memory");
    over(probe, LIVE, sizes::<MOST>(), &heap);
}

fn buddy<const LIVE: usize, const MOST: usize>(
    probe: &mut Probe<impl Mode>,
    backing: impl Backing,
    tails: Tails,
) {
    let heap: Buddy<_> = Buddy::new_in(backing, HEAP_BYTES, 32, tails).expect("memory");
    over(probe, LIVE, sizes::<MOST>(), &heap);
}

fn memory() -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::uninit(); HEAP_BYTES]
}

fn talc<const LIVE: usize, const MOST: usize>(probe: &mut Probe<impl Mode>) {
    let mut memory = memory();
    let heap: talc::cell::TalcCell<_, talc::DefaultBinning> =
        talc::cell::TalcCell::new(talc::source::Manual);
    // SAFETY: nobody else uses the buffer while the heap lives.
    unsafe { heap.claim(memory.as_mut_ptr().cast(), memory.len()) }.expect("large enough");
    let take = |layout| touched(heap.allocate(layout).expect("room").cast());
    churn(probe, LIVE, sizes::<MOST>(), take, |block, layout| {
        // SAFETY: `churn` gives each block back once.
        unsafe { heap.deallocate(block, layout) }
    });
}

fn rlsf<const LIVE: usize, const MOST: usize>(probe: &mut Probe<impl Mode>) {
    let mut memory = memory();
    let mut heap = rlsf::Tlsf::<'_, u32, u32, 28, 32>::new();
    heap.insert_free_block(&mut memory);
    let heap = RefCell::new(heap);
    let take = |layout| touched(heap.borrow_mut().allocate(layout).expect("room"));
    churn(probe, LIVE, sizes::<MOST>(), take, |block, layout| {
        // SAFETY: `churn` gives each block back once.
        unsafe { heap.borrow_mut().deallocate(block, layout.align()) }
    });
}

fn buddy_alloc<const LIVE: usize, const MOST: usize>(probe: &mut Probe<impl Mode>) {
    let memory = memory();
    let param =
        buddy_alloc::buddy_alloc::BuddyAllocParam::new(memory.as_ptr().cast(), memory.len(), 32);
    // SAFETY: nobody else uses the buffer while the heap lives.
    let heap = RefCell::new(unsafe { buddy_alloc::buddy_alloc::BuddyAlloc::new(param) });
    let take = |layout: Layout| {
        touched(NonNull::new(heap.borrow_mut().malloc(layout.size())).expect("room"))
    };
    churn(probe, LIVE, sizes::<MOST>(), take, |block, _| heap.borrow_mut().free(block.as_ptr()));
}

fn buddy_system<const LIVE: usize, const MOST: usize>(probe: &mut Probe<impl Mode>) {
    let mut memory = memory();
    let mut heap = buddy_system_allocator::Heap::<32>::new();
    // SAFETY: nobody else uses the buffer while the heap lives.
    unsafe { heap.init(memory.as_mut_ptr().expose_provenance(), memory.len()) };
    let heap = RefCell::new(heap);
    let take = |layout| touched(heap.borrow_mut().alloc(layout).expect("room"));
    churn(probe, LIVE, sizes::<MOST>(), take, |block, layout| {
        // SAFETY: `churn` gives each block back once.
        unsafe { heap.borrow_mut().dealloc(block, layout) }
    });
}

/// Offsets only: blocks are in a buffer beside.
fn offset<const LIVE: usize, const MOST: usize>(probe: &mut Probe<impl Mode>) {
    let mut memory = memory();
    let base = memory.as_mut_ptr();
    let heap = RefCell::new(offset_allocator::Allocator::<u32>::with_max_allocs(
        HEAP_BYTES as u32,
        (2 * LIVE + 1000) as u32,
    ));
    let take = |layout: Layout| {
        let size = layout.size().next_multiple_of(16) as u32;
        let placed = heap.borrow_mut().allocate(size).expect("room");
        // SAFETY: an offset below the length of the buffer.
        let start = unsafe { base.add(placed.offset as usize) };
        touched(NonNull::new(start.cast()).expect("not null"));
        placed
    };
    churn(probe, LIVE, sizes::<MOST>(), take, |placed, _| heap.borrow_mut().free(placed));
}

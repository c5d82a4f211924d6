//! Two threads: each on its own blocks, and one that makes what the other ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::spin_loop;
use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use heapwright_regions::{AnonymousPages, Lines, PoolLocal, SharedPool, SharedSlab, SlabLocal};
use heapwright_testkit::Random;

use super::measure::{Mode, Probe, Process, Workload, ours, peer, subject, touched};

const LIVE: usize = 1000;
const DRAWS: usize = 1 << 14;
const BYTES: usize = 64;

pub(crate) fn workloads() -> Vec<Workload> {
    vec![
        Workload {
            name: "threads_2_own_64B",
            count: 4_000_000,
            process: Process::Shared,
            subjects: vec![
                ours!("pool", own_pool),
                ours!("slab", own_slab),
                subject!("mimalloc", "libmimalloc-sys", "", |probe| churn_on(probe, &Mimalloc)),
                subject!("malloc", "", "", |probe| churn_on(probe, &Malloc)),
                peer!("opool", own_opool),
                peer!("heapless", own_heapless),
                peer!("sharded-slab", own_sharded),
            ],
        },
        Workload {
            name: "threads_producer_consumer_64B",
            count: 2_000_000,
            process: Process::Shared,
            subjects: vec![
                ours!("pool", pass_pool),
                ours!("slab", pass_slab),
                subject!("mimalloc", "libmimalloc-sys", "", |probe| pass_on(probe, &Mimalloc)),
                subject!("malloc", "", "", |probe| pass_on(probe, &Malloc)),
            ],
        },
    ]
}

/// A source of blocks of 64 bytes for many threads.
trait Shared: Sync {
    type Local<'a>: Local
    where
        Self: 'a;
    fn local(&self) -> Self::Local<'_>;
}

/// One thread's way to it.
trait Local {
    fn take(&self) -> NonNull<u8>;
    fn give(&self, block: NonNull<u8>);
}

fn layout() -> Layout {
    Layout::from_size_align(BYTES, 8).expect("a layout")
}

impl Shared for SharedPool<AnonymousPages> {
    type Local<'a> = PoolLocal<'a, AnonymousPages>;
    fn local(&self) -> Self::Local<'_> {
        self.local()
    }
}

impl Local for PoolLocal<'_, AnonymousPages> {
    #[inline(always)]
    fn take(&self) -> NonNull<u8> {
        self.try_alloc().expect("memory")
    }
    #[inline(always)]
    fn give(&self, block: NonNull<u8>) {
        // SAFETY: each block is given back once.
        unsafe { self.free(block) }
    }
}

impl Shared for SharedSlab<AnonymousPages> {
    type Local<'a> = SlabLocal<'a, AnonymousPages>;
    fn local(&self) -> Self::Local<'_> {
        self.local().expect("few handles")
    }
}

impl Local for SlabLocal<'_, AnonymousPages> {
    #[inline(always)]
    fn take(&self) -> NonNull<u8> {
        self.try_alloc(layout()).expect("memory")
    }
    #[inline(always)]
    fn give(&self, block: NonNull<u8>) {
        // SAFETY: each block is given back once.
        unsafe { self.free(block, layout()) }
    }
}

/// mimalloc, which has its threads' heaps itself.
struct Mimalloc;

impl Shared for Mimalloc {
    type Local<'a> = Mimalloc;
    fn local(&self) -> Mimalloc {
        Mimalloc
    }
}

impl Local for Mimalloc {
    #[inline(always)]
    fn take(&self) -> NonNull<u8> {
        // SAFETY: any size may be asked for.
        NonNull::new(unsafe { libmimalloc_sys::mi_malloc(BYTES) }.cast()).expect("memory")
    }
    #[inline(always)]
    fn give(&self, block: NonNull<u8>) {
        // SAFETY: each block is given back once.
        unsafe { libmimalloc_sys::mi_free(block.as_ptr().cast()) }
    }
}

/// The system's.
struct Malloc;

impl Shared for Malloc {
    type Local<'a> = Malloc;
    fn local(&self) -> Malloc {
        Malloc
    }
}

impl Local for Malloc {
    #[inline(always)]
    fn take(&self) -> NonNull<u8> {
        // SAFETY: the size is not 0.
        NonNull::new(unsafe { System.alloc(layout()) }).expect("memory")
    }
    #[inline(always)]
    fn give(&self, block: NonNull<u8>) {
        // SAFETY: each block is given back once.
        unsafe { System.dealloc(block.as_ptr(), layout()) }
    }
}

heapless::box_pool!(Boxes: [u64; 8]);

/// The pool of `heapless`: one for the program, with blocks enough for this workload.
fn own_heapless(probe: &mut Probe<impl Mode>) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for _ in 0..3 * LIVE {
            Boxes.manage(Box::leak(Box::new(heapless::pool::boxed::BoxBlock::new())));
        }
    });
    own_guards(probe, || Boxes.alloc([1; 8]).expect("enough blocks"));
}

/// As `churn_on`, where blocks are objects that go back when they are dropped.
fn own_guards<G>(probe: &mut Probe<impl Mode>, take: impl Fn() -> G + Sync) {
    both(probe, probe.count / 2, |thread, barrier, part| {
        let random = &mut Random::new(thread);
        let victims: Vec<u32> = (0..DRAWS).map(|_| random.below(LIVE as u64) as u32).collect();
        let mut objects: Vec<_> = (0..LIVE).map(|_| take()).collect();
        barrier.wait();
        part.each(|index| {
            drop(objects.swap_remove(victims[index % DRAWS] as usize));
            objects.push(take());
        });
    });
}

fn own_pool(probe: &mut Probe<impl Mode>) {
    churn_on(probe, &SharedPool::new_in(AnonymousPages, layout()));
}

fn own_slab(probe: &mut Probe<impl Mode>) {
    let slab = SharedSlab::new_in(AnonymousPages, 1 << 30, Lines::Packed).expect("addresses");
    churn_on(probe, &slab);
}

fn pass_pool(probe: &mut Probe<impl Mode>) {
    pass_on(probe, &SharedPool::new_in(AnonymousPages, layout()));
}

fn pass_slab(probe: &mut Probe<impl Mode>) {
    let slab = SharedSlab::new_in(AnonymousPages, 1 << 30, Lines::Packed).expect("addresses");
    pass_on(probe, &slab);
}

/// Two threads on blocks of their own; an operation is a free and an alloc by either.
fn churn_on<S: Shared>(probe: &mut Probe<impl Mode>, shared: &S) {
    both(probe, probe.count / 2, |thread, barrier, part| {
        let local = shared.local();
        let random = &mut Random::new(thread);
        let victims: Vec<u32> = (0..DRAWS).map(|_| random.below(LIVE as u64) as u32).collect();
        let mut blocks: Vec<_> = (0..LIVE).map(|_| touched(local.take())).collect();
        barrier.wait();
        part.each(|index| {
            let slot = &mut blocks[victims[index % DRAWS] as usize];
            local.give(*slot);
            *slot = touched(local.take());
        });
        blocks.into_iter().for_each(|block| local.give(block));
    });
}

/// Runs `work` in two threads, each with a part of the probe for `count` operations; the time is
/// the slower one's.
fn both<M: Mode>(
    probe: &mut Probe<M>,
    count: usize,
    work: impl Fn(u64, &Barrier, &mut Probe<M>) + Sync,
) {
    let barrier = Barrier::new(2);
    let parts = [1, 2].map(|thread| (thread, probe.part(count)));
    let done = std::thread::scope(|scope| {
        let (work, barrier) = (&work, &barrier);
        let threads = parts.map(|(thread, mut part)| {
            scope.spawn(move || {
                work(thread, barrier, &mut part);
                part
            })
        });
        threads.map(|thread| thread.join().expect("no panic"))
    });
    probe.join(done);
}

/// Room for so many addresses between two threads, each index on a line of its own.
struct Ring {
    slots: Vec<AtomicUsize>,
}

const RING: usize = 1024;

impl Ring {
    fn new() -> Self {
        Self { slots: (0..RING).map(|_| AtomicUsize::new(0)).collect() }
    }

    #[inline(always)]
    fn put(&self, index: usize, address: usize) {
        let slot = &self.slots[index % RING];
        // Acquire: pairs with the Release in `take`.
        while slot.load(Ordering::Acquire) != 0 {
            spin_loop();
        }
        // Release: pairs with the Acquire in `take`.
        slot.store(address, Ordering::Release);
    }

    #[inline(always)]
    fn take(&self, index: usize) -> usize {
        let slot = &self.slots[index % RING];
        loop {
            // Acquire: pairs with the Release in `put`.
            let address = slot.load(Ordering::Acquire);
            if address != 0 {
                // Release: pairs with the Acquire in `put`.
                slot.store(0, Ordering::Release);
                return address;
            }
            spin_loop();
        }
    }
}

/// One thread makes, the other ends; an operation is one block. Latencies are of the making and of
/// the ending alone: how long the other thread is waited for is its matter.
fn pass_on<S: Shared>(probe: &mut Probe<impl Mode>, shared: &S) {
    let ring = Ring::new();
    both(probe, probe.count, |thread, barrier, part| {
        let local = shared.local();
        barrier.wait();
        let start = Instant::now();
        for index in 0..part.count {
            if thread == 1 {
                let mut block = NonNull::dangling();
                part.run(1, |_| block = touched(local.take()));
                ring.put(index, block.as_ptr().expose_provenance());
            } else {
                let block = core::ptr::with_exposed_provenance_mut(ring.take(index));
                part.run(1, |_| local.give(NonNull::new(block).expect("not null")));
            }
        }
        part.elapsed += start.elapsed();
    });
}

/// Makes the objects of `opool`.
struct Words;

impl opool::PoolAllocator<Box<[u64; 8]>> for Words {
    fn allocate(&self) -> Box<[u64; 8]> {
        Box::new([0; 8])
    }
}

fn own_opool(probe: &mut Probe<impl Mode>) {
    let pool = opool::Pool::new_prefilled(3 * LIVE, Words);
    own_guards(probe, || {
        let mut object = pool.get();
        object[0] = 1;
        object
    });
}

fn own_sharded(probe: &mut Probe<impl Mode>) {
    let slab = sharded_slab::Slab::<[u64; 7]>::new();
    both(probe, probe.count / 2, |thread, barrier, part| {
        let random = &mut Random::new(thread);
        let victims: Vec<u32> = (0..DRAWS).map(|_| random.below(LIVE as u64) as u32).collect();
        let mut keys: Vec<_> = (0..LIVE).map(|_| slab.insert([1; 7]).expect("room")).collect();
        barrier.wait();
        part.each(|index| {
            let slot = &mut keys[victims[index % DRAWS] as usize];
            slab.remove(*slot);
            *slot = slab.insert([1; 7]).expect("room");
        });
    });
}

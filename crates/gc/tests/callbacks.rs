//! The program's code inside collections: what traces panics, helpers really trace, finalisers
//! allocate up to the limit, and a heap goes with all its roots alive.

mod collecting;

use collecting::COLLECTORS;
use heapwright_gc::{
    Config, DynamicRoot, Finalise, Gc, GcCell, Heap, Mutation, Static, Trace, Visitor, rootable,
};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

thread_local! {
    /// Whether the next visits on this thread panic.
    static FAILS: Cell<bool> = const { Cell::new(false) };
}

struct Fragile<'gc> {
    next: GcCell<Option<Gc<'gc, Fragile<'gc>>>>,
}

// SAFETY: visits the only field, unless it panics, which loses the heap.
unsafe impl<'gc> Trace<'gc> for Fragile<'gc> {
    const NEEDS_TRACE: bool = true;
    const HAS_CELLS: bool = true;
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        assert!(!FAILS.get(), "a visit that panics");
        self.next.trace(visitor);
    }
}

type Fragiles<'gc> = [GcCell<Option<Gc<'gc, Fragile<'gc>>>>];
type FragileRoot = rootable!['gc => Option<Gc<'gc, Fragiles<'gc>>>];

#[test]
fn a_panic_while_tracing_loses_the_heap_and_nothing_else() {
    for collector in COLLECTORS {
        for threads in [1, 3] {
            let config = Config { threads, verify: false, ..Config::with(collector) };
            let mut heap = Heap::<FragileRoot>::new(config, |_| None).expect("addresses");
            for _ in 0..2 {
                heap.mutate_root(|mu, root| {
                    let made = mu.alloc_slice(2000, |_| {
                        let inner = mu.alloc(Fragile { next: GcCell::new(None) })?;
                        let node = mu.alloc(Fragile { next: GcCell::new(Some(inner)) })?;
                        Ok(GcCell::new(Some(node)))
                    });
                    *root = made.ok();
                });
                heap.collect();
            }
            FAILS.set(true);
            let result = catch_unwind(AssertUnwindSafe(|| heap.collect()));
            FAILS.set(false);
            // With several threads another one may have visited everything before this one began.
            assert!(result.is_err() || threads > 1, "{collector:?}, {threads} threads");
            let again = catch_unwind(AssertUnwindSafe(|| heap.mutate(|_, root| root.is_some())));
            assert_eq!(again.is_err(), result.is_err(), "{collector:?}: a lost heap says so");
            drop(heap);
        }
    }
}

/// Which threads have visited, and since when that counts.
static SEEN: Mutex<Option<(HashSet<ThreadId>, Instant)>> = Mutex::new(None);
const PATIENCE: Duration = Duration::from_secs(20);
/// So many visits of one thread give the others work.
const ALONE_MAX: usize = 4000;

thread_local! {
    static VISITS: Cell<usize> = const { Cell::new(0) };
}

/// Large enough that a heap of them is worth several threads.
struct Wide<'gc> {
    next: GcCell<Option<Gc<'gc, Wide<'gc>>>>,
    _payload: [u64; 120],
}

// SAFETY: visits the only field with a reference.
unsafe impl<'gc> Trace<'gc> for Wide<'gc> {
    const NEEDS_TRACE: bool = true;
    const HAS_CELLS: bool = true;
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        note_thread();
        self.next.trace(visitor);
    }
}

/// Notes that this thread visits, and waits for another one to do so, too.
fn note_thread() {
    let visits = VISITS.get() + 1;
    VISITS.set(visits);
    loop {
        let mut seen = SEEN.lock().expect("nobody panics with it");
        let Some((seen, begin)) = seen.as_mut() else { return };
        seen.insert(thread::current().id());
        if seen.len() > 1 || visits < ALONE_MAX || begin.elapsed() > PATIENCE {
            return;
        }
        thread::yield_now();
    }
}

#[test]
fn several_threads_trace_when_several_are_asked_for() {
    type Root = rootable!['gc => Option<Gc<'gc, [GcCell<Option<Gc<'gc, Wide<'gc>>>>]>>];
    for collector in COLLECTORS {
        let config = Config {
            threads: 2,
            verify: false,
            nursery_bytes: 64 << 20,
            // A cycle in slices, which one thread does, must not have begun.
            trigger_bytes_min: 256 << 20,
            ..Config::with(collector)
        };
        let mut heap = Heap::<Root>::new(config, |_| None).expect("addresses");
        for round in 0..2 {
            heap.mutate_root(|mu, root| {
                let made = mu.alloc_slice(12_000, |_| {
                    let mut node = None;
                    for _ in 0..2 {
                        let next = GcCell::new(node);
                        node = Some(mu.alloc(Wide { next, _payload: [7; 120] })?);
                    }
                    Ok(GcCell::new(node))
                });
                *root = made.ok();
                assert!(root.is_some(), "in the limit");
            });
            VISITS.set(0);
            // The first shows a generational heap that much survives.
            *SEEN.lock().expect("nobody panics with it") =
                (round == 1).then(|| (HashSet::new(), Instant::now()));
            heap.collect();
        }
        let (seen, _) = SEEN.lock().expect("nobody panics with it").take().expect("was set");
        // A system that refuses threads has its work done by one.
        let is_possible = thread::Builder::new().spawn(|| {}).is_ok_and(|one| one.join().is_ok());
        assert!(seen.len() > 1 || !is_possible, "{collector:?}: {} threads traced", seen.len());
    }
}

#[derive(Trace)]
struct Parting<'gc> {
    home: Gc<'gc, GcCell<Option<Gc<'gc, [u64]>>>>,
    refused: Static<Rc<Cell<bool>>>,
}

impl<'gc> Finalise<'gc> for Parting<'gc> {
    fn finalise(this: Gc<'gc, Self>, mu: &'gc Mutation<'gc>) {
        let numbers = mu.alloc_slice(1000, |index| Ok(index as u64));
        this.home.set(mu, numbers.ok());
        // More than there is room for: an error like any.
        let mut count = 0;
        while mu.alloc([0u64; 512]).is_ok() {
            count += 1;
            assert!(count < 1 << 20, "the limit holds in a finaliser");
        }
        this.refused.0.set(true);
    }
}

#[test]
fn a_finaliser_allocates_up_to_the_limit_and_the_heap_goes_on() {
    type Root = rootable!['gc => Gc<'gc, GcCell<Option<Gc<'gc, [u64]>>>>];
    for collector in COLLECTORS {
        for stress in [false, true] {
            let config =
                Config { stress, limit_bytes: 8 << 20, verify: true, ..Config::with(collector) };
            let mut heap =
                Heap::<Root>::new(config, |mu| mu.alloc(GcCell::new(None)).expect("room"))
                    .expect("addresses");
            let refused = Rc::new(Cell::new(false));
            heap.mutate(|mu, home| {
                let parting = Parting { home: *home, refused: Static(refused.clone()) };
                mu.alloc_finalised(parting).map(|_| ()).expect("room");
            });
            heap.collect();
            assert!(refused.get(), "{collector:?}: ran, and was refused");
            heap.collect();
            heap.mutate(|_, home| {
                let numbers = home.get().expect("was stored");
                assert!(numbers.iter().copied().eq(0..1000), "{collector:?}");
            });
            let statistics = heap.statistics();
            assert!(statistics.occupied_bytes <= 8 << 20 && statistics.refusals > 0);
            // There is room again.
            heap.mutate(|mu, _| assert!(mu.alloc_slice(100_000, |_| Ok(0u64)).is_ok()));
        }
    }
}

struct Tell(Rc<RefCell<Vec<u32>>>, u32);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1);
    }
}

#[test]
fn a_heap_that_goes_with_its_roots_alive_runs_each_destructor_once() {
    type Held = rootable!['gc => Static<Tell>];
    type Root = rootable!['gc => Option<Gc<'gc, Static<Tell>>>];
    for collector in COLLECTORS {
        let told = Rc::new(RefCell::new(Vec::new()));
        let tell = |number| Static(Tell(told.clone(), number));
        let mut heap =
            Heap::<Root>::new(Config::with(collector), |mu| mu.alloc(tell(1)).ok()).expect("room");
        let held: DynamicRoot<Held> =
            heap.mutate(|mu, _| mu.stash(mu.alloc(tell(2)).expect("room"))).expect("room");
        heap.collect();
        heap.mutate(|mu, _| mu.alloc(tell(3)).map(|_| ()).expect("room"));
        assert!(told.borrow().is_empty(), "{collector:?}");
        drop(heap);
        told.borrow_mut().sort_unstable();
        assert_eq!(*told.borrow(), [1, 2, 3], "{collector:?}");
        drop(held);
        assert_eq!(told.borrow().len(), 3, "{collector:?}: a handle that is left does nothing");
    }
}

//! Finalisers, identity, pinned objects and external bytes on every collector.

mod collecting;

use collecting::COLLECTORS;
use heapwright_gc::{
    Config, External, Finalise, Gc, GcCell, GcWeak, Heap, Mutation, Static, Trace, rootable,
};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

type Link<'gc> = Option<Gc<'gc, File<'gc>>>;

/// What finalisers did: the name of each, with the name of the file it refers to.
type Log = Rc<RefCell<Vec<(u32, Option<u32>)>>>;

#[derive(Trace)]
struct File<'gc> {
    name: u32,
    next: GcCell<Link<'gc>>,
    /// Where the finaliser puts its file, if it is to live on.
    home: Option<Gc<'gc, GcCell<Link<'gc>>>>,
    log: Static<Log>,
}

impl<'gc> Finalise<'gc> for File<'gc> {
    fn finalise(this: Gc<'gc, Self>, mutation: &'gc Mutation<'gc>) {
        let next = this.next.get().map(|next| next.name);
        this.log.0.borrow_mut().push((this.name, next));
        // A finaliser may allocate.
        let text = mutation.alloc_str("finalised").expect("room");
        assert_eq!(&*text, "finalised");
        if let Some(home) = this.home {
            home.set(mutation, Some(this));
        }
        assert!(this.name != 13, "an unlucky finaliser");
    }
}

#[derive(Trace)]
struct Root<'gc> {
    home: Gc<'gc, GcCell<Link<'gc>>>,
    kept: GcCell<Link<'gc>>,
    weak: GcCell<Option<GcWeak<'gc, File<'gc>>>>,
}

fn heap(config: Config) -> Heap<rootable!['gc => Root<'gc>]> {
    Heap::new(config, |mu| Root {
        home: mu.alloc(GcCell::new(None)).expect("room"),
        kept: GcCell::new(None),
        weak: GcCell::new(None),
    })
    .expect("addresses")
}

fn file<'gc>(mu: &'gc Mutation<'gc>, name: u32, next: Link<'gc>, log: &Log) -> Gc<'gc, File<'gc>> {
    let next = GcCell::new(next);
    mu.alloc_finalised(File { name, next, home: None, log: Static(log.clone()) }).expect("room")
}

fn configs() -> impl Iterator<Item = (String, Config)> {
    COLLECTORS.into_iter().flat_map(|collector| {
        [false, true].map(|stress| {
            let config = Config { stress, verify: true, ..Config::with(collector) };
            (format!("{collector:?}, stress {stress}"), config)
        })
    })
}

#[test]
fn finalisers_run_once_in_the_order_of_allocation_on_whole_objects() {
    for (name, config) in configs() {
        let log = Log::default();
        let mut heap = heap(config);
        heap.mutate(|mu, root| {
            let first = file(mu, 1, None, &log);
            // 2 and 3 refer to each other, and 2 to 1 by way of 3.
            let second = file(mu, 2, None, &log);
            let third = file(mu, 3, Some(second), &log);
            second.next.set(mu, Some(third));
            root.kept.set(mu, Some(file(mu, 4, Some(first), &log)));
        });
        heap.collect();
        heap.collect();
        assert_eq!(*log.borrow(), [(2, Some(3)), (3, Some(2))], "{name}");
        heap.mutate(|mu, root| root.kept.set(mu, None));
        heap.collect();
        heap.collect();
        assert_eq!(log.borrow()[2..], [(1, None), (4, Some(1))], "{name}");
        assert_eq!(heap.verify().0, 1, "{name}: only the root's cell is left");
        drop(heap);
        assert_eq!(log.borrow().len(), 4, "{name}: not again when the heap is dropped");
    }
}

#[test]
fn what_a_finaliser_stores_lives_on_and_is_not_finalised_again() {
    for (name, config) in configs() {
        let log = Log::default();
        let mut heap = heap(config);
        heap.mutate(|mu, root| {
            let (next, home) = (GcCell::new(None), Some(root.home));
            let file = File { name: 7, next, home, log: Static(log.clone()) };
            let file = mu.alloc_finalised(file).expect("room");
            root.weak.set(mu, mu.alloc_weak(file).ok());
        });
        heap.collect();
        assert_eq!(*log.borrow(), [(7, None)], "{name}");
        heap.collect();
        heap.mutate(|mu, root| {
            let kept = root.home.get().unwrap_or_else(|| panic!("{name}: it was stored"));
            assert_eq!(kept.name, 7);
            let weak = root.weak.get().and_then(|weak| weak.upgrade(mu));
            assert!(weak.is_some_and(|weak| weak.ptr_eq(kept)), "{name}: it never died");
            root.home.set(mu, None);
        });
        heap.collect();
        heap.collect();
        let upgraded =
            heap.mutate(|mu, root| root.weak.get().and_then(|weak| weak.upgrade(mu)).is_some());
        assert!(!upgraded, "{name}: now it is dead");
        assert_eq!(log.borrow().len(), 1, "{name}");
    }
}

#[test]
fn a_panic_in_a_finaliser_leaves_the_heap_and_the_other_finalisers() {
    for collector in COLLECTORS {
        let log = Log::default();
        let mut heap = heap(Config::with(collector));
        heap.mutate(|mu, _| {
            for name in [12, 13, 14] {
                file(mu, name, None, &log);
            }
        });
        assert!(catch_unwind(AssertUnwindSafe(|| heap.collect())).is_err());
        assert_eq!(log.borrow().len(), 2, "{collector:?}: the third has not run");
        heap.mutate(|_, _| ());
        let names: Vec<u32> = log.borrow().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [12, 13, 14], "{collector:?}");
    }
}

#[test]
fn an_identity_stays_with_its_object_and_is_never_given_again() {
    type Many = rootable!['gc => GcCell<Option<Gc<'gc, [Gc<'gc, u64>]>>>];
    for collector in COLLECTORS {
        let mut heap =
            Heap::<Many>::new(Config::with(collector), |_| GcCell::new(None)).expect("addresses");
        let identities = |heap: &mut Heap<Many>| {
            heap.mutate(|mu, root| {
                let objects = root.get().expect("was stored");
                objects.iter().map(|one| mu.identity(*one).expect("room")).collect::<Vec<_>>()
            })
        };
        heap.mutate(|mu, root| {
            // Garbage between them, so that everything moves.
            let one = |index| {
                let _ = mu.alloc([0u64; 3])?;
                mu.alloc(index as u64)
            };
            root.set(mu, mu.alloc_slice(500, one).ok());
        });
        let before = identities(&mut heap);
        heap.collect();
        assert_eq!(identities(&mut heap), before, "{collector:?}");
        heap.mutate(|mu, root| {
            root.set(mu, mu.alloc_slice(500, |index| mu.alloc(index as u64)).ok());
        });
        heap.collect();
        heap.collect();
        let after = identities(&mut heap);
        assert!(after.iter().all(|number| !before.contains(number)), "{collector:?}: others");
        heap.collect();
        assert_eq!(identities(&mut heap), after, "{collector:?}");
    }
}

#[test]
fn a_pinned_object_keeps_its_address_and_what_it_refers_to() {
    #[derive(Trace)]
    struct Pinned<'gc> {
        next: GcCell<Option<Gc<'gc, u64>>>,
        own: u64,
    }
    for (name, config) in configs() {
        let mut heap = Heap::<rootable!['gc => Option<Gc<'gc, Pinned<'gc>>>]>::new(config, |mu| {
            let next = GcCell::new(mu.alloc(5).ok());
            mu.alloc_pinned(Pinned { next, own: 6 }).ok()
        })
        .expect("addresses");
        let address = heap.mutate(|_, root| root.expect("room").address());
        for value in 0..10 {
            heap.collect();
            heap.mutate(|mu, root| {
                let pinned = root.expect("room");
                assert_eq!((pinned.address(), pinned.own), (address, 6), "{name}");
                assert_eq!(pinned.next.get().map(|next| *next), Some(value + 5), "{name}");
                // An old object gets a young reference.
                pinned.next.set(mu, mu.alloc(value + 6).ok());
            });
        }
        // Nothing but the pinned object is left.
        heap.mutate(|mu, root| root.expect("room").next.set(mu, None));
        heap.collect();
        heap.collect();
        assert_eq!(heap.verify().0, 1, "{name}");
        heap.mutate_root(|_, root| *root = None);
        heap.collect();
        assert_eq!(heap.verify().0, 0, "{name}");
        assert_eq!(heap.statistics().live_bytes, 0, "{name}: its page is free");
    }
}

#[test]
fn external_bytes_count_towards_the_limit_until_their_owner_dies() {
    for collector in COLLECTORS {
        let config = Config { limit_bytes: 8 << 20, ..Config::with(collector) };
        let mut heap =
            Heap::<rootable!['gc => GcCell<Option<Gc<'gc, External>>>]>::new(config, |_| {
                GcCell::new(None)
            })
            .expect("addresses");
        heap.mutate(|mu, root| {
            let counted = mu.external(7 << 20).expect("room");
            assert_eq!(counted.bytes(), 7 << 20);
            root.set(mu, mu.alloc(counted).ok());
        });
        heap.collect();
        let refused = heap.mutate(|mu, _| mu.external(2 << 20).is_err());
        assert!(refused, "{collector:?}: over the limit");
        assert_eq!(heap.refusal().map(|refusal| refusal.requested_bytes), Some(2 << 20));
        heap.mutate(|mu, root| root.set(mu, None));
        heap.collect();
        assert!(heap.mutate(|mu, _| mu.external(2 << 20).is_ok()), "{collector:?}: it is dead");
    }
}

#[test]
fn a_heap_lives_and_ends_on_any_thread() {
    let log = std::thread::spawn(|| {
        type Kept = RefCell<Option<Heap<rootable!['gc => u32]>>>;
        thread_local! {
            static KEPT: Kept = const { RefCell::new(None) };
        }
        // Dropped by the thread's exit.
        KEPT.with_borrow_mut(|kept| {
            let mut heap =
                Heap::new(Config::default(), |mu| mu.alloc(3u32).map_or(0, |three| *three))
                    .expect("addresses");
            heap.collect();
            let root = heap.mutate(|_, root| *root);
            *kept = Some(heap);
            root
        })
    });
    assert_eq!(log.join().ok(), Some(3));
}

//! Weak references and ephemerons on every collector.

mod collecting;

use collecting::COLLECTORS;
use heapwright_gc::{
    Collector, Config, Ephemeron, Gc, GcCell, GcWeak, Heap, Trace, WeakMap, rootable,
};

#[derive(Trace)]
struct Node<'gc> {
    value: u64,
    /// Padding of three lines, so that objects do not share any.
    _lines: [u64; 48],
    link: GcCell<Option<Gc<'gc, Node<'gc>>>>,
}

type Link<'gc> = Option<Gc<'gc, Node<'gc>>>;
type Entry<'gc> = Ephemeron<'gc, Node<'gc>, Node<'gc>>;

#[derive(Trace)]
struct Root<'gc> {
    strong: GcCell<Link<'gc>>,
    moved: GcCell<Link<'gc>>,
    weak: GcCell<Option<GcWeak<'gc, Node<'gc>>>>,
    entries: GcCell<Option<Gc<'gc, [Entry<'gc>]>>>,
}

type Rooted = rootable!['gc => Root<'gc>];

fn heap(config: Config) -> Heap<Rooted> {
    Heap::new(config, |_| Root {
        strong: GcCell::new(None),
        moved: GcCell::new(None),
        weak: GcCell::new(None),
        entries: GcCell::new(None),
    })
    .expect("addresses")
}

fn node<'gc>(mu: &heapwright_gc::Mutation<'gc>, value: u64, link: Link<'gc>) -> Gc<'gc, Node<'gc>> {
    mu.alloc(Node { value, _lines: [value; 48], link: GcCell::new(link) }).expect("room")
}

fn configs() -> impl Iterator<Item = Config> {
    COLLECTORS.into_iter().flat_map(|collector| {
        [false, true].map(|stress| Config { stress, ..Config::with(collector) })
    })
}

/// Allocates until minor collections and slices have run, then collects everything twice.
fn churn(heap: &mut Heap<Rooted>) {
    for value in 0..200 {
        heap.mutate(|mu, _| node(mu, value, None).value);
    }
    heap.collect();
    heap.collect();
}

#[test]
fn a_weak_reference_follows_its_object_and_ends_with_it() {
    for config in configs() {
        let name = format!("{:?}, stress {}", config.collector, config.stress);
        let mut heap = heap(Config { nursery_bytes: 64 << 10, ..config });
        heap.mutate(|mu, root| {
            let node = node(mu, 5, None);
            root.strong.set(mu, Some(node));
            root.weak.set(mu, mu.alloc_weak(node).ok());
        });
        churn(&mut heap);
        heap.mutate(|mu, root| {
            let weak = root.weak.get().expect("is reachable").upgrade(mu).expect("its node lives");
            assert!(weak.ptr_eq(root.strong.get().unwrap()), "{name}");
            assert_eq!((weak.value, weak._lines), (5, [5; 48]), "{name}");
            root.strong.set(mu, None);
        });
        churn(&mut heap);
        let upgraded = heap.mutate(|mu, root| root.weak.get().unwrap().upgrade(mu).is_some());
        assert!(!upgraded, "{name}: the node is dead");
    }
}

#[test]
fn a_chain_of_ephemerons_lives_as_long_as_its_first_key() {
    const COUNT: u64 = 40;
    for config in configs() {
        let name = format!("{:?}, stress {}", config.collector, config.stress);
        let mut heap = heap(Config { nursery_bytes: 64 << 10, ..config });
        heap.mutate(|mu, root| {
            let mut keys = vec![node(mu, 0, None)];
            root.strong.set(mu, Some(keys[0]));
            // The value of each is the key of the next; and refers back to its own key, which
            // would keep both for ever in a map of strong references.
            for value in 1..=COUNT {
                keys.push(node(mu, value, keys.last().copied()));
            }
            // Against the order of the chain, where one pass is not enough.
            let entries = mu.alloc_slice(COUNT as usize, |index| {
                let key = COUNT as usize - 1 - index;
                mu.alloc_ephemeron(keys[key], keys[key + 1])
            });
            root.entries.set(mu, entries.ok());
        });
        churn(&mut heap);
        heap.mutate(|mu, root| {
            for (entry, value) in root.entries.get().unwrap().iter().rev().zip(1..) {
                let (key, found) = entry.get(mu).unwrap_or_else(|| panic!("{name}: {value} died"));
                assert_eq!((key.value, found.value), (value - 1, value), "{name}");
                assert!(found.link.get().is_some_and(|link| link.ptr_eq(key)), "{name}");
            }
            root.strong.set(mu, None);
        });
        churn(&mut heap);
        heap.mutate(|mu, root| {
            let left =
                root.entries.get().unwrap().iter().filter(|one| one.get(mu).is_some()).count();
            assert_eq!(left, 0, "{name}: nothing but the entries refers to the keys");
        });
    }
}

#[test]
fn a_weak_reference_made_strong_while_marking_survives() {
    let config = Config {
        slice_us: 0,
        trigger_bytes_min: 1 << 20,
        verify: true,
        ..Config::with(Collector::Incremental)
    };
    let mut heap = heap(config);
    // Long enough that a slice of no time does not mark it.
    for value in (0..1_000).rev() {
        heap.mutate(|mu, root| {
            if value == 999 {
                // Nothing else refers to it; no cycle has ended yet to notice.
                root.weak.set(mu, mu.alloc_weak(node(mu, 1_000, None)).ok());
            }
            root.strong.set(mu, Some(node(mu, value, root.strong.get())));
        });
    }
    while heap.statistics().slices < 3 {
        heap.mutate(|mu, _| node(mu, 0, None).value);
    }
    assert_eq!(heap.statistics().full_collections, 0, "the cycle still marks");
    heap.mutate(|mu, root| {
        // The snapshot did not have it.
        root.moved.set(mu, root.weak.get().unwrap().upgrade(mu));
    });
    while heap.statistics().full_collections == 0 {
        heap.mutate(|mu, _| node(mu, 0, None).value);
    }
    let value = heap.mutate(|_, root| root.moved.get().map(|node| node.value));
    assert_eq!(value, Some(1_000));
}

#[test]
fn a_weak_map_forgets_what_nobody_else_knows() {
    #[derive(Trace)]
    struct Table<'gc> {
        keys: GcCell<Option<Gc<'gc, [Gc<'gc, u64>]>>>,
        map: WeakMap<'gc, u64, (Gc<'gc, u64>, u64)>,
    }
    const COUNT: usize = 300;
    for collector in COLLECTORS {
        for stress in [false, true] {
            let config = Config { stress, nursery_bytes: 64 << 10, ..Config::with(collector) };
            let name = format!("{collector:?}, stress {stress}");
            let mut heap = Heap::<rootable!['gc => Table<'gc>]>::new(config, |mu| Table {
                keys: GcCell::new(mu.alloc_slice(COUNT, |index| mu.alloc(index as u64)).ok()),
                map: WeakMap::new(mu).expect("room"),
            })
            .expect("addresses");
            for index in 0..COUNT {
                heap.mutate(|mu, table| {
                    let key = table.keys.get().expect("was stored")[index];
                    // The value refers to its key.
                    let value = mu.alloc((key, 2 * index as u64))?;
                    table.map.insert(mu, key, value)
                })
                .expect("room");
            }
            heap.collect();
            heap.mutate(|mu, table| {
                let keys = table.keys.get().expect("was stored");
                for (index, key) in keys.iter().enumerate() {
                    let value = table.map.get(mu, *key).unwrap_or_else(|| panic!("{name}"));
                    assert!(value.0.ptr_eq(*key) && value.1 == 2 * index as u64, "{name}");
                }
                assert!(table.map.remove(mu, keys[7]).is_some_and(|value| value.1 == 14));
                assert!(table.map.get(mu, keys[7]).is_none(), "{name}");
                assert_eq!(table.map.live_len(mu), COUNT - 1, "{name}");
                // A third of the keys stays.
                let some = mu.alloc_slice(COUNT / 3, |index| Ok(keys[3 * index]));
                table.keys.set(mu, some.ok());
            });
            heap.collect();
            heap.collect();
            heap.mutate(|mu, table| {
                assert_eq!(table.map.live_len(mu), COUNT / 3, "{name}");
                let key = table.keys.get().expect("was stored")[11];
                assert!(table.map.get(mu, key).is_some_and(|value| value.1 == 66), "{name}");
            });
        }
    }
}

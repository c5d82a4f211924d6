//! Evacuation: random programs whose objects may all move, so that blocks are emptied while the
//! program goes on, against a model of the graph.

use heapwright_gc::{
    Collector, Config, Gc, GcCell, GcRefCell, GcWeak, Heap, Statistics, Trace, rootable,
};
use heapwright_testkit::Random;
use std::collections::HashMap;

const COLLECTORS: [Collector; 3] =
    [Collector::MarkSweep, Collector::Generational, Collector::Incremental];
/// Nodes that the root's table names.
const PLACES: usize = 300;

type Link<'gc> = Option<Gc<'gc, Node<'gc>>>;

/// The bytes of a reference are those of a number at times.
#[derive(Clone, Copy, Trace)]
enum Value<'gc> {
    Number(u64),
    To(Gc<'gc, Node<'gc>>),
}

/// No type here has a destructor, so that nothing has to stay.
#[derive(Trace)]
struct Node<'gc> {
    name: u64,
    fields: [GcCell<Link<'gc>>; 2],
    both: GcRefCell<[Link<'gc>; 2]>,
    value: GcCell<Value<'gc>>,
    many: GcCell<Option<Gc<'gc, [GcCell<Link<'gc>>]>>>,
}

#[derive(Trace)]
struct Table<'gc> {
    places: GcCell<Option<Gc<'gc, [GcCell<Link<'gc>>]>>>,
    weak: GcCell<Option<GcWeak<'gc, Node<'gc>>>>,
}

type Root = rootable!['gc => Table<'gc>];

/// What a node should look like; references are names.
#[derive(Clone, Default)]
struct Model {
    fields: [Option<u64>; 2],
    both: [Option<u64>; 2],
    value: Option<u64>,
    many: Vec<Option<u64>>,
}

struct World {
    heap: Heap<Root>,
    model: HashMap<u64, Model>,
    places: Vec<Option<u64>>,
    weak: Option<u64>,
    next: u64,
    random: Random,
}

fn table<'gc>(root: &'gc Table<'gc>) -> &'gc [GcCell<Link<'gc>>] {
    root.places.get().expect("was stored").reference()
}

impl World {
    fn new(config: Config, seed: u64) -> Self {
        let mut heap = Heap::<Root>::new(config, |_| Table {
            places: GcCell::new(None),
            weak: GcCell::new(None),
        })
        .expect("addresses");
        heap.mutate(|mu, root| {
            let places = mu.alloc_slice(PLACES, |_| Ok(GcCell::new(None)));
            root.places.set(mu, Some(places.expect("room")));
        });
        Self {
            heap,
            model: HashMap::new(),
            places: vec![None; PLACES],
            weak: None,
            next: 0,
            random: Random::new(seed),
        }
    }

    fn place(&mut self) -> usize {
        self.random.below(PLACES as u64) as usize
    }

    /// A new node in a random place, which refers to those of others from the beginning.
    fn make(&mut self) {
        let [to, a, b, c] = std::array::from_fn(|_| self.place());
        // Few references to older nodes, so that most of those die.
        let len = if self.random.below(4) == 0 { 14 + self.random.below(100) as usize } else { 0 };
        let is_linked: [bool; 2] = std::array::from_fn(|_| self.random.below(6) == 0);
        let (name, is_number) = (self.next, self.random.below(6) != 0);
        self.next += 1;
        self.heap.mutate(|mu, root| {
            let places = table(root);
            let many = (len > 0).then(|| {
                mu.alloc_slice(len, |index| Ok(GcCell::new(places[a].get().filter(|_| index == 9))))
                    .expect("room")
            });
            let value = match places[c].get().filter(|_| !is_number) {
                Some(node) => Value::To(node),
                None => Value::Number(name),
            };
            let node = mu.alloc(Node {
                name,
                fields: [GcCell::new(places[a].get().filter(|_| is_linked[0])), GcCell::new(None)],
                both: GcRefCell::new([places[b].get().filter(|_| is_linked[1]), None]),
                value: GcCell::new(value),
                many: GcCell::new(many),
            });
            places[to].set(mu, node.ok());
        });
        self.model.insert(
            name,
            Model {
                fields: [self.places[a].filter(|_| is_linked[0]), None],
                both: [self.places[b].filter(|_| is_linked[1]), None],
                value: self.places[c].filter(|_| !is_number),
                many: (0..len).map(|index| self.places[a].filter(|_| index == 9)).collect(),
            },
        );
        self.places[to] = Some(name);
    }

    /// Writes into an old node in one of all ways.
    fn write(&mut self) {
        let [from, to] = std::array::from_fn(|_| self.place());
        let (how, at) = (self.random.below(5), self.random.below(2) as usize);
        let Some(owner) = self.places[from] else { return };
        let is_cut = self.random.below(3) != 0;
        let target = self.places[to].filter(|_| !is_cut);
        let number = self.random.below(u64::MAX);
        self.heap.mutate(|mu, root| {
            let node = table(root)[from].get().expect("as the model says");
            let target = table(root)[to].get().filter(|_| !is_cut);
            match (how, target, node.many.get()) {
                (0, ..) => node.fields[at].set(mu, target),
                (1, ..) => node.both.borrow_mut(mu)[at] = target,
                (2, Some(target), _) => node.value.set(mu, Value::To(target)),
                (3, ..) => {
                    // What was the address of an object is a number from now on.
                    let before = node.value.replace(mu, Value::Number(number));
                    if let Value::To(node) = before {
                        let bits = node.address() as u64;
                        table(root)[from].get().unwrap().value.set(mu, Value::Number(bits));
                    }
                }
                (4, _, Some(many)) => many[many.len() / 2].set(mu, target),
                _ => {}
            }
        });
        let model = self.model.get_mut(&owner).expect("has a model");
        match how {
            0 => model.fields[at] = target,
            1 => model.both[at] = target,
            2 if target.is_some() => model.value = target,
            3 => model.value = None,
            4 if !model.many.is_empty() => {
                let middle = model.many.len() / 2;
                model.many[middle] = target;
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..6 => self.make(),
            6..14 => self.write(),
            14 => {
                let to = self.place();
                self.places[to] = None;
                self.heap.mutate(|mu, root| table(root)[to].set(mu, None));
            }
            15 => {
                let from = self.place();
                self.weak = self.places[from];
                self.heap.mutate(|mu, root| {
                    let weak = table(root)[from].get().map(|node| mu.alloc_weak(node).unwrap());
                    root.weak.set(mu, weak);
                });
            }
            16 => {
                // A slice that is given up half-way leaves a gap in the hole.
                self.heap.mutate(|mu, root| {
                    let from = table(root)[0].get();
                    let made = mu.alloc_slice(9, |index| match index {
                        7 => Err(heapwright_gc::LimitReached),
                        _ => Ok(GcCell::new(from)),
                    });
                    assert!(made.is_err());
                });
            }
            // Garbage, so that what lives is spread over many blocks.
            _ => self.heap.mutate(|mu, _| {
                (0..40).for_each(|_| assert!(mu.alloc([1u64; 12]).is_ok()));
            }),
        }
    }

    fn compare(&mut self) {
        let Self { heap, model, places, weak, .. } = self;
        let mut seen: HashMap<u64, usize> = HashMap::new();
        heap.mutate(|mu, root| {
            let mut grey = Vec::new();
            for (cell, name) in table(root).iter().zip(places.iter()) {
                assert_eq!(cell.get().map(|node| node.name), *name, "a place");
                grey.extend(cell.get());
            }
            if let Some(node) = root.weak.get().and_then(|weak| weak.upgrade(mu)) {
                assert_eq!(Some(node.name), *weak);
            }
            let check = |link: Link<'_>, name: Option<u64>| {
                assert_eq!(link.map(|node| node.name), name);
            };
            while let Some(node) = grey.pop() {
                if let Some(address) = seen.insert(node.name, node.address()) {
                    assert_eq!(address, node.address(), "two copies of {}", node.name);
                    continue;
                }
                let model = &model[&node.name];
                for (cell, name) in node.fields.iter().zip(model.fields) {
                    check(cell.get(), name);
                    grey.extend(cell.get());
                }
                for (link, name) in node.both.borrow().iter().zip(model.both) {
                    check(*link, name);
                    grey.extend(*link);
                }
                match node.value.get() {
                    Value::To(to) => {
                        check(Some(to), model.value);
                        grey.push(to);
                    }
                    Value::Number(_) => assert_eq!(model.value, None),
                }
                let many = node.many.get().map_or(&[][..], |many| many.reference());
                assert_eq!(many.len(), model.many.len());
                for (cell, name) in many.iter().zip(&model.many) {
                    check(cell.get(), *name);
                    grey.extend(cell.get());
                }
            }
        });
        model.retain(|name, _| seen.contains_key(name));
    }
}

fn run(collector: Collector, evacuate_percent: u8, threads: usize, seed: u64) -> Statistics {
    let config = Config {
        trigger_bytes_min: 96 << 10,
        growth_percent: 130,
        nursery_bytes: 64 << 10,
        limit_bytes: 64 << 20,
        slice_us: 40 + 20 * seed,
        evacuate_percent,
        threads,
        ..Config::with(collector)
    };
    let mut world = World::new(config, seed);
    // However slow the machine makes the slices, some cycles end.
    let mut step = 0;
    while step < 4000 || step < 200_000 && world.heap.statistics().full_collections < 6 {
        world.step();
        if step % 50 == 0 {
            world.compare();
        }
        step += 1;
    }
    world.heap.collect();
    world.compare();
    world.heap.statistics()
}

#[test]
fn random_programs_agree_with_the_model_while_blocks_are_emptied() {
    for collector in COLLECTORS {
        for (threads, seeds) in [(1, 0..3), (3, 3..5)] {
            let mut blocks = 0;
            for seed in seeds {
                let statistics = run(collector, 50, threads, seed);
                assert!(statistics.full_collections > 2, "{collector:?}: {statistics:?}");
                blocks += statistics.evacuated_blocks;
            }
            assert!(blocks > 0, "{collector:?}, {threads} threads, emptied no block");
        }
    }
}

#[test]
fn nothing_moves_in_the_old_space_when_evacuation_is_off() {
    let statistics = run(Collector::Incremental, 0, 1, 1);
    assert_eq!((statistics.evacuated_blocks, statistics.evacuated_bytes), (0, 0));
}

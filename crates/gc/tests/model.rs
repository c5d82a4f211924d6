//! Random programs on every collector against a model with exact reachability.

use heapwright_gc::{
    Collector, Config, DynamicRoot, Gc, GcCell, GcRefCell, Heap, Trace, rootable, unsize,
};
use heapwright_testkit::Random;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

const FIELDS: usize = 3;
const GLOBALS: usize = 8;

type Link<'gc> = Option<Gc<'gc, Node<'gc>>>;

/// Counts destructors, by name of the object.
struct Tally(u64, Rc<Dropped>);

#[derive(Default)]
struct Dropped {
    count: Cell<u64>,
    last: Cell<u64>,
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.1.count.set(self.1.count.get() + 1);
        self.1.last.set(self.0);
    }
}

trait Named {
    fn name(&self) -> u64;
}

#[derive(Trace)]
struct Label(u64);

impl Named for Label {
    fn name(&self) -> u64 {
        self.0
    }
}

#[derive(Trace)]
enum Extra<'gc> {
    Nothing,
    Text(Gc<'gc, str>),
    Numbers { items: Gc<'gc, [u64]> },
    Named(Gc<'gc, dyn Named>),
    Many(Gc<'gc, [GcCell<Link<'gc>>]>),
}

#[derive(Trace)]
struct Node<'gc> {
    name: u64,
    fields: [GcCell<Link<'gc>>; FIELDS],
    list: GcRefCell<Vec<Gc<'gc, Node<'gc>>>>,
    extra: Extra<'gc>,
    tally: Option<heapwright_gc::Static<Tally>>,
}

#[derive(Trace)]
struct Globals<'gc> {
    nodes: [GcCell<Link<'gc>>; GLOBALS],
}

type Root = rootable!['gc => Globals<'gc>];
type Held = rootable!['gc => Node<'gc>];

/// What a node should look like.
#[derive(Clone, Default)]
struct Model {
    fields: [Option<u64>; FIELDS],
    list: Vec<u64>,
    many: Vec<Option<u64>>,
    kind: u64,
    is_counted: bool,
}

struct World {
    heap: Heap<Root>,
    model: HashMap<u64, Model>,
    globals: [Option<u64>; GLOBALS],
    held: Vec<(u64, DynamicRoot<Held>)>,
    dropped: Rc<Dropped>,
    counted: u64,
    next: u64,
    random: Source,
}

/// What decides: a generator, or the bytes of a fuzzer.
enum Source {
    Random(Random),
    Bytes { bytes: Vec<u8>, at: usize },
}

impl Source {
    /// A number below `bound`; 0 when the bytes are used up.
    fn below(&mut self, bound: u64) -> u64 {
        match self {
            Self::Random(random) => random.below(bound),
            Self::Bytes { bytes, at } => {
                *at += 1;
                bytes.get(*at - 1).map_or(0, |byte| u64::from(*byte) * bound / 256)
            }
        }
    }

    fn log_uniform(&mut self, least: u64, most: u64) -> u64 {
        match self {
            Self::Random(random) => random.log_uniform(least, most),
            Self::Bytes { .. } => (least << self.below(11)).min(most),
        }
    }
}

impl World {
    fn new(config: Config, random: Source) -> Self {
        let heap =
            Heap::new(config, |_| Globals { nodes: std::array::from_fn(|_| GcCell::new(None)) });
        Self {
            heap: heap.expect("addresses"),
            model: HashMap::new(),
            globals: [None; GLOBALS],
            held: Vec::new(),
            dropped: Rc::default(),
            counted: 0,
            next: 0,
            random,
        }
    }

    /// Makes a node of a random kind, whose fields are globals, and makes it a global.
    fn make(&mut self) {
        let name = self.next;
        self.next += 1;
        let to = self.random.below(GLOBALS as u64) as usize;
        let from: [usize; FIELDS] =
            std::array::from_fn(|_| self.random.below(GLOBALS as u64) as usize);
        let kind = self.random.below(6);
        let is_linked = self.random.below(2) == 0;
        let is_counted = self.random.below(4) == 0;
        // Up to 12 KiB: small, medium and large objects.
        let len = self.random.log_uniform(1, 1500) as usize;
        let tally = is_counted.then(|| heapwright_gc::Static(Tally(name, self.dropped.clone())));
        self.counted += u64::from(is_counted);
        self.heap.mutate(|mu, globals| {
            let fields = from.map(|index| GcCell::new(globals.nodes[index].get()));
            let extra = match kind {
                1 => Extra::Text(mu.alloc_str(&name.to_string()).unwrap()),
                2 => Extra::Numbers {
                    items: mu.alloc_slice(len, |index| Ok(name + index as u64)).unwrap(),
                },
                3 => Extra::Named(unsize!(mu.alloc(Label(name)).unwrap() => dyn Named)),
                4 => Extra::Many(
                    mu.alloc_slice(len, |index| {
                        Ok(GcCell::new(globals.nodes[(index + to) % GLOBALS].get()))
                    })
                    .unwrap(),
                ),
                _ => Extra::Nothing,
            };
            let node = Node { name, fields, list: GcRefCell::new(Vec::new()), extra, tally };
            let node = mu.alloc(node).unwrap();
            // An old object gets a reference to one that no collection has seen.
            if let Some(old) = globals.nodes[from[0]].get().filter(|_| is_linked) {
                old.fields[1].set(mu, Some(node));
                old.list.borrow_mut(mu).push(node);
            }
            globals.nodes[to].set(mu, Some(node));
        });
        let many = (0..len).map(|index| self.globals[(index + to) % GLOBALS]);
        let model = Model {
            fields: from.map(|index| self.globals[index]),
            list: Vec::new(),
            many: if kind == 4 { many.collect() } else { Vec::new() },
            kind,
            is_counted,
        };
        self.model.insert(name, model);
        if let Some(old) = self.globals[from[0]].filter(|_| is_linked) {
            let old = self.model.get_mut(&old).unwrap();
            old.fields[1] = Some(name);
            old.list.push(name);
        }
        self.globals[to] = Some(name);
    }

    /// Writes a field of a global's field, so that old objects get new references.
    fn link(&mut self) {
        let [a, b, at, how] = std::array::from_fn(|_| self.random.below(GLOBALS as u64) as usize);
        let field = at % FIELDS;
        let (Some(owner), value) = (self.globals[a], self.globals[b]) else { return };
        // Through a field, to reach deeper objects.
        let owner = self.model[&owner].fields[field].unwrap_or(owner);
        let model = self.model.get_mut(&owner).unwrap();
        self.heap.mutate(|mu, globals| {
            let start = globals.nodes[a].get().unwrap();
            let node = start.fields[field].get().unwrap_or(start);
            let value = globals.nodes[b].get();
            match (how, value, &node.extra) {
                (0, Some(value), _) => node.list.borrow_mut(mu).push(value),
                (1, ..) => drop(node.list.borrow_mut(mu).pop()),
                (2 | 3, _, Extra::Many(many)) => many[many.len() / 2].set(mu, value),
                _ => node.fields[field].set(mu, value),
            }
        });
        match (how, value, model.kind) {
            (0, Some(value), _) => model.list.push(value),
            (1, ..) => drop(model.list.pop()),
            (2 | 3, _, 4) => {
                let middle = model.many.len() / 2;
                model.many[middle] = value;
            }
            _ => model.fields[field] = value,
        }
    }

    /// Moves a reference within the graph and cuts the old one: what a snapshot must see.
    fn unlink(&mut self) {
        let [a, at] = std::array::from_fn(|_| self.random.below(GLOBALS as u64) as usize);
        let field = at % FIELDS;
        let Some(owner) = self.globals[a] else { return };
        let value = self.model.get_mut(&owner).unwrap().fields[field].take();
        self.heap.mutate(|mu, globals| {
            let node = globals.nodes[a].get().unwrap();
            globals.nodes[a].set(mu, node.fields[field].replace(mu, None));
        });
        self.globals[a] = value;
    }

    fn hold(&mut self) {
        let a = self.random.below(GLOBALS as u64) as usize;
        if self.held.len() > 5 {
            let index = self.random.below(self.held.len() as u64) as usize;
            self.held.swap_remove(index);
        }
        if let Some(name) = self.globals[a] {
            let handle = self.heap.mutate(|mu, globals| mu.stash(globals.nodes[a].get().unwrap()));
            self.held.push((name, handle.unwrap()));
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..8 => self.make(),
            8..15 => self.link(),
            15 => self.unlink(),
            16 => self.hold(),
            17 => {
                let a = self.random.below(GLOBALS as u64) as usize;
                self.globals[a] = None;
                self.heap.mutate(|mu, globals| globals.nodes[a].set(mu, None));
            }
            _ => {}
        }
    }

    /// The names reachable in the model.
    fn reachable(&self) -> HashSet<u64> {
        let mut grey: Vec<u64> = self.globals.iter().flatten().copied().collect();
        grey.extend(self.held.iter().map(|(name, _)| name));
        let mut seen = HashSet::new();
        while let Some(name) = grey.pop() {
            if seen.insert(name) {
                let model = &self.model[&name];
                grey.extend(model.fields.iter().chain(&model.many).flatten().chain(&model.list));
            }
        }
        seen
    }

    /// Compares the heap with the model, from all roots.
    fn compare(&mut self) {
        let reachable = self.reachable();
        self.model.retain(|name, _| reachable.contains(name));
        let Self { heap, model, globals, held, .. } = self;
        heap.mutate(|mu, root| {
            let mut grey = Vec::new();
            for (cell, name) in root.nodes.iter().zip(globals.iter()) {
                assert_eq!(cell.get().map(|node| node.name), *name, "a global");
                grey.extend(cell.get());
            }
            for (name, handle) in held.iter() {
                let node = handle.fetch(mu).expect("the same heap");
                assert_eq!(node.name, *name, "a dynamic root");
                grey.push(node);
            }
            let mut seen = HashSet::new();
            while let Some(node) = grey.pop() {
                if !seen.insert(node.name) {
                    continue;
                }
                let model = &model[&node.name];
                let names = |link: Link<'_>| link.map(|node| node.name);
                for (cell, name) in node.fields.iter().zip(model.fields) {
                    assert_eq!(names(cell.get()), name, "a field of {}", node.name);
                    grey.extend(cell.get());
                }
                let list = node.list.borrow();
                assert!(list.iter().map(|node| node.name).eq(model.list.iter().copied()));
                grey.extend(list.iter());
                match node.extra {
                    Extra::Nothing => assert!(matches!(model.kind, 0 | 5)),
                    Extra::Text(text) => assert_eq!(*text, *node.name.to_string()),
                    Extra::Numbers { items } => {
                        let wanted = (0..items.len()).map(|index| node.name + index as u64);
                        assert!(items.iter().copied().eq(wanted), "the numbers of {}", node.name);
                    }
                    Extra::Named(named) => assert_eq!(named.name(), node.name),
                    Extra::Many(many) => {
                        let found = many.iter().map(|cell| names(cell.get()));
                        assert!(found.eq(model.many.iter().copied()), "the cells of {}", node.name);
                        grey.extend(many.iter().filter_map(GcCell::get));
                    }
                }
            }
            assert_eq!(seen, reachable);
        });
    }

    /// After a full collection, exactly the unreachable have been destroyed.
    fn check_destructors(&mut self) {
        let reachable = self.reachable();
        let alive = reachable.iter().filter(|name| self.model[name].is_counted).count() as u64;
        assert_eq!(self.dropped.count.get(), self.counted - alive, "destructors that ran");
    }
}

fn run(config: &Config, source: Source, steps: u64) {
    let mut world = World::new(config.clone(), source);
    let collects = config.collector != Collector::Null;
    for step in 0..steps {
        world.step();
        if step % 16 == 0 || config.stress {
            world.compare();
        }
        if step % 64 == 63 {
            world.heap.collect();
            world.compare();
            if collects {
                world.check_destructors();
            }
        }
    }
    let (counted, dropped) = (world.counted, world.dropped.clone());
    drop(world.heap);
    assert_eq!(dropped.count.get(), counted, "every destructor ran once");
    assert!(collects || dropped.last.get() < counted * 4 + 100);
    drop(world.held);
}

#[test]
fn random_programs_agree_with_the_model_on_every_collector() {
    for collector in Collector::ALL {
        for seed in 0..4 {
            let config = Config {
                trigger_bytes_min: 96 << 10,
                growth_percent: 130,
                nursery_bytes: 64 << 10,
                limit_bytes: 256 << 20,
                slice_us: seed / 2,
                threads: 1 + seed as usize % 3,
                ..Config::with(collector)
            };
            run(&config, Source::Random(Random::new(seed)), 600);
        }
    }
}

#[test]
fn a_collection_after_every_mutation_changes_nothing() {
    for collector in Collector::ALL {
        for seed in 100..103 {
            // Whoever follows a reference to an old place ends the process.
            let config = Config {
                stress: true,
                guards: true,
                threads: if seed == 102 { 2 } else { 1 },
                limit_bytes: 128 << 20,
                ..Config::with(collector)
            };
            run(&config, Source::Random(Random::new(seed)), 200);
        }
    }
}

/// Programs of operation bytes: patterns that a generator is unlikely to make, and repeated ones.
fn corpus() -> Vec<Vec<u8>> {
    let mut programs: Vec<Vec<u8>> = vec![
        // Nodes only, all into one global; links only; the same step for ever.
        vec![0; 600],
        [0, 0, 0, 0, 0, 0, 0].repeat(50).into_iter().chain([120; 400]).collect(),
        vec![255; 600],
        (0..=255).cycle().take(2000).collect(),
        (0..=255).rev().cycle().take(2000).collect(),
    ];
    // Each kind of step, again and again, between two that make nodes.
    for step in (0..20).map(|step| (step * 256 / 20 + 1) as u8) {
        programs.push([10, 7, 200, 13, 99, 1, step, 31, 222, 140, 60].repeat(60));
    }
    let mut random = Random::new(77);
    for _ in 0..20 {
        programs.push((0..1500).map(|_| random.below(256) as u8).collect());
    }
    programs
}

#[test]
fn programs_of_operation_bytes_agree_with_the_model() {
    for (index, bytes) in corpus().into_iter().enumerate() {
        for collector in Collector::ALL {
            let config = Config {
                trigger_bytes_min: 32 << 10,
                growth_percent: 120,
                nursery_bytes: 64 << 10,
                limit_bytes: 64 << 20,
                slice_us: index as u64 % 2,
                guards: true,
                ..Config::with(collector)
            };
            let steps = (bytes.len() / 8) as u64;
            run(&config, Source::Bytes { bytes: bytes.clone(), at: 0 }, steps);
        }
    }
}

/// An hour or so of the above with other bytes: `cargo test --release -- --ignored long_tier`.
#[test]
#[ignore = "long tier"]
fn long_tier_random_operation_bytes() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let bytes: Vec<u8> = (0..20_000).map(|_| random.below(256) as u8).collect();
        for collector in Collector::ALL {
            let config = Config {
                trigger_bytes_min: 64 << 10,
                limit_bytes: 256 << 20,
                slice_us: seed % 3,
                guards: true,
                verify: true,
                ..Config::with(collector)
            };
            run(&config, Source::Bytes { bytes: bytes.clone(), at: 0 }, 2_000);
        }
    }
}

//! The workloads on `heapwright-gc`.

use crate::measure::Ticks;
use crate::workload::{BinaryTrees, GcBench, Graph, Lru, Random};
use heapwright_gc::rootable;
use heapwright_gc::{
    Config, Gc, GcCell, HandleScope, Heap, LimitReached, Local, Mutation, Pause, Rootable,
    Statistics, Trace,
};

/// What a run leaves: its checksum, and what the heap says.
pub struct Outcome {
    pub checksum: u64,
    pub statistics: Statistics,
    pub pauses: Vec<Pause>,
}

const ROOM: &str = "the limit is far";

fn outcome<R>(checksum: u64, heap: &Heap<R>) -> Outcome
where
    R: ?Sized + for<'gc> Rootable<'gc>,
{
    Outcome { checksum, statistics: heap.statistics(), pauses: heap.with_pauses(<[Pause]>::to_vec) }
}

#[derive(Trace)]
struct Tree<'gc> {
    left: GcCell<Option<Gc<'gc, Tree<'gc>>>>,
    right: GcCell<Option<Gc<'gc, Tree<'gc>>>>,
    numbers: [u32; 2],
}

#[derive(Trace)]
struct Forest<'gc> {
    tree: GcCell<Option<Gc<'gc, Tree<'gc>>>>,
    array: GcCell<Option<Gc<'gc, [f64]>>>,
}

type ForestRoot = rootable!['gc => Forest<'gc>];

impl<'gc> Tree<'gc> {
    fn leaf(mu: &Mutation<'gc>) -> Result<Gc<'gc, Self>, LimitReached> {
        mu.alloc(Self { left: GcCell::new(None), right: GcCell::new(None), numbers: [0; 2] })
    }

    fn bottom_up(mu: &Mutation<'gc>, depth: u32) -> Result<Gc<'gc, Self>, LimitReached> {
        if depth == 0 {
            return Self::leaf(mu);
        }
        let left = GcCell::new(Some(Self::bottom_up(mu, depth - 1)?));
        let right = GcCell::new(Some(Self::bottom_up(mu, depth - 1)?));
        mu.alloc(Self { left, right, numbers: [0; 2] })
    }

    fn top_down(&self, mu: &Mutation<'gc>, depth: u32) -> Result<(), LimitReached> {
        if depth == 0 {
            return Ok(());
        }
        let (left, right) = (Self::leaf(mu)?, Self::leaf(mu)?);
        self.left.set(mu, Some(left));
        self.right.set(mu, Some(right));
        left.top_down(mu, depth - 1)?;
        right.top_down(mu, depth - 1)
    }

    fn count(&self) -> u64 {
        // Plain, as in all subjects: whether a mapped array is inlined was a third of the time.
        1 + self.left.get().map_or(0, |tree| tree.count())
            + self.right.get().map_or(0, |tree| tree.count())
    }
}

fn forest(config: Config) -> Heap<ForestRoot> {
    Heap::new(config, |_| Forest { tree: GcCell::new(None), array: GcCell::new(None) })
        .expect("addresses")
}

pub fn gcbench(config: Config, size: GcBench, ticks: &mut Ticks) -> Outcome {
    let mut heap = forest(config);
    let mut sum = heap.mutate(|mu, _| Tree::bottom_up(mu, size.stretch_depth).expect(ROOM).count());
    heap.mutate(|mu, root| {
        let tree = Tree::leaf(mu).expect(ROOM);
        tree.top_down(mu, size.long_lived_depth).expect(ROOM);
        root.tree.set(mu, Some(tree));
        let array = mu.alloc_slice(size.array_len, |index| Ok(1.0 / (index + 1) as f64));
        root.array.set(mu, Some(array.expect(ROOM)));
    });
    for (depth, count) in size.trees() {
        for _ in 0..count {
            sum += heap.mutate(|mu, _| {
                let tree = Tree::leaf(mu).expect(ROOM);
                tree.top_down(mu, depth).expect(ROOM);
                u64::from(tree.left.get().is_some())
            });
            ticks.tick();
        }
        for _ in 0..count {
            sum += heap.mutate(|mu, _| {
                let tree = Tree::bottom_up(mu, depth).expect(ROOM);
                u64::from(tree.left.get().is_some())
            });
            ticks.tick();
        }
    }
    sum += heap.mutate(|_, root| {
        let array = root.array.get().expect("was stored");
        root.tree.get().expect("was stored").count() + (array[999] * 1e6) as u64
    });
    outcome(sum, &heap)
}

type TreeKind = rootable!['gc => Tree<'gc>];
type Trees<'a, 's> = &'a mut HandleScope<'s, ForestRoot>;

fn leaf_by_handle<'s>(scope: Trees<'_, 's>) -> Result<Local<'s, TreeKind>, LimitReached> {
    scope.mutate(|mu, _, locals| locals.keep(Tree::leaf(mu)?))
}

fn bottom_up_by_handles<'s>(
    scope: Trees<'_, 's>,
    depth: u32,
) -> Result<Local<'s, TreeKind>, LimitReached> {
    if depth == 0 {
        return leaf_by_handle(scope);
    }
    scope.escape(|inner| {
        let left = bottom_up_by_handles(inner, depth - 1)?;
        let right = bottom_up_by_handles(inner, depth - 1)?;
        inner.mutate(|mu, _, locals| {
            let [left, right] = [left, right].map(|child| GcCell::new(Some(child.get(mu))));
            locals.keep(mu.alloc(Tree { left, right, numbers: [0; 2] })?)
        })
    })
}

fn top_down_by_handles(
    scope: Trees<'_, '_>,
    tree: Local<'_, TreeKind>,
    depth: u32,
) -> Result<(), LimitReached> {
    if depth == 0 {
        return Ok(());
    }
    scope.scope(|inner| {
        let (left, right) = inner.mutate(|mu, _, locals| {
            let (left, right) = (Tree::leaf(mu)?, Tree::leaf(mu)?);
            let tree = tree.get(mu);
            tree.left.set(mu, Some(left));
            tree.right.set(mu, Some(right));
            Ok::<_, LimitReached>((locals.keep::<TreeKind>(left)?, locals.keep::<TreeKind>(right)?))
        })?;
        top_down_by_handles(inner, left, depth - 1)?;
        top_down_by_handles(inner, right, depth - 1)
    })
}

/// GCBench as a program writes it that never leaves: every object is held by a handle while it is
/// worked on, and a collection may run after each.
pub fn gcbench_by_handles(config: Config, size: GcBench, ticks: &mut Ticks) -> Outcome {
    let mut heap = forest(config);
    let mut sum = heap.scope(|scope| {
        let tree = bottom_up_by_handles(scope, size.stretch_depth).expect(ROOM);
        scope.mutate(|mu, _, _| tree.get(mu).count())
    });
    heap.scope(|scope| {
        let tree = leaf_by_handle(scope).expect(ROOM);
        top_down_by_handles(scope, tree, size.long_lived_depth).expect(ROOM);
        scope.mutate(|mu, root, _| {
            root.tree.set(mu, Some(tree.get(mu)));
            let array = mu.alloc_slice(size.array_len, |index| Ok(1.0 / (index + 1) as f64));
            root.array.set(mu, Some(array.expect(ROOM)));
        });
    });
    for (depth, count) in size.trees() {
        for _ in 0..count {
            sum += heap.scope(|scope| {
                let tree = leaf_by_handle(scope).expect(ROOM);
                top_down_by_handles(scope, tree, depth).expect(ROOM);
                scope.mutate(|mu, _, _| u64::from(tree.get(mu).left.get().is_some()))
            });
            ticks.tick();
        }
        for _ in 0..count {
            sum += heap.scope(|scope| {
                let tree = bottom_up_by_handles(scope, depth).expect(ROOM);
                scope.mutate(|mu, _, _| u64::from(tree.get(mu).left.get().is_some()))
            });
            ticks.tick();
        }
    }
    sum += heap.mutate(|_, root| {
        let array = root.array.get().expect("was stored");
        root.tree.get().expect("was stored").count() + (array[999] * 1e6) as u64
    });
    outcome(sum, &heap)
}

pub fn binary_trees(config: Config, size: BinaryTrees, ticks: &mut Ticks) -> Outcome {
    let mut heap = forest(config);
    let depth = size.depth_max;
    let mut sum = heap.mutate(|mu, _| Tree::bottom_up(mu, depth + 1).expect(ROOM).count());
    heap.mutate(|mu, root| root.tree.set(mu, Some(Tree::bottom_up(mu, depth).expect(ROOM))));
    for (depth, count) in size.trees() {
        for _ in 0..count {
            sum += heap.mutate(|mu, _| Tree::bottom_up(mu, depth).expect(ROOM).count());
            ticks.tick();
        }
    }
    sum += heap.mutate(|_, root| root.tree.get().expect("was stored").count());
    outcome(sum, &heap)
}

/// 56 bytes, 64 with its header.
#[derive(Trace)]
struct Node<'gc> {
    next: GcCell<Option<Gc<'gc, Node<'gc>>>>,
    /// Who has this one as `next`.
    previous_place: u64,
    place: u64,
    version: u64,
    _more: [u64; 3],
}

impl<'gc> Node<'gc> {
    fn new(next: Option<Gc<'gc, Self>>, place: usize, previous: usize, version: u64) -> Self {
        let (place, previous_place) = (place as u64, previous as u64);
        Self { next: GcCell::new(next), previous_place, place, version, _more: [0; 3] }
    }
}

type Chunk<'gc> = [GcCell<Option<Gc<'gc, Node<'gc>>>>];
type GraphRoot = rootable!['gc => GcCell<Option<Gc<'gc, [Gc<'gc, Chunk<'gc>>]>>>];

fn slot<'gc>(
    chunks: Gc<'gc, [Gc<'gc, Chunk<'gc>>]>,
    place: usize,
) -> &'gc GcCell<Option<Gc<'gc, Node<'gc>>>> {
    &chunks.reference()[place / Graph::CHUNK_LEN].reference()[place % Graph::CHUNK_LEN]
}

pub fn graph(config: Config, size: Graph, ticks: &mut Ticks) -> Outcome {
    let mut heap = Heap::<GraphRoot>::new(config, |_| GcCell::new(None)).expect("addresses");
    let mut random = Random::new(size.seed);
    let count = size.node_count;
    heap.mutate(|mu, root| {
        let chunk = |_| mu.alloc_slice(Graph::CHUNK_LEN, |_| Ok(GcCell::new(None)));
        root.set(mu, mu.alloc_slice(count / Graph::CHUNK_LEN, chunk).ok());
    });
    for first in (0..count).step_by(Graph::CHUNK_LEN) {
        heap.mutate(|mu, root| {
            let chunks = root.get().expect("was stored");
            for place in first..first + Graph::CHUNK_LEN {
                slot(chunks, place)
                    .set(mu, Some(mu.alloc(Node::new(None, place, place, 0)).expect(ROOM)));
            }
        });
        ticks.tick();
    }
    // The ring: a random order of the places, each linked to the next.
    let order = ring(count, &mut random);
    for first in (0..count).step_by(Graph::CHUNK_LEN) {
        heap.mutate(|mu, root| {
            let chunks = root.get().expect("was stored");
            for at in first..first + Graph::CHUNK_LEN {
                let (place, next) = (order[at] as usize, order[(at + 1) % count] as usize);
                let next = slot(chunks, next).get();
                let old = slot(chunks, place).get().expect("is full");
                old.next.set(mu, next);
            }
        });
    }
    let previous = previous_of(&order);
    drop(order);
    let mut sum = 0u64;
    let mut step = 0;
    while step < size.step_count {
        heap.mutate(|mu, root| {
            let chunks = root.get().expect("was stored");
            for _ in 0..Graph::STEPS_AT_ONCE {
                let place = random.below(count as u64) as usize;
                let old = slot(chunks, place).get().expect("is full");
                let before = previous[place] as usize;
                let made = Node::new(old.next.get(), place, before, old.version + 1);
                let made = mu.alloc(made).expect(ROOM);
                for _ in 0..2 {
                    let temporary = Node::new(Some(made), place, before, 7);
                    let temporary = mu.alloc(temporary).expect(ROOM);
                    sum += std::hint::black_box(temporary).version;
                }
                slot(chunks, place).set(mu, Some(made));
                let before = slot(chunks, before).get().expect("is full");
                before.next.set(mu, Some(made));
            }
        });
        step += Graph::STEPS_AT_ONCE;
        ticks.tick();
    }
    sum += heap.mutate(|_, root| {
        let first = slot(root.get().expect("was stored"), 0).get().expect("is full");
        let mut sum = 0u64;
        let mut node = first;
        for _ in 0..count {
            sum = sum.wrapping_mul(31).wrapping_add(node.place ^ (node.version << 32));
            node = node.next.get().expect("a ring");
        }
        assert!(node.ptr_eq(first), "the ring closes");
        sum
    });
    outcome(sum, &heap)
}

/// A node of three references.
#[derive(Trace)]
struct Knot<'gc> {
    to: [KnotCell<'gc>; 3],
}

type KnotCell<'gc> = GcCell<Option<Gc<'gc, Knot<'gc>>>>;

#[derive(Trace)]
struct Web<'gc> {
    all: GcCell<Option<Gc<'gc, [KnotCell<'gc>]>>>,
    first: KnotCell<'gc>,
}

/// Collections of a web of small nodes, each of which refers to three others anywhere, and of
/// nothing else: what marking takes where every object is a cache miss. Not in the suite's table.
pub fn web(config: Config, size: Graph, ticks: &mut Ticks) -> Outcome {
    let mut heap = Heap::<rootable!['gc => Web<'gc>]>::new(config, |_| Web {
        all: GcCell::new(None),
        first: GcCell::new(None),
    })
    .expect("addresses");
    let count = size.node_count;
    heap.mutate(|mu, web| {
        let all = mu.alloc_slice(count, |_| Ok(GcCell::new(None))).expect(ROOM);
        web.all.set(mu, Some(all));
    });
    for index in 0..count {
        heap.mutate(|mu, web| {
            let to = std::array::from_fn(|_| GcCell::new(None));
            let knot = mu.alloc(Knot { to }).expect(ROOM);
            web.all.get().expect("was stored")[index].set(mu, Some(knot));
        });
    }
    let mut random = Random::new(3);
    let order = ring(count, &mut random);
    for (at, index) in order.iter().enumerate() {
        heap.mutate(|mu, web| {
            let all = web.all.get().expect("was stored");
            let knot = all[*index as usize].get().expect("was made");
            // The first makes a ring through all, so that all are reachable.
            knot.to[0].set(mu, all[order[(at + 1) % count] as usize].get());
            for to in &knot.to[1..] {
                to.set(mu, all[random.below(count as u64) as usize].get());
            }
        });
    }
    heap.mutate(|mu, web| {
        web.first.set(mu, web.all.get().expect("was stored")[0].get());
        web.all.set(mu, None);
    });
    for _ in 0..4 {
        heap.collect();
        ticks.tick();
    }
    let (objects, _) = heap.verify();
    outcome(objects as u64, &heap)
}

/// A random order of `0..count`.
pub fn ring(count: usize, random: &mut Random) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    for index in (1..count).rev() {
        order.swap(index, random.below(index as u64 + 1) as usize);
    }
    order
}

/// For each place the one before it in the ring.
pub fn previous_of(order: &[u32]) -> Vec<u32> {
    let mut previous = vec![0; order.len()];
    for (at, place) in order.iter().enumerate() {
        previous[order[(at + 1) % order.len()] as usize] = *place;
    }
    previous
}

#[derive(Trace)]
struct Entry<'gc> {
    key: u64,
    value: Gc<'gc, [u8]>,
    newer: GcCell<Option<Gc<'gc, Entry<'gc>>>>,
    older: GcCell<Option<Gc<'gc, Entry<'gc>>>>,
    /// The next entry of the same bucket.
    chain: GcCell<Option<Gc<'gc, Entry<'gc>>>>,
}

type Link<'gc> = Option<Gc<'gc, Entry<'gc>>>;

#[derive(Trace)]
struct Cache<'gc> {
    buckets: GcCell<Option<Gc<'gc, [GcCell<Link<'gc>>]>>>,
    newest: GcCell<Link<'gc>>,
    oldest: GcCell<Link<'gc>>,
}

type CacheRoot = rootable!['gc => Cache<'gc>];

impl<'gc> Cache<'gc> {
    fn bucket(&self, size: Lru, key: u64) -> &'gc GcCell<Link<'gc>> {
        &self.buckets.get().expect("was stored").reference()[size.bucket(key)]
    }

    fn find(&self, size: Lru, key: u64) -> Link<'gc> {
        let mut entry = self.bucket(size, key).get();
        while let Some(found) = entry.filter(|entry| entry.key != key) {
            entry = found.chain.get();
        }
        entry
    }

    fn unlink(&self, mu: &Mutation<'gc>, entry: Gc<'gc, Entry<'gc>>) {
        let (newer, older) = (entry.newer.get(), entry.older.get());
        newer.as_ref().map_or(&self.newest, |newer| &newer.older).set(mu, older);
        older.as_ref().map_or(&self.oldest, |older| &older.newer).set(mu, newer);
    }

    fn push(&self, mu: &Mutation<'gc>, entry: Gc<'gc, Entry<'gc>>) {
        let before = self.newest.get();
        entry.older.set(mu, before);
        entry.newer.set(mu, None);
        before.as_ref().map_or(&self.oldest, |before| &before.newer).set(mu, Some(entry));
        self.newest.set(mu, Some(entry));
    }

    fn forget_oldest(&self, mu: &Mutation<'gc>, size: Lru) {
        let oldest = self.oldest.get().expect("is full");
        self.unlink(mu, oldest);
        let bucket = self.bucket(size, oldest.key);
        let mut link = bucket;
        while let Some(entry) = link.get().filter(|entry| !entry.ptr_eq(oldest)) {
            link = &entry.reference().chain;
        }
        link.set(mu, oldest.chain.get());
    }
}

pub fn lru(config: Config, size: Lru, ticks: &mut Ticks) -> Outcome {
    let mut heap = Heap::<CacheRoot>::new(config, |_| Cache {
        buckets: GcCell::new(None),
        newest: GcCell::new(None),
        oldest: GcCell::new(None),
    })
    .expect("addresses");
    heap.mutate(|mu, root| {
        root.buckets.set(mu, mu.alloc_slice(size.bucket_count(), |_| Ok(GcCell::new(None))).ok());
    });
    let mut random = Random::new(size.seed);
    let (mut hits, mut sum, mut len) = (0u64, 0u64, 0);
    let mut step = 0;
    while step < size.step_count {
        heap.mutate(|mu, cache| {
            for _ in 0..Lru::STEPS_AT_ONCE {
                let key = size.key(&mut random);
                if let Some(entry) = cache.find(size, key) {
                    hits += 1;
                    sum = sum.wrapping_add(u64::from(entry.value[17]));
                    cache.unlink(mu, entry);
                    cache.push(mu, entry);
                    continue;
                }
                if len == size.capacity {
                    cache.forget_oldest(mu, size);
                    len -= 1;
                }
                let bytes = Lru::value_bytes(key);
                let value = mu.alloc_slice(bytes, |index| Ok((key + index as u64) as u8));
                let bucket = cache.bucket(size, key);
                let entry = Entry {
                    key,
                    value: value.expect(ROOM),
                    newer: GcCell::new(None),
                    older: GcCell::new(None),
                    chain: GcCell::new(bucket.get()),
                };
                let entry = mu.alloc(entry).expect(ROOM);
                bucket.set(mu, Some(entry));
                cache.push(mu, entry);
                len += 1;
            }
        });
        step += Lru::STEPS_AT_ONCE;
        ticks.tick();
    }
    outcome((hits << 32) | (sum & 0xffff_ffff), &heap)
}

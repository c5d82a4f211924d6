//! GCBench (scaled) and binary-trees on each collector beside malloc (`Box`), in one run.
//!
//! Question: does a bump allocator with a collector behind it beat malloc and free on programs
//! that build and forget trees? Expected winner: generational, whose minor collections find the
//! temporary trees dead. The branded API helps it: collections run only between trees.
//!
//! `cargo run --release -p heapwright-gc --example gc_bench -- [gcbench|binary_trees] [depth] [rounds]`

use heapwright_gc::{Collector, Config, Gc, GcCell, Heap, LimitReached, Mutation, Trace, rootable};
use std::env;
use std::time::Instant;

#[derive(Trace)]
struct Tree<'gc> {
    left: Option<Gc<'gc, Tree<'gc>>>,
    right: Option<Gc<'gc, Tree<'gc>>>,
    _payload: u64,
}

type Root = rootable!['gc => GcCell<Option<Gc<'gc, Tree<'gc>>>>];

impl<'gc> Tree<'gc> {
    fn make(mu: &Mutation<'gc>, depth: u32) -> Result<Gc<'gc, Self>, LimitReached> {
        let (left, right) = if depth == 0 {
            (None, None)
        } else {
            (Some(Self::make(mu, depth - 1)?), Some(Self::make(mu, depth - 1)?))
        };
        mu.alloc(Self { left, right, _payload: 0 })
    }

    fn count(&self) -> u64 {
        1 + self.left.map_or(0, |tree| tree.count()) + self.right.map_or(0, |tree| tree.count())
    }
}

struct Boxed {
    left: Option<Box<Boxed>>,
    right: Option<Box<Boxed>>,
    _payload: u64,
}

impl Boxed {
    fn make(depth: u32) -> Box<Self> {
        let (left, right) = if depth == 0 {
            (None, None)
        } else {
            (Some(Self::make(depth - 1)), Some(Self::make(depth - 1)))
        };
        Box::new(Self { left, right, _payload: 0 })
    }

    fn count(&self) -> u64 {
        1 + self.left.as_ref().map_or(0, |tree| tree.count())
            + self.right.as_ref().map_or(0, |tree| tree.count())
    }
}

/// The trees that a workload makes: how many, how deep.
fn plan(workload: &str, depth: u32) -> Vec<(u32, u32)> {
    let step = 2;
    match workload {
        "binary_trees" => (4..=depth).step_by(step).map(|d| (1 << (depth + 4 - d), d)).collect(),
        _ => {
            let nodes = |depth: u32| 2u32 << depth;
            (4..=depth).step_by(step).map(|d| (2 * nodes(depth + 2) / nodes(d), d)).collect()
        }
    }
}

fn on_heap(collector: Collector, workload: &str, depth: u32) -> (u64, Heap<Root>) {
    let config = Config {
        limit_bytes: if collector == Collector::Null { 16 << 30 } else { 4 << 30 },
        trigger_bytes_min: 32 << 20,
        growth_percent: 300,
        ..Config::with(collector)
    };
    let mut heap = Heap::<Root>::new(config, |_| GcCell::new(None)).expect("addresses");
    let room = "the limit is far";
    let mut sum = heap.mutate(|mu, _| Tree::make(mu, depth + 2).expect(room).count());
    heap.mutate(|mu, root| root.set(mu, Some(Tree::make(mu, depth).expect(room))));
    for (count, depth) in plan(workload, depth) {
        for _ in 0..count {
            sum += heap.mutate(|mu, _| Tree::make(mu, depth).expect(room).count());
        }
    }
    sum += heap.mutate(|_, root| root.get().map_or(0, |tree| tree.count()));
    (sum, heap)
}

fn on_malloc(workload: &str, depth: u32) -> u64 {
    let mut sum = Boxed::make(depth + 2).count();
    let long_lived = Boxed::make(depth);
    for (count, depth) in plan(workload, depth) {
        for _ in 0..count {
            sum += Boxed::make(depth).count();
        }
    }
    sum + long_lived.count()
}

fn main() {
    let mut arguments = env::args().skip(1);
    let workload = arguments.next().unwrap_or("gcbench".into());
    let depth = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(12);
    let rounds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let collectors = [
        Collector::Generational,
        Collector::Semispace,
        Collector::MarkSweep,
        Collector::MarkCompact,
        Collector::Incremental,
        Collector::Null,
    ];
    let mut malloc_s = Vec::new();
    let mut ratios = vec![Vec::new(); collectors.len()];
    for _ in 0..rounds {
        for (collector, ratios) in collectors.into_iter().zip(&mut ratios) {
            // Each ratio is to the malloc run right before it.
            let begin = Instant::now();
            let wanted = on_malloc(&workload, depth);
            let malloc = begin.elapsed().as_secs_f64();
            let begin = Instant::now();
            let (sum, heap) = on_heap(collector, &workload, depth);
            let time = begin.elapsed().as_secs_f64();
            assert_eq!(sum, wanted, "{collector:?} lost objects");
            malloc_s.push(malloc);
            ratios.push((time / malloc, heap.statistics()));
        }
    }
    malloc_s.sort_by(f64::total_cmp);
    println!(
        "{workload} depth {depth}, {rounds} rounds; malloc median {:.3} s, {:.3} to {:.3}",
        malloc_s[malloc_s.len() / 2],
        malloc_s[0],
        malloc_s[malloc_s.len() - 1]
    );
    println!("collector      x malloc (least, most)  minor  full  pause us p50    p99    max");
    for (collector, mut ratios) in collectors.into_iter().zip(ratios) {
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (median, statistics) = ratios[ratios.len() / 2];
        println!(
            "{:14} {median:.3}    ({:.3}, {:.3})  {:6} {:5}  {:12} {:6} {:6}",
            format!("{collector:?}"),
            ratios[0].0,
            ratios[ratios.len() - 1].0,
            statistics.minor_collections,
            statistics.full_collections,
            statistics.pause_ns_percentile(50.0) / 1000,
            statistics.pause_ns_percentile(99.0) / 1000,
            statistics.pause_ns_max / 1000,
        );
    }
}

//! The graph on gc-arena, with its default pacing, which is incremental.

use crate::measure::Ticks;
use crate::ours::{previous_of, ring};
use crate::workload::{Graph, Random};
use gc_arena::lock::{Lock, RefLock};
use gc_arena::{Arena, Collect, Gc, Mutation, Rootable, barrier};

type Link<'gc> = Option<Gc<'gc, Node<'gc>>>;

#[derive(Collect)]
#[collect(no_drop)]
struct Node<'gc> {
    next: Lock<Link<'gc>>,
    _previous_place: u64,
    place: u64,
    version: u64,
    _more: [u64; 3],
}

type Chunk<'gc> = Gc<'gc, RefLock<Vec<Link<'gc>>>>;

#[derive(Collect)]
#[collect(no_drop)]
struct Table<'gc> {
    chunks: Vec<Chunk<'gc>>,
}

impl<'gc> Table<'gc> {
    fn get(&self, place: usize) -> Gc<'gc, Node<'gc>> {
        let chunk = self.chunks[place / Graph::CHUNK_LEN].borrow();
        chunk[place % Graph::CHUNK_LEN].expect("is full")
    }

    fn set(&self, mc: &Mutation<'gc>, place: usize, node: Gc<'gc, Node<'gc>>) {
        let chunk = self.chunks[place / Graph::CHUNK_LEN];
        chunk.borrow_mut(mc)[place % Graph::CHUNK_LEN] = Some(node);
    }
}

fn node<'gc>(
    mc: &Mutation<'gc>,
    next: Link<'gc>,
    place: usize,
    previous: usize,
    version: u64,
) -> Gc<'gc, Node<'gc>> {
    let (place, _previous_place) = (place as u64, previous as u64);
    Gc::new(mc, Node { next: Lock::new(next), _previous_place, place, version, _more: [0; 3] })
}

fn link<'gc>(mc: &Mutation<'gc>, from: Gc<'gc, Node<'gc>>, to: Gc<'gc, Node<'gc>>) {
    barrier::field!(Gc::write(mc, from), Node, next).unlock().set(Some(to));
}

pub fn graph(size: Graph, ticks: &mut Ticks) -> u64 {
    let count = size.node_count;
    let mut random = Random::new(size.seed);
    let mut arena = Arena::<Rootable![Table<'_>]>::new(|mc| {
        let chunk = |_| Gc::new(mc, RefLock::new(vec![None; Graph::CHUNK_LEN]));
        Table { chunks: (0..count / Graph::CHUNK_LEN).map(chunk).collect() }
    });
    for first in (0..count).step_by(Graph::CHUNK_LEN) {
        arena.mutate(|mc, table| {
            for place in first..first + Graph::CHUNK_LEN {
                table.set(mc, place, node(mc, None, place, place, 0));
            }
        });
        arena.collect_debt();
        ticks.tick();
    }
    let order = ring(count, &mut random);
    for first in (0..count).step_by(Graph::CHUNK_LEN) {
        arena.mutate(|mc, table| {
            for at in first..first + Graph::CHUNK_LEN {
                let next = table.get(order[(at + 1) % count] as usize);
                link(mc, table.get(order[at] as usize), next);
            }
        });
        arena.collect_debt();
    }
    let previous = previous_of(&order);
    drop(order);
    let mut sum = 0u64;
    let mut step = 0;
    while step < size.step_count {
        arena.mutate(|mc, table| {
            for _ in 0..Graph::STEPS_AT_ONCE {
                let place = random.below(count as u64) as usize;
                let old = table.get(place);
                let before = previous[place] as usize;
                let made = node(mc, old.next.get(), place, before, old.version + 1);
                for _ in 0..2 {
                    let temporary = std::hint::black_box(node(mc, Some(made), place, before, 7));
                    sum += temporary.version;
                }
                table.set(mc, place, made);
                link(mc, table.get(before), made);
            }
        });
        arena.collect_debt();
        step += Graph::STEPS_AT_ONCE;
        ticks.tick();
    }
    let ring_sum = arena.mutate(|_, table| {
        let first = table.get(0);
        let (mut at, mut sum) = (first, 0u64);
        for _ in 0..count {
            sum = sum.wrapping_mul(31).wrapping_add(at.place ^ (at.version << 32));
            at = at.next.get().expect("a ring");
        }
        assert!(Gc::ptr_eq(at, first), "the ring closes");
        sum
    });
    sum.wrapping_add(ring_sum)
}

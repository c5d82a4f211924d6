//! A program to be watched: plays one scene, says `ready` and what is true of it, and then does a
//! step for each line of its standard input, until that ends.
//!
//! `cargo run --example watched_program -- SCENE` with `HEAPWRIGHT_WATCH=1` in the environment.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;
use std::io::BufRead;

use heapwright::heap::{Heap, ZoneOptions};
use heapwright::regions::{CompactingHeap, Handle, Upstream};

#[global_allocator]
static GLOBAL: heapwright::Heapwright = heapwright::Heapwright;

/// What the sessions may take under handles.
const SESSIONS_BYTES: usize = 8 << 20;
/// What the large request of the scene `budget` asks for.
const LARGE_BYTES: usize = 24 << 20;

type Block = Box<[u8]>;

/// Numbers that are the same at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % limit
    }
}

#[inline(never)]
fn make_request(bytes: usize) -> Block {
    black_box(vec![1; bytes].into_boxed_slice())
}

#[inline(never)]
fn keep_session(bytes: usize) -> Block {
    black_box(vec![2; bytes].into_boxed_slice())
}

#[inline(never)]
fn load_table(bytes: usize) -> Block {
    black_box(vec![3; bytes].into_boxed_slice())
}

/// Many blocks of `sizes`, of which `keep_session` makes one in sixteen; the others go.
fn burst(count: usize, mut bytes: impl FnMut(&mut Random) -> usize) -> Vec<Block> {
    let mut random = Random(7);
    let mut kept = Vec::with_capacity(count / 8);
    let mut gone = Vec::with_capacity(count);
    for _ in 0..count {
        let bytes = bytes(&mut random);
        if random.below(16) == 0 {
            kept.push(keep_session(bytes));
        } else {
            gone.push(make_request(bytes));
        }
    }
    drop(gone);
    kept
}

fn scene(name: &str) -> Vec<Block> {
    match name {
        "one_size" => burst(150_000, |_| 200),
        "many_sizes" => burst(60_000, |random| {
            let log2 = random.below(7) + 5;
            (1 << log2) + random.below(1 << log2)
        }),
        // A table that is all alive, loaded after the burst, pins nothing to speak of.
        "with_table" => {
            let mut kept = burst(200_000, |_| 64);
            kept.extend((0..6_000).map(|_| load_table(1000)));
            kept
        }
        "budget" => burst(200_000, |_| 200),
        _ => Vec::new(),
    }
}

/// The sessions under handles, in memory of the same allocator and so under the same limit.
struct Sessions {
    heap: CompactingHeap<Upstream<heapwright::Heapwright>>,
    handles: Vec<Handle<[u8]>>,
}

impl Sessions {
    /// Moves `kept` into a compacting heap; what pinned the pages of the burst is gone then.
    fn of(kept: &mut Vec<Block>) -> Self {
        let heap = CompactingHeap::with_capacity_max(Upstream(GLOBAL), SESSIONS_BYTES);
        let handles =
            kept.drain(..).map(|block| heap.insert(&block).expect("a few megabytes")).collect();
        Self { heap, handles }
    }

    fn are_whole(&self) -> bool {
        self.handles.iter().all(|handle| {
            self.heap.pin(*handle).is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 2))
        })
    }
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let own = (name == "heaps").then(|| {
        let options = ZoneOptions::new().name("level \"3\"").limit(64 << 20);
        let heap = Heap::with(options).expect("memory");
        for bytes in [1000; 3000] {
            let layout = Layout::from_size_align(bytes, 16).expect("a layout");
            heap.alloc(layout).expect("memory");
        }
        heap.alloc(Layout::from_size_align(1 << 20, 16).expect("a layout")).expect("memory");
        heap
    });
    let mut kept = scene(&name);
    let live: usize = kept.iter().map(|block| block.len()).sum();
    println!("ready {live}");
    let mut sessions = None;
    for line in std::io::stdin().lock().lines() {
        match line.unwrap_or_default().as_str() {
            "large" => try_large(),
            "more" => kept.push(load_table(1 << 20)),
            "move" => {
                let moved = sessions.insert(Sessions::of(&mut kept));
                println!("{}", if moved.are_whole() { "whole" } else { "damaged" });
            }
            "end" => break,
            _ => {}
        }
    }
    black_box((&kept, &own, &sessions));
}

/// Asks for one large block and says whether there was memory for it.
fn try_large() {
    let layout = Layout::from_size_align(LARGE_BYTES, 16).expect("a layout");
    // SAFETY: the layout is not empty.
    let block = unsafe { alloc(layout) };
    println!("{}", if block.is_null() { "refused" } else { "granted" });
    if !block.is_null() {
        // SAFETY: allocated above with that layout.
        unsafe { dealloc(block, layout) };
    }
}

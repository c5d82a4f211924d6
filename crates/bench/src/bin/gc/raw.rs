//! The workloads on raw pointers: on malloc and free, or on a collector with the interface of
//! malloc (Boehm's).
//!
//! Every block is made by [`Blocks::make`] and given up by [`Blocks::free`] exactly once, by the
//! code that just cut the last pointer to it; a collector's `free` does nothing.

use crate::measure::Ticks;
use crate::ours::{previous_of, ring};
use crate::workload::{BinaryTrees, GcBench, Graph, Lru, Random};
use std::alloc::Layout;
use std::ptr::null_mut;

/// Where blocks come from.
pub trait Blocks: Copy {
    /// A block for a `T` and `extra` bytes behind it, uninitialised.
    fn block(self, layout: Layout) -> *mut u8;

    /// Gives a block up.
    ///
    /// # Safety
    /// - `block` is from `self.block` with this `layout`, and nobody uses it afterwards.
    unsafe fn free(self, block: *mut u8, layout: Layout);

    /// Whether freed blocks must be found by the program.
    const FREES: bool;
}

/// The system's malloc.
#[derive(Clone, Copy)]
pub struct Malloc;

impl Blocks for Malloc {
    const FREES: bool = true;

    fn block(self, layout: Layout) -> *mut u8 {
        // SAFETY: every layout here has a size above zero.
        unsafe { std::alloc::alloc(layout) }
    }

    unsafe fn free(self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { std::alloc::dealloc(block, layout) }
    }
}

fn make<T, B: Blocks>(blocks: B, value: T) -> *mut T {
    let block = blocks.block(Layout::new::<T>()).cast::<T>();
    assert!(!block.is_null(), "no memory");
    // SAFETY: a fresh block of the size and alignment of `T`.
    unsafe { block.write(value) };
    block
}

/// # Safety
/// - `block` is from `make`, and nobody uses it afterwards.
unsafe fn give<T, B: Blocks>(blocks: B, block: *mut T) {
    if B::FREES {
        // SAFETY: the caller's promise.
        unsafe { blocks.free(block.cast(), Layout::new::<T>()) }
    }
}

/// A copy of what `pointer` points to.
fn read<T: Copy>(pointer: *const T) -> T {
    // SAFETY: the pointers of this file's structures point to blocks that have not been given up.
    unsafe { pointer.read() }
}

/// Writes what `pointer` points to.
fn write<T>(pointer: *mut T, value: T) {
    // SAFETY: as in `read`; one thread uses them.
    unsafe { pointer.write(value) }
}

/// The place of a field of a block.
macro_rules! field {
    ($block:expr, $field:ident) => {{
        let block = $block;
        // SAFETY: the block has not been given up, so the field lies inside a live object.
        unsafe { &raw mut (*block).$field }
    }};
}

#[derive(Clone, Copy)]
struct Tree {
    left: *mut Tree,
    right: *mut Tree,
    _numbers: [u32; 2],
}

impl Tree {
    fn leaf<B: Blocks>(blocks: B) -> *mut Self {
        make(blocks, Self { left: null_mut(), right: null_mut(), _numbers: [0; 2] })
    }

    fn bottom_up<B: Blocks>(blocks: B, depth: u32) -> *mut Self {
        if depth == 0 {
            return Self::leaf(blocks);
        }
        let left = Self::bottom_up(blocks, depth - 1);
        let right = Self::bottom_up(blocks, depth - 1);
        make(blocks, Self { left, right, _numbers: [0; 2] })
    }

    fn top_down<B: Blocks>(this: *mut Self, blocks: B, depth: u32) {
        if depth > 0 {
            let (left, right) = (Self::leaf(blocks), Self::leaf(blocks));
            write(field!(this, left), left);
            write(field!(this, right), right);
            Self::top_down(left, blocks, depth - 1);
            Self::top_down(right, blocks, depth - 1);
        }
    }

    fn count(this: *mut Self) -> u64 {
        let tree = read(this);
        let count = |child: *mut Self| if child.is_null() { 0 } else { Self::count(child) };
        1 + count(tree.left) + count(tree.right)
    }

    fn give<B: Blocks>(this: *mut Self, blocks: B) {
        if !B::FREES || this.is_null() {
            return;
        }
        let tree = read(this);
        Self::give(tree.left, blocks);
        Self::give(tree.right, blocks);
        // SAFETY: the tree has one owner, which gives it up, and its children are given up.
        unsafe { give(blocks, this) };
    }
}

pub fn gcbench<B: Blocks>(blocks: B, size: GcBench, ticks: &mut Ticks) -> u64 {
    let stretch = Tree::bottom_up(blocks, size.stretch_depth);
    let mut sum = Tree::count(stretch);
    Tree::give(stretch, blocks);
    let long_lived = Tree::leaf(blocks);
    Tree::top_down(long_lived, blocks, size.long_lived_depth);
    let array: Vec<f64> = (0..size.array_len).map(|index| 1.0 / (index + 1) as f64).collect();
    for (depth, count) in size.trees() {
        for _ in 0..count {
            let tree = Tree::leaf(blocks);
            Tree::top_down(tree, blocks, depth);
            sum += u64::from(!read(tree).left.is_null());
            Tree::give(tree, blocks);
            ticks.tick();
        }
        for _ in 0..count {
            let tree = Tree::bottom_up(blocks, depth);
            sum += u64::from(!read(tree).left.is_null());
            Tree::give(tree, blocks);
            ticks.tick();
        }
    }
    sum += Tree::count(long_lived) + (std::hint::black_box(array)[999] * 1e6) as u64;
    Tree::give(long_lived, blocks);
    sum
}

pub fn binary_trees<B: Blocks>(blocks: B, size: BinaryTrees, ticks: &mut Ticks) -> u64 {
    let depth = size.depth_max;
    let stretch = Tree::bottom_up(blocks, depth + 1);
    let mut sum = Tree::count(stretch);
    Tree::give(stretch, blocks);
    let long_lived = Tree::bottom_up(blocks, depth);
    for (depth, count) in size.trees() {
        for _ in 0..count {
            let tree = Tree::bottom_up(blocks, depth);
            sum += Tree::count(tree);
            Tree::give(tree, blocks);
            ticks.tick();
        }
    }
    sum += Tree::count(long_lived);
    Tree::give(long_lived, blocks);
    sum
}

#[derive(Clone, Copy)]
struct Node {
    next: *mut Node,
    _previous_place: u64,
    place: u64,
    version: u64,
    _more: [u64; 3],
}

pub fn graph<B: Blocks>(blocks: B, size: Graph, ticks: &mut Ticks) -> u64 {
    let count = size.node_count;
    let mut random = Random::new(size.seed);
    let node = |next: *mut Node, place: usize, previous: usize, version| {
        let (place, _previous_place) = (place as u64, previous as u64);
        make(blocks, Node { next, _previous_place, place, version, _more: [0; 3] })
    };
    // The table is a block, too, so that a collector sees it.
    let layout = Layout::array::<*mut Node>(count).expect("fits");
    let table = blocks.block(layout).cast::<*mut Node>();
    assert!(!table.is_null(), "no memory");
    let slot = |place: usize| {
        assert!(place < count);
        // SAFETY: inside the table.
        unsafe { table.add(place) }
    };
    for place in 0..count {
        write(slot(place), null_mut());
    }
    for place in 0..count {
        write(slot(place), node(null_mut(), place, place, 0));
    }
    let order = ring(count, &mut random);
    for at in 0..count {
        let next = read(slot(order[(at + 1) % count] as usize));
        write(field!(read(slot(order[at] as usize)), next), next);
    }
    let previous = previous_of(&order);
    drop(order);
    let mut sum = 0u64;
    for step in 0..size.step_count {
        let place = random.below(count as u64) as usize;
        let old = read(slot(place));
        let before = previous[place] as usize;
        let made = node(read(old).next, place, before, read(old).version + 1);
        for _ in 0..2 {
            let temporary = std::hint::black_box(node(made, place, before, 7));
            sum += read(temporary).version;
            // SAFETY: nobody else knows it.
            unsafe { give(blocks, temporary) };
        }
        write(slot(place), made);
        write(field!(read(slot(before)), next), made);
        // SAFETY: the table and the node before do not name it any more, and nobody else did.
        unsafe { give(blocks, old) };
        if step % Graph::STEPS_AT_ONCE == 0 {
            ticks.tick();
        }
    }
    let first = read(slot(0));
    let (mut at, mut order_sum) = (first, 0u64);
    for _ in 0..count {
        let node = read(at);
        order_sum = order_sum.wrapping_mul(31).wrapping_add(node.place ^ (node.version << 32));
        at = node.next;
    }
    assert!(at == first, "the ring closes");
    sum.wrapping_add(order_sum)
}

#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    value: *mut u8,
    newer: *mut Entry,
    older: *mut Entry,
    chain: *mut Entry,
}

/// The buckets and both ends; the first block of the structure.
#[derive(Clone, Copy)]
struct Cache {
    buckets: *mut *mut Entry,
    newest: *mut Entry,
    oldest: *mut Entry,
}

fn unlink(cache: *mut Cache, entry: *mut Entry) {
    let Entry { newer, older, .. } = read(entry);
    write(if newer.is_null() { field!(cache, newest) } else { field!(newer, older) }, older);
    write(if older.is_null() { field!(cache, oldest) } else { field!(older, newer) }, newer);
}

fn push(cache: *mut Cache, entry: *mut Entry) {
    let before = read(cache).newest;
    write(field!(entry, older), before);
    write(field!(entry, newer), null_mut());
    write(if before.is_null() { field!(cache, oldest) } else { field!(before, newer) }, entry);
    write(field!(cache, newest), entry);
}

pub fn lru<B: Blocks>(blocks: B, size: Lru, ticks: &mut Ticks) -> u64 {
    let layout = Layout::array::<*mut Entry>(size.bucket_count()).expect("fits");
    let buckets = blocks.block(layout).cast::<*mut Entry>();
    assert!(!buckets.is_null(), "no memory");
    let bucket = |key: u64| {
        // SAFETY: `Lru::bucket` is below the number of buckets.
        unsafe { buckets.add(size.bucket(key)) }
    };
    for index in 0..size.bucket_count() {
        // SAFETY: inside the block.
        write(unsafe { buckets.add(index) }, null_mut());
    }
    let cache = make(blocks, Cache { buckets, newest: null_mut(), oldest: null_mut() });
    let value_layout = |key| Layout::array::<u8>(Lru::value_bytes(key)).expect("fits");
    let mut random = Random::new(size.seed);
    let (mut hits, mut sum, mut len) = (0u64, 0u64, 0);
    for step in 0..size.step_count {
        if step % Lru::STEPS_AT_ONCE == 0 {
            ticks.tick();
        }
        let key = size.key(&mut random);
        let mut entry = read(bucket(key));
        while !entry.is_null() && read(entry).key != key {
            entry = read(entry).chain;
        }
        if !entry.is_null() {
            hits += 1;
            // SAFETY: values have at least 64 bytes.
            let byte = read(unsafe { read(entry).value.add(17) });
            sum = sum.wrapping_add(u64::from(byte));
            unlink(cache, entry);
            push(cache, entry);
            continue;
        }
        if len == size.capacity {
            let oldest = read(cache).oldest;
            unlink(cache, oldest);
            let mut link = bucket(read(oldest).key);
            while read(link) != oldest {
                link = field!(read(link), chain);
            }
            write(link, read(oldest).chain);
            if B::FREES {
                let Entry { value, key, .. } = read(oldest);
                // SAFETY: the value belongs to the entry, which nobody names any more.
                unsafe { blocks.free(value, value_layout(key)) };
                // SAFETY: as above.
                unsafe { give(blocks, oldest) };
            }
            len -= 1;
        }
        let value = blocks.block(value_layout(key));
        assert!(!value.is_null(), "no memory");
        for index in 0..Lru::value_bytes(key) {
            // SAFETY: inside the value's block.
            write(unsafe { value.add(index) }, (key + index as u64) as u8);
        }
        let chain = read(bucket(key));
        let entry = Entry { key, value, newer: null_mut(), older: null_mut(), chain };
        let entry = make(blocks, entry);
        write(bucket(key), entry);
        push(cache, entry);
        len += 1;
    }
    assert!(read(std::hint::black_box(cache)).buckets == buckets, "is still there");
    (hits << 32) | (sum & 0xffff_ffff)
}

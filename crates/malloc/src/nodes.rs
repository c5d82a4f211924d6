//! NUMA: each node with memory has a part of the region and runs of its own, and a thread takes
//! from the part of the node it runs on.
//!
//! A part's pages come from its node (policy *prefer*, set once for the whole part when the region
//! is reserved), then, when that has none left, from the nearest ones: the kernel's order. When a
//! part's addresses are used up, the nearest node's part is taken. On a machine with one node there
//! is one part, and all this is one null pointer that slow paths look at.
//!
//! # Invariants
//! - N1: parts lie one after the other, each a multiple of
//!   [`COMMIT_SLICES`](crate::region::COMMIT_SLICES) long; part `p` is that of node
//!   `node_of_part[p]`, and a run lies in one part.
//! - N2: `order[n]` names each part once, the nearest to node `n` first.

use core::cell::UnsafeCell;
use core::ptr::NonNull;

use heapwright_core::backing::NodePolicy;
use heapwright_core::size_class::CLASS_COUNT;
use heapwright_os::{NODE_COUNT_MAX, NodeSet, Topology, allowed_nodes, bind, current_node};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::class_pool::{BUCKET_COUNT, Buckets};
use crate::descriptor::{NO_SLICE, SliceIndex};
use crate::limits::limits;
use crate::options::is_numa_wanted;
use crate::region::{COMMIT_SLICES, Extent, SLICE_LOG2, reserve_metadata, slice_start};
use crate::runs::{Run, Runs};

/// Where memory is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeWish {
    /// Where the calling thread runs.
    Local,
    /// On this node as long as it has memory, then on the nearest ones.
    Node(u32),
}

/// Index of a part.
pub(crate) type Part = u8;
/// A smaller part is not worth having: address space is scarce then.
const PART_SLICES_MIN: SliceIndex = 1024;

/// How many parts there are; 0 and 1 mean one.
static PART_COUNT: AtomicU32 = AtomicU32::new(0);

/// What only machines with several nodes have.
struct Parts {
    count: usize,
    /// First slice of part 0, and the length of each.
    first: SliceIndex,
    part_slices: SliceIndex,
    node_of_part: [u8; NODE_COUNT_MAX],
    order: [[Part; NODE_COUNT_MAX]; NODE_COUNT_MAX],
    /// Runs of the parts; those of part 0 are elsewhere, and this one's place is not used.
    runs: [Runs; NODE_COUNT_MAX],
}

/// All runs of the region, by node. Under the pool's lock.
pub(crate) struct NodeRuns {
    /// Of the first part, which is the only one on most machines.
    near: Runs,
    /// Null when there is one part; lives for ever.
    parts: *mut Parts,
}

/// Whether there is more than one part: one load.
#[inline(always)]
pub(crate) fn are_many() -> bool {
    PART_COUNT.load(Ordering::Relaxed) > 1
}

/// What only machines with several nodes have, and slow paths without the pool's lock look at.
struct Shared {
    /// As in [`Parts`]; never changed.
    order: [[Part; NODE_COUNT_MAX]; NODE_COUNT_MAX],
    /// Passive spans by part and class, under the classes' locks; part 0's are with the locks.
    buckets: [[UnsafeCell<Buckets>; CLASS_COUNT]; NODE_COUNT_MAX],
}

/// Null when there is one part; lives for ever.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(core::ptr::null_mut());

fn shared() -> Option<&'static Shared> {
    // Acquire: pairs with the Release in `divide`.
    // SAFETY: null, or a value that lives for ever and changes in its cells only.
    unsafe { SHARED.load(Ordering::Acquire).as_ref() }
}

/// The part nearest to where the calling thread runs: one load where there is one, else some 5 ns.
#[inline]
pub(crate) fn near_part() -> Part {
    if are_many() { near_part_of_many() } else { 0 }
}

#[cold]
fn near_part_of_many() -> Part {
    let row = shared().and_then(|shared| shared.order.get(current_node() as usize));
    row.map_or(0, |row| row[0])
}

/// Whether `part` is as near as any to where the calling thread runs.
#[inline]
pub(crate) fn is_near(part: Part) -> bool {
    !are_many() || part == near_part_of_many()
}

/// The lists of passive spans of `class_index` that lie in `part`, not the first; none when there
/// is no such part.
///
/// # Safety
/// - The calling thread holds the lock of the class while the reference lives, and makes no other
///   one.
#[cold]
pub(crate) unsafe fn far_buckets<'a>(class_index: usize, part: Part) -> Option<&'a mut Buckets> {
    let cell = shared()?.buckets.get(usize::from(part))?.get(class_index)?;
    // SAFETY: the caller's promise.
    Some(unsafe { &mut *cell.get() })
}

/// How many parts there are.
pub(crate) fn part_count() -> usize {
    PART_COUNT.load(Ordering::Relaxed).max(1) as usize
}

impl NodeRuns {
    pub(crate) const fn new() -> Self {
        Self { near: Runs::new(), parts: core::ptr::null_mut() }
    }

    /// Sets which slices there are; once, before the first run.
    pub(crate) fn set_extent(&mut self, extent: Extent) {
        if !is_numa_wanted() || allowed_nodes().count() <= 1 || !self.divide(extent) {
            self.near.set_extent(extent);
        }
    }

    /// Divides the region; whether there are several nodes with memory and room enough.
    #[cold]
    #[inline(never)]
    fn divide(&mut self, extent: Extent) -> bool {
        let machine = Topology::read();
        let nodes = NodeSet(machine.nodes_with_memory().0 & allowed_nodes().0);
        let count = nodes.count();
        if count <= 1 {
            return false;
        }
        let part_slices =
            (extent.end - extent.first) / count as SliceIndex / COMMIT_SLICES * COMMIT_SLICES;
        if part_slices < PART_SLICES_MIN {
            return false;
        }
        let place = reserve_metadata(size_of::<Parts>()).cast::<Parts>();
        // SAFETY: null, or zeroed memory of that size, page aligned. All fields are numbers; the
        // runs of each part that is used are written below.
        let Some(parts) = (unsafe { place.as_mut() }) else { return false };
        let shared = reserve_metadata(size_of::<Shared>()).cast::<Shared>();
        // SAFETY: as above, and nobody else knows the place yet.
        let Some(common) = (unsafe { shared.as_mut() }) else { return false };
        parts.count = count;
        parts.first = extent.first;
        parts.part_slices = part_slices;
        for (part, node) in nodes.iter().enumerate() {
            parts.node_of_part[part] = node as u8;
        }
        for node in 0..NODE_COUNT_MAX as u32 {
            order_of(&machine, nodes, node, &mut parts.order[node as usize]);
        }
        common.order = parts.order;
        for row in &mut common.buckets[..count] {
            *row = [const { UnsafeCell::new([NO_SLICE; BUCKET_COUNT]) }; CLASS_COUNT];
        }
        for part in 0..count {
            let first = extent.first + part as SliceIndex * part_slices;
            let own = Extent { first, end: first + part_slices };
            if part == 0 {
                self.near.set_extent(own);
            } else {
                parts.runs[part] = Runs::new();
                parts.runs[part].set_extent(own);
            }
            prefer(own, parts.node_of_part[part].into());
        }
        self.parts = place;
        // Release: pairs with the Acquire in `shared`.
        SHARED.store(shared, Ordering::Release);
        PART_COUNT.store(count as u32, Ordering::Relaxed);
        true
    }

    fn parts(&self) -> Option<&Parts> {
        // SAFETY: null or a value that lives for ever, ours under the pool's lock.
        unsafe { self.parts.as_ref() }
    }

    /// The runs of `part`.
    fn of(&mut self, part: usize) -> &mut Runs {
        // SAFETY: as in `parts`; borrowed from `self`, so there is one reference.
        match unsafe { self.parts.as_mut() } {
            Some(parts) if part > 0 && part < parts.count => &mut parts.runs[part],
            _ => &mut self.near,
        }
    }

    /// The part that slice `index` lies in.
    pub(crate) fn part_of(&self, index: SliceIndex) -> Part {
        self.parts().map_or(0, |parts| ((index - parts.first) / parts.part_slices) as Part)
    }

    /// The NUMA node that slice `index` is for; 0 where there is one part.
    pub(crate) fn node_at(&self, index: SliceIndex) -> u32 {
        let part = usize::from(self.part_of(index));
        self.parts().map_or(0, |parts| parts.node_of_part[part].into())
    }

    /// The wish for memory near slice `index`.
    pub(crate) fn near_to(&self, index: SliceIndex) -> NodeWish {
        let part = usize::from(self.part_of(index));
        self.parts()
            .map_or(NodeWish::Local, |parts| NodeWish::Node(parts.node_of_part[part].into()))
    }

    /// Forgets all free runs: see [`Runs::forget`].
    pub(crate) fn forget(&mut self) {
        for part in 0..part_count() {
            self.of(part).forget();
        }
    }

    /// The slices ever used, a range for each part.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = core::ops::Range<SliceIndex>> {
        let near = self.near.first()..self.near.frontier();
        let far = self.parts().into_iter().flat_map(|parts| {
            parts.runs[1..parts.count].iter().map(|runs| runs.first()..runs.frontier())
        });
        core::iter::once(near).chain(far)
    }

    /// Slices that could be given back to the kernel.
    pub(crate) fn dirty_slices(&self) -> SliceIndex {
        let far = self
            .parts()
            .map_or(0, |parts| parts.runs[1..parts.count].iter().map(Runs::dirty_slices).sum());
        self.near.dirty_slices() + far
    }

    /// Bytes that would be in use or dirty with `more` slices in use.
    pub(crate) fn held_bytes(&self, more: SliceIndex) -> usize {
        let far: usize = self.parts().map_or(0, |parts| {
            parts.runs[1..parts.count].iter().map(|runs| runs.held_bytes(0)).sum()
        });
        self.near.held_bytes(more) + far
    }

    /// Whether there is a dirty run of at least `slices` near the calling thread.
    pub(crate) fn has_dirty(&mut self, slices: SliceIndex) -> bool {
        self.of(near_part().into()).has_dirty(slices)
    }

    /// Takes a run of `slices` (at least 1): see [`Runs::take`].
    pub(crate) fn take_on(&mut self, slices: SliceIndex, wish: NodeWish) -> Option<Run> {
        if self.parts.is_null() {
            return self.near.take(slices);
        }
        self.take_in_order(slices, wish, |runs| runs.take(slices))
    }

    /// Takes an aligned run: see [`Runs::take_aligned`].
    pub(crate) fn take_aligned_on(
        &mut self,
        slices: SliceIndex,
        align_slices: SliceIndex,
        wish: NodeWish,
    ) -> Option<Run> {
        if self.parts.is_null() {
            return self.near.take_aligned(slices, align_slices);
        }
        self.take_in_order(slices, wish, |runs| runs.take_aligned(slices, align_slices))
    }

    #[cold]
    fn take_in_order(
        &mut self,
        slices: SliceIndex,
        wish: NodeWish,
        mut take: impl FnMut(&mut Runs) -> Option<Run>,
    ) -> Option<Run> {
        // The limits are the process's: each part looks at its own figure only.
        if self.held_bytes(slices) > limits().hard_bytes {
            self.purge_all();
            if self.held_bytes(slices) > limits().hard_bytes {
                return None;
            }
        }
        let order = self.parts()?.order_for(wish);
        order[..part_count()].iter().find_map(|part| take(self.of(usize::from(*part))))
    }

    /// Takes the slices behind a run: see [`Runs::take_behind`].
    pub(crate) fn take_behind(&mut self, end: SliceIndex, more: SliceIndex) -> bool {
        let part = self.part_of(end - 1);
        if self.held_bytes(more) > limits().hard_bytes {
            return false;
        }
        self.of(part.into()).take_behind(end, more)
    }

    /// Gives a run back: see [`Runs::give`].
    pub(crate) fn give(&mut self, index: SliceIndex, slices: SliceIndex, is_dirty: bool) {
        let part = self.part_of(index);
        self.of(part.into()).give(index, slices, is_dirty);
        if !self.parts.is_null() && self.held_bytes(0) > limits().soft_bytes {
            self.purge_all();
        }
    }

    /// Purges everything; returns the number of slices purged.
    pub(crate) fn purge_all(&mut self) -> SliceIndex {
        (0..part_count()).map(|part| self.of(part).purge_all()).sum()
    }

    /// Starts new epochs: see [`Runs::start_epoch`].
    pub(crate) fn start_epoch(&mut self, now_ns: u64) {
        for part in 0..part_count() {
            self.of(part).start_epoch(now_ns);
        }
    }

    /// Takes an overdue run: see [`Runs::take_overdue`].
    pub(crate) fn take_overdue(&mut self) -> Option<(SliceIndex, SliceIndex)> {
        (0..part_count()).find_map(|part| self.of(part).take_overdue())
    }

    /// Gives back what [`NodeRuns::take_overdue`] gave.
    pub(crate) fn give_purged(&mut self, index: SliceIndex, slices: SliceIndex, is_purged: bool) {
        let part = self.part_of(index);
        self.of(part.into()).give_purged(index, slices, is_purged);
    }
}

impl Parts {
    /// The parts, the nearest to where memory is wanted first.
    fn order_for(&self, wish: NodeWish) -> [Part; NODE_COUNT_MAX] {
        let node = match wish {
            NodeWish::Local => current_node(),
            NodeWish::Node(node) => node,
        };
        // A node beyond the ones that have a name has no order of its own.
        self.order.get(node as usize).copied().unwrap_or(self.order[0])
    }
}

/// The parts of `nodes` by their distance from `from`.
fn order_of(machine: &Topology, nodes: NodeSet, from: u32, order: &mut [Part; NODE_COUNT_MAX]) {
    for (part, _) in nodes.iter().enumerate() {
        order[part] = part as Part;
    }
    let distance = |part: Part| {
        let node = nodes.iter().nth(usize::from(part)).unwrap_or(0);
        machine.distance(from, node)
    };
    // By insertion, which keeps the order of equals; there are few.
    for end in 1..nodes.count() {
        let mut place = end;
        while place > 0 && distance(order[place - 1]) > distance(order[place]) {
            order.swap(place - 1, place);
            place -= 1;
        }
    }
}

/// Lets pages of the slices of `extent` come from `node` as long as it has some.
fn prefer(extent: Extent, node: u32) {
    let Some(start) = NonNull::new(slice_start(extent.first)) else { return };
    let bytes = ((extent.end - extent.first) as usize) << SLICE_LOG2;
    // SAFETY: whole pages of the region, ours. A refusal leaves the placement to the first touch.
    let _ = unsafe { bind(start, bytes, NodePolicy::Prefer(node)) };
}

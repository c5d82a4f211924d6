//! Memory bound to a NUMA node lies there, page by page, as the kernel says.
//!
//! On one node these tests still ask the kernel, and cannot be wrong about the node; the tier
//! `numa` (`cargo xtask test --tier numa`) runs them in guests of 2 and 4 nodes, some without
//! CPUs, and sets HEAPWRIGHT_NODES so that none of them passes on the wrong machine.
#![cfg(feature = "os")]

use std::alloc::Layout;
use std::ptr::NonNull;

use heapwright_os::{
    DISTANCE_LOCAL, Errno, NODE_COUNT_MAX, NodeError, NodeSet, Placement, Topology, alloc_local,
    alloc_on_node, current_place, migrate, page_bytes, placement,
};
use heapwright_regions::{
    AnonymousPages, Backing, Bound, Buddy, FilePages, HugePages, HugeWish, Linear, NodePolicy,
    Pool, Tails,
};

const BYTES: usize = 8 << 20;

/// The machine; none where the kernel or a sandbox has no policies.
fn machine() -> Option<Topology> {
    let machine = Topology::read();
    let wanted = std::env::var("HEAPWRIGHT_NODES").ok();
    if let Some(count) = &wanted {
        assert_eq!(machine.nodes_with_memory().count().to_string(), *count, "{machine:?}");
    }
    let node = machine.nodes_with_memory().iter().next().expect("a node");
    match alloc_on_node(1, node) {
        Err(NodeError::Kernel { errno: Errno::ENOSYS | Errno::EPERM, .. }) if wanted.is_none() => {
            None
        }
        Err(error) => panic!("{error}"),
        Ok(_) => Some(machine),
    }
}

fn bind(node: u32) -> NodePolicy {
    NodePolicy::Bind(NodeSet::of(node).0)
}

/// Where the pages of a block lie; the block was written.
fn of_block(block: NonNull<u8>, bytes: usize) -> Placement {
    let lead = block.as_ptr().addr() % page_bytes();
    // SAFETY: the page that the block begins in.
    let first = unsafe { block.sub(lead) };
    placement(first, (lead + bytes).next_multiple_of(page_bytes())).expect("the kernel tells")
}

fn write(block: NonNull<u8>, bytes: usize) {
    // SAFETY: a block of that length.
    unsafe { block.write_bytes(1, bytes) };
}

fn assert_on(node: u32, seen: &Placement) {
    let all = seen.present_count() + seen.absent_count() + seen.unknown_count();
    assert_eq!((seen.pages_on(node), seen.unknown_count()), (all, 0), "node {node}: {seen:?}");
}

#[test]
fn every_page_of_a_bound_allocator_is_on_its_node() {
    let Some(machine) = machine() else { return };
    for node in machine.nodes_with_memory().iter() {
        let pages = Bound::new(AnonymousPages, bind(node));
        let arena: Linear<_> = Linear::new_in(pages);
        for bytes in [100, 5000, BYTES] {
            let block = arena.alloc_slice_fill_with(bytes, |_| 1u8);
            assert_on(node, &of_block(NonNull::from(block).cast(), bytes));
        }
        let layout = Layout::new::<[u8; 4096]>();
        let pool: Pool<_> = Pool::bounded(pages, layout, 500).expect("memory");
        for _ in 0..500 {
            let block = pool.alloc().expect("500 slots");
            write(block, layout.size());
            assert_on(node, &of_block(block, layout.size()));
        }
        let buddy: Buddy<_> = Buddy::new_in(pages, BYTES, 64, Tails::Trim).expect("memory");
        let layout = Layout::new::<[u8; 1 << 20]>();
        while let Ok(block) = buddy.try_alloc(layout) {
            write(block, layout.size());
            assert_on(node, &of_block(block, layout.size()));
        }
        assert_eq!(buddy.largest_free_bytes(), 0, "all of it was looked at");
    }
}

/// Writes all of an extent of `backing`, and tells where it lies.
fn of_extent<B: Backing>(backing: &B) -> Placement {
    let layout = Layout::from_size_align(BYTES, 1).expect("a layout");
    let extent = backing.reserve(layout).expect("addresses");
    if extent.committed_bytes < BYTES {
        // SAFETY: inside the extent.
        unsafe { backing.commit(&extent, extent.committed_bytes..BYTES) }.expect("memory");
    }
    write(extent.start, BYTES);
    let seen = placement(extent.start, BYTES).expect("the kernel tells");
    // SAFETY: given back once, unused.
    unsafe { backing.release(extent) };
    seen
}

#[test]
fn huge_and_shared_pages_are_bound_too() {
    let Some(machine) = machine() else { return };
    let nodes = machine.nodes_with_memory();
    for node in nodes.iter() {
        for wish in [HugeWish::Advised, HugeWish::Mib2] {
            let free = heapwright_os::free_huge_pages(heapwright_os::HugePage::Mib2).unwrap_or(0);
            if wish == HugeWish::Mib2 && (free as usize) < 8 * nodes.count() {
                continue; // A page that the node's pool lacks would be a fault.
            }
            assert_on(node, &of_extent(&Bound::new(HugePages::new(wish), bind(node))));
        }
        let memory = FilePages::shared(c"heapwright-placement").expect("memfd");
        assert_on(node, &of_extent(&Bound::new(memory, bind(node))));
    }
}

#[test]
fn interleaved_pages_are_shared_out_evenly_and_preferred_ones_are_not() {
    let Some(machine) = machine() else { return };
    let nodes = machine.nodes_with_memory();
    let seen = of_extent(&Bound::new(AnonymousPages, NodePolicy::Interleave(nodes.0)));
    let (pages, share) = (BYTES / page_bytes(), BYTES / page_bytes() / nodes.count());
    assert_eq!((seen.present_count(), seen.unknown_count()), (pages, 0));
    for node in nodes.iter() {
        assert!(seen.pages_on(node).abs_diff(share) <= 1, "node {node}: {seen:?}");
    }
    for node in nodes.iter() {
        assert_on(node, &of_extent(&Bound::new(AnonymousPages, NodePolicy::Prefer(node))));
    }
}

#[test]
fn pages_move_from_node_to_node_with_their_contents() {
    let Some(machine) = machine() else { return };
    let first = machine.nodes_with_memory().iter().next().expect("a node");
    let mut memory = alloc_on_node(BYTES, first).expect("memory");
    for (index, byte) in memory.as_mut_slice().iter_mut().enumerate() {
        *byte = index as u8;
    }
    for node in machine.nodes_with_memory().iter().chain([first]) {
        // SAFETY: whole pages of ours.
        let seen = unsafe { migrate(memory.start(), memory.bytes(), node) }.expect("moved");
        assert_on(node, &seen);
    }
    let kept = memory.as_mut_slice().iter().enumerate().all(|(index, byte)| *byte == index as u8);
    assert!(kept, "contents stay as they were");
}

/// CPUs that the thread may run on, as bits; and one that it shall.
fn cpus() -> Vec<usize> {
    // SAFETY: a set of bits; all zero is a value of it.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the call and is as long as said.
    let answer = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    assert_eq!(answer, 0);
    // SAFETY: the index is below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

fn run_on(cpu: usize) {
    // SAFETY: as in `cpus`.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a CPU of this machine, below the set's size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set outlives the call.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }, 0);
}

#[test]
fn local_memory_follows_the_thread() {
    let Some(machine) = machine() else { return };
    let visited = std::thread::spawn(move || {
        let mut visited = NodeSet::EMPTY;
        for cpu in cpus() {
            run_on(cpu);
            let here = current_place();
            assert_eq!(here.cpu as usize, cpu);
            visited = visited.with(here.node);
            let memory = alloc_local(1 << 20).expect("memory");
            // A node without memory takes from the nearest that has some.
            let node = machine.nearest(here.node, NodeSet::EMPTY).expect("a node has memory");
            assert_on(node, &memory.placement().expect("the kernel tells"));
        }
        (visited, machine)
    });
    let (visited, machine) = visited.join().expect("the thread ends well");
    assert_eq!(visited, machine.nodes_with_cpus(), "every node with a CPU was visited");
}

#[test]
fn a_full_node_refuses_and_the_next_nearest_serves() {
    let Some(machine) = machine() else { return };
    for node in machine.nodes_with_memory().iter() {
        let too_much = machine.memory_bytes(node) as usize + 1;
        let refused = alloc_on_node(too_much, node).map(drop);
        let Err(NodeError::NodeFull { node: told, requested_bytes, available_bytes }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!((told, requested_bytes), (node, too_much));
        assert!(available_bytes < too_much as u64);
        // In the order of distance, each node serves when it is asked.
        let (mut without, mut distance) = (NodeSet::EMPTY, 0);
        while let Some(next) = machine.nearest(node, without) {
            assert!(machine.distance(node, next) >= distance, "nearest first");
            distance = machine.distance(node, next);
            let memory = alloc_on_node(BYTES, next).expect("the next one has room");
            assert_on(next, &memory.placement().expect("the kernel tells"));
            without = without.with(next);
        }
        assert_eq!(without, machine.nodes_with_memory());
        assert_eq!(machine.distance(node, node), DISTANCE_LOCAL);
    }
    assert!(machine.nodes().iter().all(|node| (node as usize) < NODE_COUNT_MAX));
}

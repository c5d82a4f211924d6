//! Memory lies on the NUMA node of the thread that took it, or on the one that a zone names.
//!
//! On a machine with one node this says little; `cargo xtask test --tier numa` runs it in guests
//! with several (`HEAPWRIGHT_NODES` says how many). One test at a time there: `--test-threads=1`.

use core::alloc::Layout;
use core::ptr::NonNull;
use std::process::Command;

use heapwright_malloc::{Zone, ZoneOptions, alloc, free, trim};
use heapwright_os::{NodeSet, Placement, Topology, current_node, node_free_bytes, placement};

/// CPUs of a node, as the kernel lists them: `0-3,8`.
fn cpus_of(node: u32) -> Vec<usize> {
    let path = format!("/sys/devices/system/node/node{node}/cpulist");
    let Ok(text) = std::fs::read_to_string(path) else { return vec![0] };
    let ranges = text.trim().split(',').filter(|range| !range.is_empty());
    ranges
        .flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse::<usize>().expect("a number")..=last.parse().expect("a number")
        })
        .collect()
}

/// Lets the calling thread run on a CPU of `node` only; whether it does now.
fn run_on(node: u32) -> bool {
    // SAFETY: all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus_of(node) {
        // SAFETY: the set is ours; the kernel's numbers fit it.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the calling thread, and a set of that size.
    let status = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    status == 0 && current_node() == node
}

/// Nodes with memory that threads can run on.
fn nodes_of_threads(machine: &Topology) -> Vec<u32> {
    let both = machine.nodes_with_cpus().0 & machine.nodes_with_memory().0;
    NodeSet(both).iter().collect()
}

fn touch(block: *mut u8, bytes: usize) {
    assert!(!block.is_null());
    // SAFETY: a live block of at least that many bytes.
    unsafe { block.write_bytes(1, bytes) };
}

/// Whether the OS pages that `bytes` from `block` touch all lie on `node`, and where they lie. On a
/// machine that does not say (an emulator, a sandbox) they lie wherever they should.
fn is_on(node: u32, block: *mut u8, bytes: usize) -> (bool, Option<Placement>) {
    let start = block.map_addr(|address| address & !4095);
    let end = (block.addr() + bytes).next_multiple_of(4096);
    let start = NonNull::new(start).expect("not null");
    let seen = placement(start, end - start.as_ptr().addr()).ok();
    let must_say = std::env::var_os("HEAPWRIGHT_NODES").is_some();
    (seen.map_or(!must_say, |seen| seen.is_within(NodeSet::of(node))), seen)
}

/// Blocks of many sizes, small and large, touched.
fn take_blocks() -> Vec<(*mut u8, usize)> {
    let mut blocks = Vec::new();
    for round in 0..40usize {
        for bytes in [24, 100, 640, 3000, 9000, 30_000, 200_000, 1_500_000] {
            let bytes = bytes + round * 8;
            let block = alloc(bytes);
            touch(block, bytes);
            blocks.push((block, bytes));
        }
    }
    blocks
}

fn give(blocks: Vec<(*mut u8, usize)>) {
    for (block, _) in blocks {
        // SAFETY: live, and not used again.
        unsafe { free(block) };
    }
}

#[test]
fn the_machine_is_the_one_that_was_asked_for() {
    let machine = Topology::read();
    if let Ok(nodes) = std::env::var("HEAPWRIGHT_NODES") {
        assert_eq!(machine.nodes_with_memory().count().to_string(), nodes);
    }
    assert!(!nodes_of_threads(&machine).is_empty());
}

#[test]
fn blocks_lie_on_the_node_of_the_thread_that_takes_them() {
    let machine = Topology::read();
    for round in 0..3 {
        for node in nodes_of_threads(&machine) {
            std::thread::spawn(move || {
                assert!(run_on(node));
                let blocks = take_blocks();
                for (block, bytes) in &blocks {
                    let (is_there, seen) = is_on(node, *block, *bytes);
                    assert!(is_there, "round {round}, {bytes}: {seen:?}");
                }
                give(blocks);
            })
            .join()
            .expect("no panic");
        }
    }
}

#[test]
fn what_another_node_s_thread_frees_stays_where_it_lies() {
    let machine = Topology::read();
    let nodes = nodes_of_threads(&machine);
    for (node, other) in nodes.iter().copied().zip(nodes.iter().copied().cycle().skip(1)) {
        let taken = std::thread::spawn(move || {
            assert!(run_on(node));
            let blocks = take_blocks();
            blocks.into_iter().map(|(block, bytes)| (block.expose_provenance(), bytes)).collect()
        });
        let taken: Vec<(usize, usize)> = taken.join().expect("no panic");
        std::thread::spawn(move || {
            assert!(run_on(other));
            let expose = |(block, bytes)| (std::ptr::with_exposed_provenance_mut(block), bytes);
            give(taken.into_iter().map(expose).collect());
            // Not the ones just freed, unless it is the same node.
            let blocks = take_blocks();
            for (block, bytes) in &blocks {
                let (is_there, seen) = is_on(other, *block, *bytes);
                assert!(is_there, "{node} to {other}, {bytes}: {seen:?}");
            }
            give(blocks);
        })
        .join()
        .expect("no panic");
    }
}

#[test]
fn a_thread_that_migrates_takes_from_its_new_node() {
    let machine = Topology::read();
    let nodes = nodes_of_threads(&machine);
    std::thread::spawn(move || {
        for node in nodes {
            assert!(run_on(node));
            let mut blocks = Vec::new();
            for bytes in [64usize, 700, 5000] {
                // What it had in its lists lies on the old node: at most a span's.
                let first = 2 * 65_536 / bytes + 8;
                for number in 0..first * 4 {
                    let block = alloc(bytes);
                    touch(block, bytes);
                    let (is_there, seen) = is_on(node, block, bytes);
                    assert!(number < first || is_there, "{bytes} on {node}: {seen:?}");
                    blocks.push((block, bytes));
                }
            }
            give(blocks);
        }
    })
    .join()
    .expect("no panic");
}

#[test]
fn a_zone_of_a_node_has_its_memory_from_any_thread() {
    let machine = Topology::read();
    for node in machine.nodes_with_memory().iter() {
        let zone = Zone::create_with(ZoneOptions::new().node(node)).expect("memory");
        for from in nodes_of_threads(&machine) {
            std::thread::spawn(move || {
                assert!(run_on(from));
                for bytes in [40usize, 1000, 20_000, 100_000, 3_000_000] {
                    for _ in 0..20 {
                        let layout = Layout::from_size_align(bytes, 16).expect("a layout");
                        let block = zone.alloc(layout).expect("memory").as_ptr();
                        touch(block, bytes);
                        let (is_there, seen) = is_on(node, block, bytes);
                        assert!(is_there, "{bytes} on {node}: {seen:?}");
                    }
                }
            })
            .join()
            .expect("no panic");
        }
        // SAFETY: no block is used any more.
        unsafe { zone.destroy() }.expect("there");
    }
}

#[test]
fn a_node_without_memory_left_is_helped_by_the_nearest() {
    const BLOCK_BYTES: usize = 4 << 20;
    let machine = Topology::read();
    let nodes = machine.nodes_with_memory();
    if nodes.count() < 2 || std::env::var_os("HEAPWRIGHT_NODES").is_none() {
        return; // It would fill this machine's memory.
    }
    let node = nodes.iter().last().expect("some");
    let nearest = machine.nearest(node, NodeSet::of(node)).expect("another");
    let zone = Zone::create_with(ZoneOptions::new().node(node)).expect("memory");
    let layout = Layout::from_size_align(BLOCK_BYTES, 16).expect("a layout");
    let all = machine.memory_bytes(node) as usize / BLOCK_BYTES + 8;
    let spilled = (0..all).find_map(|_| {
        let block = zone.alloc(layout).expect("memory").as_ptr();
        touch(block, BLOCK_BYTES);
        let (is_there, seen) = is_on(node, block, BLOCK_BYTES);
        (!is_there).then(|| seen.expect("the kernel says"))
    });
    let spilled = spilled.expect("the node is full at some time");
    let others = nodes.iter().filter(|other| *other != node && spilled.pages_on(*other) > 0);
    for other in others {
        let distance = machine.distance(node, nearest);
        assert_eq!(machine.distance(node, other), distance, "from {node}: {spilled:?}");
    }
    assert!(node_free_bytes(node).expect("the kernel says") < machine.memory_bytes(node) / 4);
    // SAFETY: no block is used any more.
    unsafe { zone.destroy() }.expect("there");
    // Free runs keep their pages, also those of other nodes, until they are purged.
    trim();
}

/// Where a part of the region is used up: in a process with little address space.
#[test]
fn addresses_of_another_node_serve_when_a_node_s_are_used_up() {
    const LIMIT_BYTES: u64 = 3 << 30;
    const BLOCK_BYTES: usize = 16 << 20;
    const CHILD: &str = "HEAPWRIGHT_TEST_NODES_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let program = std::env::current_exe().expect("a path");
        let name = "addresses_of_another_node_serve_when_a_node_s_are_used_up";
        let status = Command::new(program)
            .args(["--exact", name, "--test-threads=1"])
            .env(CHILD, "1")
            .status()
            .expect("the test program itself");
        assert!(status.success());
        return;
    }
    let limit = libc::rlimit { rlim_cur: LIMIT_BYTES, rlim_max: LIMIT_BYTES };
    // SAFETY: a structure of ours; the region is reserved at the first allocation, below.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    let machine = Topology::read();
    let node = nodes_of_threads(&machine)[0];
    assert!(run_on(node));
    // The region is 1 GiB or 512 MiB, a part of it half of that or a quarter.
    let mut far_count = 0;
    for _ in 0..24 {
        let block = alloc(BLOCK_BYTES);
        touch(block, 4096);
        far_count += usize::from(!is_on(node, block, 4096).0);
    }
    let parts = machine.nodes_with_memory().count();
    assert!(parts < 4 || far_count > 0, "a quarter of 1 GiB has no room for 24 blocks of 16 MiB");
}

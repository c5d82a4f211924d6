//! A large request fails with more than its size free; the statistics said so before; compaction
//! makes it succeed. Under a buffer's, a quota's and the kernel's limit.

use std::mem::MaybeUninit;
use std::process::Command;

use heapwright_regions::{
    AllocError, AnonymousPages, Backing, Buffer, CompactingHeap, Handle, Limited,
};
use heapwright_testkit::Random;

const BUDGET_BYTES: usize = 4 << 20;

/// A live block, all of whose bytes are `fill`.
struct Block {
    handle: Handle<[u8]>,
    bytes: usize,
    fill: u8,
}

fn insert<B: Backing>(heap: &CompactingHeap<B>, random: &mut Random) -> Option<Block> {
    let bytes = random.log_uniform(100, 8000) as usize;
    let fill = bytes as u8;
    let contents = [fill; 8000];
    let handle = heap.insert(&contents[..bytes]).ok()?;
    Some(Block { handle, bytes, fill })
}

/// Fills the heap, exchanges blocks at random, and frees every second one.
fn churn<B: Backing>(heap: &CompactingHeap<B>) -> Vec<Block> {
    let random = &mut Random::new(3);
    let mut live = Vec::new();
    while let Some(block) = insert(heap, random) {
        live.push(block);
    }
    for _ in 0..2 * live.len() {
        let at = random.below(live.len() as u64) as usize;
        heap.remove(live.swap_remove(at).handle).expect("live");
        live.extend(insert(heap, random));
    }
    let mut keep = false;
    live.retain(|block| {
        keep = !keep;
        if !keep {
            heap.remove(block.handle).expect("live");
        }
        keep
    });
    live
}

/// Asks for a quarter of all there is, when half of it is free.
fn refused_then_served<B: Backing>(heap: &CompactingHeap<B>) {
    let live = churn(heap);
    let seen = heap.statistics();
    let free = seen.free_bytes.value().expect("exact");
    let large = seen.committed_bytes / 4;
    assert!(free > large + large / 4, "{free} bytes are free");
    assert!(seen.largest_free_bytes < large, "the statistics said so before: {seen:?}");
    assert!(seen.external_fragmentation().expect("known") > 0.5);
    match heap.insert_zeroed(large).expect_err("in no piece") {
        AllocError::Full { largest_free_bytes, .. } => assert!(largest_free_bytes < large),
        AllocError::Backing(_) => {}
        other => panic!("{other}"),
    }
    assert!(heap.compact().finished);
    let served = heap.insert_zeroed(large).expect("now it fits");
    assert!(heap.pin(served).expect("live").iter().all(|byte| *byte == 0));
    for block in live {
        let bytes = heap.pin(block.handle).expect("live");
        assert_eq!(bytes.len(), block.bytes);
        assert!(bytes.iter().all(|byte| *byte == block.fill), "every byte is as it was");
    }
}

#[test]
fn in_a_buffer() {
    let mut memory = vec![MaybeUninit::uninit(); BUDGET_BYTES];
    refused_then_served(&CompactingHeap::new_in(Buffer::new(&mut memory)));
}

#[test]
fn under_a_quota() {
    let heap = CompactingHeap::new_in(Limited::new(AnonymousPages, BUDGET_BYTES));
    refused_then_served(&heap);
}

#[test]
fn of_a_given_capacity() {
    refused_then_served(&CompactingHeap::with_capacity_max(AnonymousPages, BUDGET_BYTES));
}

/// The limit is of the whole process, so this test runs in one of its own.
#[test]
fn under_the_kernels_limit_of_addresses() {
    const MARK: &str = "HEAPWRIGHT_TEST_ADDRESS_LIMIT";
    if std::env::var_os(MARK).is_some() {
        limit_addresses();
        // The heap takes what it gets of the addresses: the first half, quarter, ... that fits.
        return refused_then_served(&CompactingHeap::new_in(AnonymousPages));
    }
    let own = std::env::current_exe().expect("a path");
    let output = Command::new(own)
        .args(["--exact", "under_the_kernels_limit_of_addresses", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Leaves ten times the budget, of which the heap takes the most.
fn limit_addresses() {
    let status = std::fs::read_to_string("/proc/self/status").expect("a proc file system");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let bytes = kib * 1024 + 10 * BUDGET_BYTES as u64;
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: a structure of ours.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

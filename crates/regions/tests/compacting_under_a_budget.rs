//! A large request fails with more than its size free; the statistics said so before; compaction
//! makes it succeed. Under a buffer's, a quota's and the kernel's limit.

use std::mem::MaybeUninit;
use std::process::Command;

use heapwright_regions::{
    AllocError, AnonymousPages, Backing, Buffer, CompactingHeap, Handle, Limited,
};
use heapwright_testkit::Random;

const BUDGET_BYTES: usize = 4 << 20;
const LARGE_BYTES: usize = 1 << 20;

/// Fills the heap, exchanges blocks at random, and frees every second one.
fn churn<B: Backing>(heap: &CompactingHeap<B>) -> Vec<(Handle<[u8]>, Vec<u8>)> {
    let random = &mut Random::new(3);
    let contents = |random: &mut Random| {
        let bytes = random.log_uniform(100, 8000) as usize;
        vec![bytes as u8; bytes]
    };
    let mut live = Vec::new();
    loop {
        let bytes = contents(random);
        match heap.insert(&bytes) {
            Ok(handle) => live.push((handle, bytes)),
            Err(_) => break,
        }
    }
    for _ in 0..5000 {
        let at = random.below(live.len() as u64) as usize;
        heap.remove(live[at].0).expect("live");
        live.swap_remove(at);
        let bytes = contents(random);
        if let Ok(handle) = heap.insert(&bytes) {
            live.push((handle, bytes));
        }
    }
    let mut keep = false;
    live.retain(|(handle, _)| {
        keep = !keep;
        if !keep {
            heap.remove(*handle).expect("live");
        }
        keep
    });
    live
}

fn refused_then_served<B: Backing>(heap: &CompactingHeap<B>) {
    let live = churn(heap);
    let seen = heap.statistics();
    let free = seen.free_bytes.value().expect("exact");
    assert!(free > LARGE_BYTES + LARGE_BYTES / 4, "{free} bytes are free");
    assert!(seen.largest_free_bytes < LARGE_BYTES, "the statistics said so before: {seen:?}");
    assert!(seen.external_fragmentation().expect("known") > 0.5);
    let large = vec![7; LARGE_BYTES];
    match heap.insert(&large).expect_err("in no piece") {
        AllocError::Full { largest_free_bytes, .. } => assert!(largest_free_bytes < LARGE_BYTES),
        AllocError::Backing(_) => {}
        other => panic!("{other}"),
    }
    assert!(heap.compact().finished);
    let large = heap.insert(&large).expect("now it fits");
    assert_eq!(heap.pin(large).expect("live")[..], [7; LARGE_BYTES]);
    for (handle, contents) in live {
        assert_eq!(heap.pin(handle).expect("live")[..], contents, "every byte is as it was");
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
        // Half the addresses there are, found by halving, go to the heap.
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

/// Leaves twice the budget and what the test itself needs.
fn limit_addresses() {
    let status = std::fs::read_to_string("/proc/self/status").expect("a proc file system");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let bytes = kib * 1024 + 40 * BUDGET_BYTES as u64;
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: a structure of ours.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

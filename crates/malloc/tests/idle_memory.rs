//! Threads that have freed most of their blocks and then do nothing: their memory goes back by
//! itself, pages inside partly used spans too. One test in this file: it looks at the process.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use heapwright_malloc::{alloc, free};

const THREAD_COUNT: usize = 4;
const BYTES_PER_THREAD: usize = 16 << 20;
/// One block in so many is kept.
const KEPT: usize = 16;
/// The purger needs about a second; this is for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of anonymous memory that are resident.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process's own status");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

/// Blocks of 32 B to 4 KiB, small and large ones mixed.
fn fill() -> Vec<(usize, usize)> {
    let mut blocks = Vec::new();
    let (mut total, mut state) = (0, 88_172_645_463_325_252_u64);
    while total < BYTES_PER_THREAD {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let log2 = state % 7;
        let bytes = (32 << log2) + (state >> 32) as usize % (32 << log2);
        let block = alloc(bytes);
        assert!(!block.is_null());
        // SAFETY: a fresh block.
        unsafe { block.write_bytes(1, bytes) };
        blocks.push((block.expose_provenance(), bytes));
        total += bytes;
    }
    blocks
}

#[test]
fn memory_of_idle_threads_goes_back() {
    let before = resident_bytes();
    let (full, sparse, checked) = (
        Barrier::new(THREAD_COUNT + 1),
        Barrier::new(THREAD_COUNT + 1),
        Barrier::new(THREAD_COUNT + 1),
    );
    std::thread::scope(|scope| {
        for _ in 0..THREAD_COUNT {
            scope.spawn(|| {
                let blocks = fill();
                full.wait();
                for (number, (block, _)) in blocks.iter().enumerate() {
                    if number * 7 % KEPT != 0 {
                        // SAFETY: live, and not used again.
                        unsafe { free(std::ptr::with_exposed_provenance_mut(*block)) };
                    }
                }
                sparse.wait();
                checked.wait();
                for (number, (block, bytes)) in blocks.iter().enumerate() {
                    if number * 7 % KEPT == 0 {
                        let block: *mut u8 = std::ptr::with_exposed_provenance_mut(*block);
                        // SAFETY: kept, and written when it was new.
                        let contents = unsafe { std::slice::from_raw_parts(block, *bytes) };
                        assert!(contents.iter().all(|byte| *byte == 1));
                        // SAFETY: live.
                        unsafe { free(block) };
                    }
                }
            });
        }
        full.wait();
        let peak = resident_bytes() - before;
        assert!(peak >= THREAD_COUNT * BYTES_PER_THREAD);
        sparse.wait();
        let start = Instant::now();
        let live = THREAD_COUNT * BYTES_PER_THREAD / KEPT;
        loop {
            let now = resident_bytes().saturating_sub(before);
            if now < 6 * live + (8 << 20) {
                println!("{now} bytes resident, {live} live, after {:?}", start.elapsed());
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{now} bytes resident, {live} live");
            std::thread::sleep(Duration::from_millis(50));
        }
        checked.wait();
    });
}

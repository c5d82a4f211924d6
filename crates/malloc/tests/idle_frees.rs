//! Blocks that one thread made and another freed, both idle since: their memory goes back by
//! itself, wherever it waited (in the outbox of the thread that freed, in the owner's queue, in
//! spans that nobody owns). One test in this file: it looks at the process.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use heapwright_malloc::{alloc, free};

const BLOCK_COUNT: usize = 40_000;
/// Blocks of a thread that comes and goes, and how many such threads.
const FEW: usize = 160;
const THREAD_COUNT: u64 = 500;
/// One block in so many is kept; those lie together, so what is free can be whole pages.
const KEPT_SHARE: usize = 16;
/// The purger needs about a second; this is for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A block, by address and size.
type Made = (usize, usize);

/// Bytes of anonymous memory that are resident.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process's own status");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

/// Blocks of 32 B to 4 KiB, all written.
fn fill(mut state: u64, count: usize) -> Vec<Made> {
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bytes = 32 + (state >> 32) as usize % 4064;
        let block = alloc(bytes);
        assert!(!block.is_null());
        // SAFETY: a fresh block.
        unsafe { block.write_bytes(1, bytes) };
        blocks.push((block.expose_provenance(), bytes));
    }
    blocks
}

fn free_all(blocks: &[Made]) {
    for (block, bytes) in blocks {
        let block: *mut u8 = std::ptr::with_exposed_provenance_mut(*block);
        // SAFETY: live, and written when it was new.
        let contents = unsafe { std::slice::from_raw_parts(block, *bytes) };
        assert!(contents.iter().all(|byte| *byte == 1));
        // SAFETY: live, and not used again.
        unsafe { free(block) };
    }
}

/// Waits until what is resident above `before` is not far above what is asked of a process at
/// rest: 1.1 x live + 2 MiB + 256 KiB a thread.
///
/// # Errors
/// What is resident when patience ends; a panic would leave threads waiting.
fn wait_for_rest(before: usize, live: usize, threads: usize, what: &str) -> Result<(), String> {
    let asked = live + live / 10 + (2 << 20) + threads * (256 << 10);
    let start = Instant::now();
    loop {
        let now = resident_bytes().saturating_sub(before);
        if now < 2 * asked {
            // What is still to come may come meanwhile.
            std::thread::sleep(Duration::from_millis(500));
            let rest = resident_bytes().saturating_sub(before);
            println!("{what}: {rest} bytes resident, {live} live, asked {asked}");
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("{what}: {now} bytes resident, {live} live, asked {asked}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn bytes_of(blocks: &[Made]) -> usize {
    blocks.iter().map(|(_, bytes)| bytes).sum()
}

/// The owner sleeps, or has ended, while another thread frees and then sleeps.
fn freed_by_another(before: usize, is_owner_there: bool) {
    let kept = BLOCK_COUNT / KEPT_SHARE;
    let (freed, looked) = (Barrier::new(2), Barrier::new(2));
    let (send, made) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let owner = scope.spawn(move || {
            send.send(fill(7, BLOCK_COUNT)).expect("somebody waits");
            if is_owner_there {
                // An error: the other end was dropped.
                assert!(ended.recv().is_err());
            }
        });
        let blocks: Vec<Made> = made.recv().expect("blocks");
        let owner = if is_owner_there {
            Some(owner)
        } else {
            owner.join().expect("no panic");
            None
        };
        std::thread::scope(|inner| {
            inner.spawn(|| {
                free_all(&blocks[kept..]);
                freed.wait();
                looked.wait();
            });
            freed.wait();
            let what = if is_owner_there { "owner asleep" } else { "owner gone" };
            let rest = wait_for_rest(before, bytes_of(&blocks[..kept]), 3, what);
            looked.wait();
            drop(end);
            rest.expect("memory goes back");
        });
        if let Some(owner) = owner {
            owner.join().expect("no panic");
        }
        free_all(&blocks[..kept]);
    });
}

/// Many threads one after the other, each of which leaves a few blocks behind.
fn churn(before: usize) {
    let mut left = Vec::new();
    for number in 0..THREAD_COUNT {
        let one = std::thread::spawn(move || {
            let mut blocks = fill(number + 9, FEW);
            let rest = blocks.split_off(FEW / KEPT_SHARE);
            free_all(&rest);
            blocks
        });
        left.extend(one.join().expect("no panic"));
    }
    let idle = Barrier::new(2);
    std::thread::scope(|scope| {
        // A process with one thread purges in its slow paths, and so not while it waits.
        scope.spawn(|| {
            free_all(&fill(1, FEW));
            idle.wait();
        });
        let rest = wait_for_rest(before, bytes_of(&left), 2, "churn");
        idle.wait();
        rest.expect("memory goes back");
    });
    free_all(&left);
}

#[test]
fn memory_freed_by_other_threads_goes_back() {
    // This thread counts as one that allocates: with a single one there is no purger.
    free_all(&fill(1, 1));
    let before = resident_bytes();
    freed_by_another(before, true);
    freed_by_another(before, false);
    churn(before);
}

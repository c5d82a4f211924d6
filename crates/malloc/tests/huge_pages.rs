//! Memory that is dense and old becomes huge pages, and keeps its contents. One test in this file:
//! it waits for the process's purger.

use core::ptr::NonNull;
use std::time::{Duration, Instant};

use heapwright_malloc::{alloc, free, option, set_option};
use heapwright_os::{Protection, collapse, huge_bytes, reserve, transparent_huge_page_bytes};

const BLOCK_BYTES: usize = 1024;
const BLOCK_COUNT: usize = 32 << 10;
/// Two seconds until memory is old, and some for the work; this is for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this kernel makes huge pages when it is asked to.
fn can_collapse() -> bool {
    let huge = transparent_huge_page_bytes();
    let Ok(start) = reserve(2 * huge, Protection::ReadWrite) else { return false };
    let start = start.as_ptr().map_addr(|address| address.next_multiple_of(huge));
    // SAFETY: inside the mapping.
    unsafe { start.write_bytes(1, huge) };
    let start = NonNull::new(start).expect("not null");
    // SAFETY: as above; the mapping stays.
    huge == 2 << 20 && unsafe { collapse(start, huge) }.is_ok() && huge_bytes(start, huge).is_some()
}

/// Bytes of the aligned 2 MiB that blocks lie in, in huge pages.
fn huge_bytes_of(blocks: &[*mut u8]) -> usize {
    let mut groups: Vec<*mut u8> =
        blocks.iter().map(|block| block.map_addr(|address| address & !((2 << 20) - 1))).collect();
    groups.sort_unstable();
    groups.dedup();
    let groups = groups.into_iter().filter_map(NonNull::new);
    groups.map(|group| huge_bytes(group, 2 << 20).unwrap_or(0)).sum()
}

/// Whether the kernel makes the memory in the middle of the blocks huge when it is asked directly.
fn has_huge_pages_left(blocks: &[*mut u8]) -> bool {
    let middle = blocks[blocks.len() / 2].map_addr(|address| address & !((2 << 20) - 1));
    let middle = NonNull::new(middle).expect("not null");
    // SAFETY: memory of the allocator, all of it usable; contents stay.
    unsafe { collapse(middle, 2 << 20) }.is_ok()
}

#[test]
fn what_is_dense_and_old_becomes_huge_when_it_is_wanted() {
    assert_eq!(option("huge_pages"), Some(0), "off unless asked for");
    let blocks: Vec<*mut u8> = (0..BLOCK_COUNT).map(|_| alloc(BLOCK_BYTES)).collect();
    for (number, block) in blocks.iter().enumerate() {
        // SAFETY: a live block of that size.
        unsafe { block.write_bytes(number as u8, BLOCK_BYTES) };
    }
    if !can_collapse() {
        println!("this kernel makes no huge pages; nothing to see");
        return;
    }
    set_option("huge_pages", "1").expect("an option");
    let start = Instant::now();
    std::thread::scope(|scope| {
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stop = done.clone();
        // A second thread with a heap, so that the process has a purger.
        scope.spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for bytes in [100, 5000, 40_000] {
                    let others: Vec<_> = (0..200).map(|_| alloc(bytes)).collect();
                    for other in others {
                        // SAFETY: live, and not used again.
                        unsafe { free(other) };
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let wanted = BLOCK_COUNT * BLOCK_BYTES / 2;
        while huge_bytes_of(&blocks) < wanted && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let found = huge_bytes_of(&blocks);
        if found < wanted && !has_huge_pages_left(&blocks) {
            println!("{found} bytes are huge, then the kernel had no more of them");
            return;
        }
        assert!(found >= wanted, "{found} bytes are huge after {:?}", start.elapsed());
    });
    for (number, block) in blocks.iter().enumerate() {
        // SAFETY: a live block of that size.
        let contents = unsafe { core::slice::from_raw_parts(*block, BLOCK_BYTES) };
        assert!(contents.iter().all(|byte| *byte == number as u8), "block {number}");
        // SAFETY: live, and not used again.
        unsafe { free(*block) };
    }
}

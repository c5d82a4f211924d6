//! A thread whose spans were merged while it waited gives back, when it comes again, the free slots
//! that it had in them: written, each page of those would be copied. One test in this file: it
//! looks at the process.

mod sparse;

use std::sync::Barrier;

use heapwright_malloc::{MergeState, alloc, free, merge_statistics};

use sparse::{Sparse, merge_again};

const SIZES: usize = 40;

/// Pages of merged windows that were copied when they were written, and all that are resident.
fn merged_kib() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/smaps").expect("our own");
    let (mut is_merged, mut copied_kib, mut resident_kib) = (false, 0, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if !first.ends_with(':') {
            is_merged = line.contains("heapwright-merged") && second.ends_with('p');
        } else if is_merged && first == "Anonymous:" {
            copied_kib += second.parse::<usize>().expect("a number");
        } else if is_merged && first == "Rss:" {
            resident_kib += second.parse::<usize>().expect("a number");
        }
    }
    (copied_kib, resident_kib)
}

/// A block of each of many classes, written.
fn blocks_of_all_sizes() -> Vec<*mut u8> {
    let new = |number: usize| {
        let bytes = (24.0 * (4000.0_f64 / 24.0).powf(number as f64 / SIZES as f64)) as usize;
        let block = alloc(bytes);
        assert!(!block.is_null());
        // SAFETY: a fresh block.
        unsafe { block.write_bytes(1, bytes) };
        block
    };
    (0..SIZES).map(new).collect()
}

#[test]
fn a_thread_that_comes_back_copies_no_merged_pages_for_its_free_slots() {
    let turn = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut kept = Sparse::new(24 << 20, 16, 7);
            turn.wait();
            turn.wait();
            kept.check();
            let before = merged_kib();
            // None of that class was ever asked for, so this is a slow path.
            let first = alloc(15 << 10);
            let blocks = blocks_of_all_sizes();
            let after = merged_kib();
            kept.check();
            for block in blocks.into_iter().chain([first]) {
                // SAFETY: live, and not used again.
                unsafe { free(block) };
            }
            kept.free_all();
            let statistics = merge_statistics();
            if statistics.state != MergeState::Works {
                return println!("merging {}", statistics.state.name());
            }
            println!("KiB copied and resident: {before:?}, then {after:?}");
            assert!(before.1 > 1 << 10, "merged windows are resident: {statistics:?}");
            let copied_pages = (after.0 - before.0) / 4;
            assert!(copied_pages <= SIZES / 4, "{copied_pages} pages for {SIZES} blocks");
        });
        turn.wait();
        merge_again();
        turn.wait();
    });
}

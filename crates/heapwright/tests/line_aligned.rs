//! Blocks of different threads never share a cache line: by their addresses, not by timing.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;

use heapwright::{Heapwright, LineAligned};

#[global_allocator]
static GLOBAL: LineAligned<Heapwright> = LineAligned::new(Heapwright);

const LINE_BYTES: usize = 64;

#[test]
fn no_two_blocks_share_a_line() {
    let threads: Vec<_> = (0..4u8)
        .map(|thread| {
            std::thread::spawn(move || {
                let sizes = [1usize, 8, 17, 63, 64, 65, 200, 1000, 5000, 40_000];
                let blocks = (0..3000).map(|step| vec![thread; sizes[step % sizes.len()]]);
                blocks.collect::<Vec<_>>()
            })
        })
        .collect();
    let all: Vec<Vec<u8>> =
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
    let mut lines = BTreeMap::new();
    for block in &all {
        let first = block.as_ptr().addr();
        assert!(first.is_multiple_of(LINE_BYTES));
        for line in first / LINE_BYTES..=(first + block.len() - 1) / LINE_BYTES {
            let other = lines.insert(line, first);
            assert_eq!(other, None, "a line of the block at {first:x}");
        }
    }
    assert!(all.iter().all(|block| block.iter().all(|byte| *byte == block[0])));
}

#[test]
fn a_vector_keeps_its_lines_and_contents_as_it_grows_and_shrinks() {
    let mut numbers = Vec::new();
    for number in 0..1_000_000u64 {
        numbers.push(number);
        assert!(numbers.as_ptr().addr().is_multiple_of(LINE_BYTES));
    }
    numbers.truncate(10_000);
    numbers.shrink_to_fit();
    assert!(numbers.as_ptr().addr().is_multiple_of(LINE_BYTES));
    assert!(numbers.iter().copied().eq(0..10_000));
}

#[test]
fn stricter_alignments_are_kept_and_impossible_sizes_refused() {
    for align in [1, 64, 128, 4096, 1 << 16] {
        let layout = Layout::from_size_align(100, align).expect("a layout");
        // SAFETY: not empty.
        let block = unsafe { GLOBAL.alloc_zeroed(layout) };
        assert!(!block.is_null() && block.addr().is_multiple_of(align.max(LINE_BYTES)));
        // SAFETY: a live block of 100 bytes.
        let contents = unsafe { std::slice::from_raw_parts(block, 100) };
        assert!(contents.iter().all(|byte| *byte == 0));
        // SAFETY: live, of that layout; only the result is used.
        let block = unsafe { GLOBAL.realloc(block, layout, 300_000) };
        assert!(!block.is_null() && block.addr().is_multiple_of(align.max(LINE_BYTES)));
        let layout = Layout::from_size_align(300_000, align).expect("a layout");
        // SAFETY: live, of that layout, not used again.
        unsafe { GLOBAL.dealloc(block, layout) };
    }
    let largest = Layout::from_size_align(isize::MAX as usize, 1).expect("a layout");
    // SAFETY: not empty.
    assert!(unsafe { GLOBAL.alloc(largest) }.is_null());
}

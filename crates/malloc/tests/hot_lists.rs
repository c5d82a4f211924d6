//! Classes that are refilled often get longer lists, but not more than a bounded amount of memory for
//! it, however many spans come and go meanwhile. One test, since what others use counts, too.

use std::collections::BTreeSet;

/// Classes from 144 to 1,024 bytes.
const CLASS_BYTES: [usize; 24] = [
    144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448, 480, 512, 576, 640, 704,
    768, 832, 896, 960, 1024,
];
const PAGE_BYTES: usize = 4096;
/// What all lists together may take beyond a page or two for each class.
const EXTRA_BYTES_MAX: usize = 64 * 1024;

#[test]
fn spans_that_come_and_go_do_not_lengthen_lists() {
    let mut pages = BTreeSet::new();
    for _ in 0..2000 {
        // Of these a span holds one, and an empty one goes back.
        let large: Vec<_> = (0..4).map(|_| heapwright_malloc::alloc(20_000)).collect();
        for &block in &large {
            // SAFETY: just allocated.
            unsafe { heapwright_malloc::free(block) };
        }
        for bytes in CLASS_BYTES {
            let block = heapwright_malloc::alloc(bytes);
            assert!(!block.is_null());
            pages.insert(block.addr() / PAGE_BYTES);
            // SAFETY: just allocated.
            unsafe { heapwright_malloc::free(block) };
        }
    }
    let most = CLASS_BYTES.len() * 2 * PAGE_BYTES + EXTRA_BYTES_MAX;
    let used = pages.len() * PAGE_BYTES;
    assert!(used <= most, "{used} bytes for {} live blocks at a time", CLASS_BYTES.len());
}

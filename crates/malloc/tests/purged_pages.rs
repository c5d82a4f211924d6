//! Pages that were purged inside spans come back several at once when the class grows again: a
//! fault each would cost the next burst more than the first. One test in this file: it looks at
//! the process.

use heapwright_malloc::{alloc, free, trim};

const BLOCK_BYTES: usize = 512;
const BLOCK_COUNT: usize = 16 << 10;
/// One block in so many is kept, so that most OS pages have none.
const KEPT: usize = 64;
const PAGE_BYTES: usize = 4096;
/// A fault each would make it 1; the last pages of a span can be fewer.
const PAGES_AT_ONCE_MIN: usize = 4;

/// A block's address; the block is written.
fn new_block() -> usize {
    let block = alloc(BLOCK_BYTES);
    assert!(!block.is_null());
    // SAFETY: a fresh block.
    unsafe { block.write_bytes(1, BLOCK_BYTES) };
    block.expose_provenance()
}

/// Resident pages between two addresses, the first one at a page's start.
fn resident_count(start: usize, end: usize) -> usize {
    let mut pages = vec![0_u8; (end - start).div_ceil(PAGE_BYTES)];
    let address = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: it only looks, and writes a byte for each page.
    let status = unsafe { libc::mincore(address, end - start, pages.as_mut_ptr()) };
    assert_eq!(status, 0, "the heap's addresses are mapped");
    pages.iter().filter(|page| **page & 1 == 1).count()
}

/// Whether the kernel provides pages on request (Linux 5.14).
fn kernel_populates() -> bool {
    let block = alloc(2 * PAGE_BYTES);
    let place = block.map_addr(|address| address.next_multiple_of(PAGE_BYTES));
    // SAFETY: one page of a live block, whose contents stay.
    let status = unsafe { libc::madvise(place.cast(), PAGE_BYTES, libc::MADV_POPULATE_WRITE) };
    // SAFETY: live.
    unsafe { free(block) };
    status == 0
}

#[test]
fn purged_pages_come_back_several_at_once() {
    if !kernel_populates() || resident_page_bytes() != PAGE_BYTES {
        return println!("left out: this kernel provides no pages on request, or larger ones");
    }
    let blocks: Vec<usize> = (0..BLOCK_COUNT).map(|_| new_block()).collect();
    let start = blocks.iter().min().expect("blocks") / PAGE_BYTES * PAGE_BYTES;
    let end = blocks.iter().max().expect("blocks") + BLOCK_BYTES;
    for (number, block) in blocks.iter().enumerate() {
        if number % KEPT != 0 {
            // SAFETY: live, and not used again.
            unsafe { free(std::ptr::with_exposed_provenance_mut(*block)) };
        }
    }
    trim();
    let purged = resident_count(start, end);
    let kept = BLOCK_COUNT / KEPT;
    assert!(purged < 4 * kept, "{purged} pages are resident, {kept} have a block");
    let mut last = purged;
    let mut most = 0;
    for _ in 0..BLOCK_COUNT / 8 {
        new_block();
        let now = resident_count(start, end);
        most = most.max(now.saturating_sub(last));
        last = now;
    }
    assert!(last > purged, "new blocks are where the old ones were");
    assert!(most >= PAGES_AT_ONCE_MIN, "at most {most} pages came at once");
}

fn resident_page_bytes() -> usize {
    // SAFETY: a plain question.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

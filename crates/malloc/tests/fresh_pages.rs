//! `malloc` leaves a page that is not there to whoever writes the block first: it neither takes the
//! page fault nor makes a page resident that the program may never write. One test, since other
//! threads' blocks would be in the way.

use std::collections::BTreeSet;

const PAGE_BYTES: usize = 4096;
/// With slots that begin on page boundaries and such that lie across them, and more than a page.
const SIZES: [usize; 7] = [16, 48, 208, 1024, 1500, 5000, 20_000];
const COUNT: usize = 120;

fn is_resident(page: usize) -> bool {
    let mut status = 0u8;
    let place = std::ptr::without_provenance_mut(page * PAGE_BYTES);
    // SAFETY: a page of ours; one byte is written for it.
    assert_eq!(unsafe { libc::mincore(place, PAGE_BYTES, &raw mut status) }, 0);
    status & 1 == 1
}

#[test]
fn a_block_on_a_fresh_page_comes_untouched() {
    // SAFETY: asks for a number.
    if unsafe { libc::sysconf(libc::_SC_PAGESIZE) } != PAGE_BYTES as i64 {
        return;
    }
    let mut written = BTreeSet::new();
    let mut fresh_count = 0;
    for bytes in SIZES {
        for _ in 0..COUNT {
            let block = heapwright_malloc::alloc(bytes);
            assert!(!block.is_null());
            let page = block.addr() / PAGE_BYTES;
            if written.insert(page) {
                fresh_count += 1;
                assert!(!is_resident(page), "a page for {bytes} bytes was touched");
            }
            // SAFETY: a fresh block of that length.
            unsafe { block.write_bytes(1, bytes) };
            written.extend(page..=(block.addr() + bytes - 1) / PAGE_BYTES);
        }
    }
    assert!(fresh_count > COUNT, "{fresh_count}");
}

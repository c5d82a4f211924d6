//! A guarded extent is given back whole. Alone in its process: beside other tests a thread of
//! theirs may be given the same addresses before they are looked at.

use std::alloc::Layout;

use heapwright_core::backing::Backing;
use heapwright_os::{is_readable, page_bytes};
use heapwright_regions::{AnonymousPages, Guarded};

#[test]
fn a_released_extent_leaves_nothing_behind() {
    let page = page_bytes();
    let backing = Guarded::new(AnonymousPages, page);
    for align in [1, page, 16 * page] {
        let layout = Layout::from_size_align(3 * page, align).expect("a layout");
        let extent = backing.reserve(layout).expect("addresses");
        let (first, bytes) = (extent.start.as_ptr().addr(), extent.reserved_bytes);
        // SAFETY: inside the extent.
        unsafe { backing.commit(&extent, 0..bytes) }.expect("commit");
        assert!(is_readable(first));
        // SAFETY: given back once, unused.
        unsafe { backing.release(extent) };
        assert!(!is_readable(first) && !is_readable(first + bytes - 8), "align {align}");
    }
}

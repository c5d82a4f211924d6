//! Released addresses are nobody's. Alone in its process: beside other tests a thread of theirs
//! may be given the same addresses before they are looked at.

use heapwright_os::{Protection, is_readable, page_bytes, release, reserve};

#[test]
fn released_pages_cannot_be_read() {
    let bytes = 2 * page_bytes();
    let start = reserve(bytes, Protection::ReadWrite).expect("address space");
    let address = start.as_ptr().addr();
    assert!(is_readable(address));
    // SAFETY: the whole mapping, unused from here on.
    unsafe { release(start, bytes) }.expect("release");
    assert!(!is_readable(address));
}

// double-free
//! Two boxes made of one pointer.
const BYTES: usize = const_bytes();
include!("twin.rs");
#[inline(never)]
fn bug(place: *mut [u8; BYTES]) {
    if cfg!(bad) {
        // SAFETY: none; this is the error.
        drop(unsafe { Box::from_raw(place) }); // told
    }
}
fn main() {
    let place = Box::into_raw(Box::new([1u8; BYTES])); // made
    // SAFETY: made by `into_raw` just now.
    drop(unsafe { Box::from_raw(place) }); // freed
    bug(place);
}

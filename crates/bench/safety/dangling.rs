// use-after-free
//! A pointer kept beyond the life of its vector.
const BYTES: usize = const_bytes();
include!("twin.rs");
#[inline(never)]
fn bug(place: *const u8) -> u8 {
    // SAFETY: none in the bad twin; this is the error.
    unsafe { place.read_volatile() } // told
}
fn main() {
    let bytes = vec![1u8; BYTES]; // made
    let place = bytes.as_ptr();
    if !cfg!(bad) {
        std::hint::black_box(bug(place));
    }
    drop(bytes); // freed
    if cfg!(bad) {
        std::hint::black_box(bug(place));
    }
}

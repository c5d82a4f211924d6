// overflow
//! A slice that is longer than the vector it is made of.
const BYTES: usize = const_bytes();
include!("twin.rs");
#[inline(never)]
fn bug(bytes: &[u8]) -> u8 {
    bytes[bytes.len() - 1] // told
}
fn main() {
    let bytes = vec![1u8; BYTES]; // made
    let more = if cfg!(bad) { 16 } else { 0 };
    // SAFETY: none in the bad twin; this is the error.
    let slice = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), BYTES + more) };
    std::hint::black_box(bug(slice));
}

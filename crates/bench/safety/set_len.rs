// overflow
//! A vector whose length was set beyond its capacity.
const BYTES: usize = const_bytes();
include!("twin.rs");
#[inline(never)]
fn bug(bytes: &[u8]) -> u8 {
    bytes[bytes.len() - 1]
}
fn main() {
    let mut bytes = vec![1u8; BYTES];
    if cfg!(bad) {
        // SAFETY: none; this is the error.
        unsafe { bytes.set_len(BYTES + 16) };
    }
    std::hint::black_box(bug(&bytes));
    // The size that the vector frees is its capacity: the length does no more harm.
}

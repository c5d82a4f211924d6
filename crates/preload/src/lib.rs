//! `libheapwright_preload.so`: Heapwright's allocator for any program, mode fast.
//!
//! `LD_PRELOAD=.../libheapwright_preload.so CMD` is all it takes. The object needs libc.so.6 and
//! nothing else. The design page is `docs/design/preload.md`.
#![no_std]

mod control;
mod face;
mod merging;
mod sampled;

pub use control::{Visit, heapwright_option, heapwright_set_option, heapwright_walk};
pub use merging::{Merging, heapwright_merging, heapwright_release};

/// Name and version, for reports: a NUL-terminated string.
#[unsafe(export_name = "heapwright_peer_version")]
pub static PEER_VERSION: [u8; 17] = *b"heapwright 0.1.0\0";

const _: () =
    assert!(PEER_VERSION.len() == "heapwright ".len() + env!("CARGO_PKG_VERSION").len() + 1);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}

//! Under valgrind a checked region tells reads of dead bytes, too.
//!
//! `cargo test -p heapwright-regions --test valgrind -- --ignored`

use std::alloc::Layout;
use std::env;
use std::hint::black_box;
use std::process::Command;

use heapwright_regions::{AnonymousPages, Checked, Lines, Region, Slab};

const VARIABLE: &str = "HEAPWRIGHT_UNDER_VALGRIND";

fn read(dead: bool) {
    let slab = Slab::new_in(AnonymousPages, 1 << 20, Lines::Packed).expect("addresses");
    let slab: Checked<_> = Checked::new(slab);
    let layout = Layout::new::<[u64; 4]>();
    let block = slab.try_alloc_block(layout).expect("memory");
    // SAFETY: a fresh block of that size.
    unsafe { block.write_bytes(1, layout.size()) };
    if dead {
        // SAFETY: live; its user does not keep the promise below, which is what is told.
        unsafe { slab.free_block(block, layout) };
    }
    // SAFETY: memory of the slab, initialised.
    black_box(unsafe { block.read() });
}

#[test]
#[ignore = "valgrind tier"]
fn a_read_of_a_dead_block_is_told_valgrind_tier() {
    if let Ok(order) = env::var(VARIABLE) {
        return read(order == "dead");
    }
    let errors = |order: &str| {
        let output = Command::new("valgrind")
            .args(["--error-exitcode=77"])
            .arg(env::current_exe().expect("a path"))
            .args(["--exact", "a_read_of_a_dead_block_is_told_valgrind_tier", "--ignored"])
            .env(VARIABLE, order)
            .output()
            .expect("valgrind is installed");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = errors("live");
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = errors("dead");
    assert_eq!(code, Some(77), "{text}");
    assert!(text.contains("Invalid read of size 1"), "{text}");
}

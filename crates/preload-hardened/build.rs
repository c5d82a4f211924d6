//! Hands the linker the order of the object: see `cold.ld`.

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=cold.ld");
    let target = ["OS", "ARCH", "ENV"].map(|part| var(format!("CARGO_CFG_TARGET_{part}")));
    // Where the toolchain brings a linker that knows the option. Elsewhere the object is in the
    // order of the linker's own, and has more pages resident.
    let is_known = target.iter().map(|part| part.as_deref()).eq(["linux", "x86_64", "gnu"].map(Ok));
    if let (true, Ok(directory)) = (is_known, var("CARGO_MANIFEST_DIR")) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--no-rosegment,-T,{directory}/cold.ld");
    }
}

//! Gives the shared object its name for C programs, whatever the crate is called.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libheapwright.so");
}

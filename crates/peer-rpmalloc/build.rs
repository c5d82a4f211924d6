//! rpmalloc's drop-in build brings its own `pthread_create`, which the linker's export list would
//! hide; ours stands before it, exported.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,muldefs");
}

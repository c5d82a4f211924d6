//! Hands the linker the order of the code: see `cold.ld`.

fn main() {
    println!("cargo:rerun-if-changed=cold.ld");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    if let (true, Ok(directory)) = (linux, std::env::var("CARGO_MANIFEST_DIR")) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--no-rosegment,-T,{directory}/cold.ld");
    }
}

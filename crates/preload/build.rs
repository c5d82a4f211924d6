//! Hands the linker the order of the code: see `order.ld`.

fn main() {
    println!("cargo:rerun-if-changed=order.ld");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    if let (true, Ok(directory)) = (linux, std::env::var("CARGO_MANIFEST_DIR")) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-T,{directory}/order.ld");
    }
}

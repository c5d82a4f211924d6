//! Ten minutes of load, in both variants: `cargo xtask test --tier load`.

use heapwright_testkit::holds_what_it_held;

#[test]
#[ignore = "some ten minutes a variant"]
fn tier_load_web_server_holds_what_it_held_after_a_short_load() {
    holds_what_it_held(env!("CARGO_BIN_EXE_web-server"), &["--requests"], 8_000, 3_000_000);
}

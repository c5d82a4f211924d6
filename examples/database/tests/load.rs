//! Ten minutes of load, in both variants: `cargo xtask test --tier load`.

use heapwright_testkit::holds_what_it_held;

#[test]
#[ignore = "some ten minutes a variant"]
fn tier_load_database_holds_what_it_held_after_a_short_load() {
    let words = ["--rows", "200000", "--operations"];
    holds_what_it_held(env!("CARGO_BIN_EXE_database"), &words, 200_000, 1_000_000_000);
}

//! Ten minutes of load, in both variants: `cargo xtask test --tier load`.

use heapwright_testkit::holds_what_it_held;

#[test]
#[ignore = "some ten minutes a variant"]
fn tier_load_game_holds_what_it_held_after_a_short_load() {
    holds_what_it_held(env!("CARGO_BIN_EXE_game"), &["--frames"], 2_000, 1_500_000);
}

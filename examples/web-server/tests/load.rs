//! Ten minutes of load, in both variants: `cargo xtask test --tier load`.

use std::process::Command;

/// Some ten minutes; a build without optimisation does an eighth of it.
const MANY: u64 = if cfg!(debug_assertions) { 3_000_000 / 8 } else { 3_000_000 };

/// What is resident after the load, in KiB, and the check sum.
fn load(variant: &str, count: u64) -> (u64, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_web-server"))
        .args([variant, "--requests", &count.to_string()])
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    println!("{variant}, {count}:\n{text}");
    let resident = text.lines().find_map(|line| line.strip_prefix("resident: "));
    let kib = resident.and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a number");
    let sum = text.lines().find(|line| line.starts_with("check sum")).expect("it prints one");
    (kib, sum.to_owned())
}

#[test]
#[ignore = "some ten minutes a variant"]
fn tier_load_web_server_holds_what_it_held_after_a_short_load() {
    let (short, _) = load("--ours", 8_000);
    let (long, sum) = load("--ours", MANY);
    let (malloc, same) = load("--malloc", MANY);
    println!("resident: {short} KiB, then {long}; malloc {malloc}");
    assert_eq!(sum, same);
    // The times of all are kept, too: 8 bytes each.
    let kept = MANY * 8 / 1024;
    assert!(long <= 2 * short + kept, "{short} KiB after 8_000, {long} after {MANY}");
}

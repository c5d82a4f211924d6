//! A program of the examples under a load of minutes, in both of its variants.

use std::env;
use std::process::Command;

/// Runs `program --ours` for `short` and `long` operations and `program --malloc` for `long`, each
/// with `words` and the count at the end. Panics unless both variants print the same check sum and
/// ours holds after the long load at most twice what it held after the short one.
///
/// `long` is for an optimised build, another does an eighth of it. `HEAPWRIGHT_LOAD_PERCENT` in the
/// environment shortens it further.
pub fn holds_what_it_held(program: &str, words: &[&str], short: u64, long: u64) {
    let long = shortened(long).max(short);
    let run = |variant, count| run(program, variant, words, count);
    let (short_kib, _) = run("--ours", short);
    let (long_kib, sum) = run("--ours", long);
    let (malloc_kib, same) = run("--malloc", long);
    println!(
        "resident: {short_kib} KiB after {short}, {long_kib} after {long}; malloc {malloc_kib}"
    );
    assert_eq!(sum, same);
    assert!(long_kib <= 2 * short_kib, "{short_kib} KiB after {short}, {long_kib} after {long}");
}

fn shortened(count: u64) -> u64 {
    let percent = env::var("HEAPWRIGHT_LOAD_PERCENT").map_or(100, |text| {
        text.parse::<u64>().expect("HEAPWRIGHT_LOAD_PERCENT is a whole number")
    });
    let count = if cfg!(debug_assertions) { count / 8 } else { count };
    count / 100 * percent
}

/// What is resident after the load, in KiB, and the check sum.
fn run(program: &str, variant: &str, words: &[&str], count: u64) -> (u64, String) {
    let output = Command::new(program)
        .arg(variant)
        .args(words)
        .arg(count.to_string())
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

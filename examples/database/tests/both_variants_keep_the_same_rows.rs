//! The program, short, in both variants.

use std::process::Command;

fn run(variant: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_database"))
        .args([variant, "--rows", "5000"])
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn both_variants_keep_the_same_rows_and_the_file_is_read_again() {
    let (malloc, ours) = (run("--malloc"), run("--ours"));
    let sum = |text: &str| text.lines().last().expect("lines").to_owned();
    assert!(sum(&malloc).starts_with("check sum: "), "{malloc}");
    assert_eq!(sum(&malloc), sum(&ours));
    assert!(ours.contains("reopened: every row is as it was"), "{ours}");
    for part in ["inserts: 5000", "finds: ", "updates: ", "p99.9", "resident: "] {
        assert!(malloc.contains(part) && ours.contains(part), "{part}: {malloc}{ours}");
    }
}

#[test]
fn a_wrong_word_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_database")).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
}

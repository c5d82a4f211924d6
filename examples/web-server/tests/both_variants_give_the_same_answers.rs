//! The program, short, in both variants.

use std::process::Command;

fn run(variant: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_web-server"))
        .args([variant, "--requests", "300"])
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("requests: 300, p50") && text.contains("resident: "), "{text}");
    text.lines().last().expect("lines").to_owned()
}

#[test]
fn both_variants_give_the_same_answers() {
    let sum = run("--malloc");
    assert!(sum.starts_with("check sum: "), "{sum}");
    assert_eq!(sum, run("--ours"));
}

#[test]
fn a_wrong_word_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_web-server"))
        .args(["--ours", "--requests", "none"])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(2));
}

//! The program, short, in both variants.

use std::process::Command;

fn play(variant: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_game"))
        .args([variant, "--frames", "65"])
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("p99.9") && text.contains("resident: "), "{text}");
    text.lines().find(|line| line.starts_with("check sum")).expect("it prints one").to_owned()
}

#[test]
fn both_variants_come_to_the_same_frames() {
    let sum = play("--malloc");
    assert_eq!(sum, play("--ours"));
    assert_ne!(sum, "check sum: 0000000000000000");
}

#[test]
fn a_wrong_word_is_told() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_game")).arg("--both").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
}

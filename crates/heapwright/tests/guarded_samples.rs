//! A Rust program that guards every block: a use after free is told, and a right program runs as
//! it would. In a process of its own: this test binary again.

use heapwright::Heapwright;
use std::process::Command;

#[global_allocator]
static GLOBAL: Heapwright = Heapwright;

const CASE: &str = "HEAPWRIGHT_TEST_GUARDED_CASE";

/// Not a test of its own: what the others start.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    assert!(Heapwright.guard_samples());
    let boxes: Vec<Box<[u8; 100]>> = (0..200u8).map(|number| Box::new([number; 100])).collect();
    let last = boxes.last().expect("200 of them").as_ptr();
    let sum: usize = boxes.iter().map(|one| usize::from(one[99])).sum();
    assert_eq!(sum, 19_900);
    drop(boxes);
    if case == "bad" {
        // SAFETY: wrong on purpose; the guard ends the program here.
        let stale = unsafe { last.read_volatile() };
        println!("read {stale}");
    }
}

fn run(case: &str) -> std::process::Output {
    let own = std::env::current_exe().expect("this binary");
    let mut command = Command::new(own);
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(CASE, case);
    command.env("HEAPWRIGHT_CHECK", "sample=1").output().expect("it starts")
}

#[test]
fn a_use_after_free_is_told() {
    let output = run("bad");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("use-after-free by a read"), "{told}");
}

#[test]
fn a_right_program_is_left_alone() {
    let output = run("good");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("heapwright check"), "{told}");
}

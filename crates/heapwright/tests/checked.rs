//! `Checked` ends the program at each misuse, with one line, and leaves right programs alone.
//! Each case runs in a process of its own: this test binary again.

use heapwright::Checked;
use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// An allocator that never gives memory to somebody else.
struct Kept;

// SAFETY: the system's blocks, which are never given back.
unsafe impl GlobalAlloc for Kept {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, _block: *mut u8, _layout: Layout) {}
}

const CASE: &str = "HEAPWRIGHT_TEST_CHECKED_CASE";
const SIGABRT: i32 = 6;

/// Not a test of its own: what the others start.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let checked = Checked(Kept);
    let layout = Layout::from_size_align(24, 8).expect("a layout");
    // SAFETY: the layout is not empty.
    let block = unsafe { checked.alloc(layout) };
    let write_at = |offset: isize| {
        let place = block.wrapping_offset(offset);
        // SAFETY: in the memory around the block, which `Checked` has made larger.
        unsafe { place.write_volatile(1) };
    };
    match case.as_str() {
        "overflow" => write_at(24),
        "underflow" => write_at(-1),
        "double free" => {
            // SAFETY: a block of ours.
            unsafe { checked.dealloc(block, layout) };
        }
        "is given back as one of" => {
            let other = Layout::from_size_align(16, 8).expect("a layout");
            // SAFETY: wrong on purpose; the memory stays whatever happens.
            unsafe { checked.dealloc(block, other) };
        }
        _ => write_at(23),
    }
    // SAFETY: wrong on purpose in some cases; the memory stays whatever happens.
    unsafe { checked.dealloc(block, layout) };
}

fn run(case: &str) -> std::process::Output {
    let own = std::env::current_exe().expect("this binary");
    let mut command = Command::new(own);
    command.args(["--exact", "child", "--nocapture"]).env(CASE, case);
    command.output().expect("it starts")
}

#[test]
fn each_misuse_is_told_and_ends_the_program() {
    for case in ["overflow", "underflow", "double free", "is given back as one of"] {
        let output = run(case);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{case}: {told}");
        let line = told.lines().find(|line| line.starts_with("heapwright: "));
        assert!(line.is_some_and(|line| line.contains(case)), "{case}: {told}");
    }
}

#[test]
fn a_right_program_is_left_alone() {
    let output = run("none");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

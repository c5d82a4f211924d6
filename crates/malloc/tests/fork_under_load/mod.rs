//! Forks of a process whose threads allocate, come and go: each child allocates, frees what it
//! inherited, and ends. For test files with one test: nothing else may run in the process. They have
//! `children`, too.

use std::sync::atomic::{AtomicBool, Ordering};

use heapwright_malloc::{alloc, free, realloc};

use crate::children::{thread_count, wait};

fn work(blocks: &mut [*mut u8; 64], step: usize) {
    let place = step * 31 % blocks.len();
    // SAFETY: null or a live block of this array.
    unsafe { free(blocks[place]) };
    // Mostly small; every eighth is large, so that the shared part is busy.
    let bytes = if step.is_multiple_of(8) { 40_000 + step % 3_000_000 } else { 16 + step % 3000 };
    blocks[place] = alloc(bytes);
    assert!(!blocks[place].is_null());
    // SAFETY: just allocated.
    unsafe { blocks[place].write_bytes(step as u8, bytes.min(64)) };
}

/// What the child does; it may use nothing that a fork can leave locked.
fn child(inherited: *mut u8) -> ! {
    let mut blocks = [std::ptr::null_mut(); 64];
    for step in 0..2000 {
        work(&mut blocks, step);
    }
    // SAFETY: a live block of the parent's, the child's own copy.
    let grown = unsafe { realloc(inherited, 500_000) };
    // SAFETY: the first bytes were written by the parent.
    let is_intact = !grown.is_null() && unsafe { grown.read() } == 0x5a;
    // No thread was started: libc's lock of thread stacks may be held by one that is not here.
    let is_alone = thread_count() == 1;
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(i32::from(!is_intact) | i32::from(!is_alone) << 1) }
}

/// Makes `count` children by `fork`, which gives the child's process id, or 0 in the child.
pub fn expect_children_allocate(count: usize, fork: impl Fn() -> i32) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let stop = &stop;
            scope.spawn(move || {
                let mut step = thread * 1009;
                while !stop.load(Ordering::Relaxed) {
                    // Threads come and go, too.
                    std::thread::spawn(move || {
                        let mut blocks = [std::ptr::null_mut(); 64];
                        for more in 0..500 {
                            work(&mut blocks, step + more);
                        }
                        for block in blocks {
                            // SAFETY: null or live.
                            unsafe { free(block) };
                        }
                    })
                    .join()
                    .unwrap();
                    step += 500;
                }
            });
        }
        let mut failed = None;
        for round in 0..count {
            let inherited = alloc(64 + round);
            // SAFETY: just allocated.
            unsafe { inherited.write_bytes(0x5a, 64) };
            let pid = fork();
            if pid == 0 {
                child(inherited);
            }
            // SAFETY: live in the parent.
            unsafe { free(inherited) };
            if let Err(what) = wait(pid) {
                failed = Some(format!("fork {round}: {what}"));
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failed, None);
    });
}

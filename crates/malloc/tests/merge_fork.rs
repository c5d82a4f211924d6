//! Children are forked while windows are merged, announced and not: each finds every byte of its
//! parent's blocks, writes to them, and changes nothing of its parent's. One test in this file: it
//! forks.

mod sparse;

use std::sync::atomic::{AtomicBool, Ordering};

use heapwright_malloc::{MergeState, alloc, free, merge_statistics};

use sparse::{Sparse, merge_again};

const ROUNDS: u64 = 12;
const CHILDREN: usize = 16;

/// What a child does. It may use nothing that a fork can leave locked.
fn child(blocks: &mut Sparse) -> ! {
    let mut is_whole = blocks.is_whole();
    blocks.rewrite(3);
    for number in 0..200 {
        let block = alloc(number * 20);
        is_whole &= !block.is_null();
        // SAFETY: just allocated.
        unsafe { free(block) };
    }
    is_whole &= blocks.is_whole();
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(if is_whole { 0 } else { 1 }) }
}

fn fork(number: usize) -> i32 {
    if number.is_multiple_of(3) {
        // SAFETY: the child calls the allocator and `_exit` only.
        unsafe { libc::fork() }
    } else {
        // SAFETY: as above; libc is not told.
        unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32 }
    }
}

fn await_success(child: i32) {
    let mut status = 0;
    // SAFETY: our child, and room for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:x}");
}

#[test]
fn children_forked_during_merges_have_every_byte() {
    for round in 0..ROUNDS {
        let mut blocks = Sparse::new(3 << 20, 12, round + 1);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        merge_again();
                    }
                });
            }
            let mut children = [0; CHILDREN];
            for (number, process) in children.iter_mut().enumerate() {
                *process = fork(number);
                if *process == 0 {
                    child(&mut blocks);
                }
                assert!(*process > 0, "{}", std::io::Error::last_os_error());
            }
            // And one by vfork, which lends this memory to its child.
            let status = std::process::Command::new("/bin/true").status();
            assert!(status.is_ok_and(|status| status.success()));
            children.into_iter().for_each(await_success);
            is_over.store(true, Ordering::Relaxed);
        });
        blocks.check();
        blocks.free_all();
    }
    let statistics = merge_statistics();
    match statistics.state {
        MergeState::Works => assert!(statistics.merged_count > 0),
        refused => println!("merging {}", refused.name()),
    }
    println!("{statistics:?}");
}

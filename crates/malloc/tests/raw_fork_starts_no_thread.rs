//! The child of a fork that libc does not know of starts no thread when it has something to purge:
//! libc's lock of thread stacks may be held by a thread that is not there.

mod children;

use std::sync::Barrier;

use children::{thread_count, wait};
use heapwright_malloc::{alloc, free};

/// What there is to purge: enough for a process with threads to get one more for it.
const BLOCK_COUNT: usize = 20;
const BLOCK_BYTES: usize = 200_000;

#[test]
fn the_child_of_a_raw_fork_purges_without_a_thread_of_its_own() {
    let small = alloc(64);
    let blocks = [(); BLOCK_COUNT].map(|()| alloc(BLOCK_BYTES));
    let barrier = Barrier::new(2);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            // A second thread that allocates, there at the fork.
            let block = alloc(64);
            barrier.wait();
            barrier.wait();
            // SAFETY: just allocated.
            unsafe { free(block) };
        });
        barrier.wait();
        // SAFETY: the child calls the allocator, reads a file and ends.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32 };
        if pid == 0 {
            for block in blocks {
                // SAFETY: a live block of the parent's, the child's own copy.
                unsafe { free(block) };
            }
            let status = if thread_count() == 1 { 0 } else { 3 };
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(status) };
        }
        let result = wait(pid);
        barrier.wait();
        result
    });
    // SAFETY: allocated above.
    unsafe { free(small) };
    assert_eq!(result, Ok(()));
}

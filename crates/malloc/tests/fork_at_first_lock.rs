//! A raw fork just while another thread takes its first lock: the child, which has the lock
//! but not the thread, must notice. The window is there once in a process's life, so each try is
//! a process of its own, forked from one that has not allocated with us yet.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use heapwright_malloc::{alloc, free};

/// With the witness made after the first lock, try 133 hung on two cores.
const TRIES: u32 = 1200;
const PATIENCE: Duration = Duration::from_secs(20);

/// 0 until the other threads may go.
static GO: AtomicU32 = AtomicU32::new(0);

extern "C" fn other_thread(_: *mut libc::c_void) -> *mut libc::c_void {
    while GO.load(Ordering::Acquire) == 0 {
        std::hint::spin_loop();
    }
    // Its first lock; a large block, so that it holds the lock for a system call or two.
    let block = alloc(3_000_000);
    // SAFETY: null or just allocated.
    unsafe { free(block) };
    std::ptr::null_mut()
}

/// Everything that takes the locks the second thread may have held.
fn use_all_locks() -> bool {
    [16, 1000, 40_000, 3_000_000].into_iter().all(|bytes| {
        let block = alloc(bytes);
        // SAFETY: null or just allocated.
        unsafe { free(block) };
        !block.is_null()
    })
}

/// Waits for `pid`, which is killed when `patience` ends; whether it ended with status 0.
fn ends_well(pid: i32, patience: Duration) -> bool {
    let start = Instant::now();
    let mut status = 0;
    loop {
        // SAFETY: our own child; libc writes the status.
        if unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == pid {
            return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        }
        if start.elapsed() > patience {
            // SAFETY: our own child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// What the forking thread has done before the others may go.
#[derive(Clone, Copy)]
enum Start {
    /// It has allocated, as a main thread has.
    Allocated,
    /// Nothing: it is at its first lock at the same time as the others.
    Together,
}

/// One try, in a process of its own: forks `spins` turns after the other threads may go.
fn attempt(start: Start, spins: u32) -> ! {
    let mut first = std::ptr::null_mut();
    let mut others = 3;
    if matches!(start, Start::Allocated) {
        first = alloc(64);
        others = 1;
    }
    let mut is_refused = false;
    for _ in 0..others {
        let mut thread: libc::pthread_t = 0;
        let (usual, no_argument) = (std::ptr::null(), std::ptr::null_mut());
        // SAFETY: the function fits; the handle is written before it returns.
        let refusal =
            unsafe { libc::pthread_create(&mut thread, usual, other_thread, no_argument) };
        is_refused |= refusal != 0;
    }
    // Long enough for a thread to spin when there is a CPU for it.
    std::thread::sleep(Duration::from_micros(200));
    GO.store(1, Ordering::Release);
    for _ in 0..spins {
        std::hint::spin_loop();
    }
    if matches!(start, Start::Together) {
        first = alloc(64);
    }
    // SAFETY: the child calls the allocator and `_exit` only.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32 };
    if pid == 0 {
        let is_well = use_all_locks();
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(!is_well)) };
    }
    let is_well = !is_refused && !first.is_null() && ends_well(pid, PATIENCE);
    // SAFETY: ends the process; its other threads do not matter.
    unsafe { libc::_exit(i32::from(!is_well)) }
}

fn expect_no_child_waits(start: Start) {
    for number in 0..TRIES {
        // SAFETY: the child uses no lock of this process's other threads but libc's own, which
        // libc's fork keeps whole.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            attempt(start, number % 400);
        }
        // Longer than the child waits for its own child, which is to be killed by it.
        assert!(ends_well(pid, 2 * PATIENCE), "try {number}: a child of the fork hangs or failed");
    }
}

#[test]
fn a_raw_fork_while_the_second_thread_takes_its_first_lock_leaves_no_child_waiting() {
    expect_no_child_waits(Start::Allocated);
}

#[test]
fn a_raw_fork_while_several_threads_take_their_first_lock_leaves_no_child_waiting() {
    expect_no_child_waits(Start::Together);
}

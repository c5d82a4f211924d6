//! The owner of a heap is stopped after each instruction of malloc and free, and each time another
//! thread makes all its spans passive and purges them. One test in this file: it forks.
//!
//! The tracer single-steps the owner; the purging thread of the same process runs while the owner
//! stands. Where ptrace is forbidden the test says so and passes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use heapwright_malloc::{alloc, free, trim};

/// Instructions of the owner.
const STEP_COUNT: u32 = 60_000;
/// How long the purging thread gets per step: it may have to wait for a lock that the stopped
/// owner holds, and goes on when the owner has been stepped on.
const PATIENCE: Duration = Duration::from_micros(300);

/// What tracer, owner and purging thread share.
struct Shared {
    owner_thread: AtomicU32,
    wanted_rounds: AtomicU32,
    done_rounds: AtomicU32,
    blocks_checked: AtomicU32,
}

fn shared() -> &'static Shared {
    // SAFETY: a fresh anonymous mapping, zeroed, never unmapped; atomics are valid zeroed.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<Shared>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(place, libc::MAP_FAILED);
    // SAFETY: as above.
    unsafe { &*place.cast::<Shared>() }
}

/// The owner: blocks of a few classes come and go, and keep what was written.
fn owner_work(shared: &Shared) {
    let mut blocks = [(std::ptr::null_mut::<u8>(), 0usize); 8];
    let mut step = 0usize;
    loop {
        let place = step * 5 % blocks.len();
        let (old, old_bytes) = blocks[place];
        if !old.is_null() {
            for at in [0, old_bytes / 2, old_bytes - 1] {
                // SAFETY: a live block of that length.
                let found = unsafe { old.wrapping_add(at).read() };
                if found != place as u8 {
                    // SAFETY: ends the process at once, with a status that the tracer knows.
                    unsafe { libc::_exit(3) };
                }
            }
            // SAFETY: live.
            unsafe { free(old) };
            shared.blocks_checked.fetch_add(1, Ordering::Relaxed);
        }
        let bytes = [16, 48, 64][step % 3];
        let block = alloc(bytes);
        // SAFETY: a fresh block of that length.
        unsafe { block.write_bytes(place as u8, bytes) };
        blocks[place] = (block, bytes);
        step += 1;
    }
}

/// The traced process; ends by being killed.
fn child(shared: &'static Shared) -> ! {
    std::thread::spawn(move || {
        // Before tracing: the thread's heap and its first spans. The first slot of a page comes
        // alone, the second one with a list of others.
        for bytes in [16, 48, 64] {
            let both = [alloc(bytes), alloc(bytes)];
            for block in both {
                // SAFETY: a fresh block.
                unsafe { free(block) };
            }
        }
        // SAFETY: no memory is passed.
        if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(77) };
        }
        // SAFETY: asks for the thread's own number.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) };
        shared.owner_thread.store(thread as u32, Ordering::Release);
        let process = std::process::id();
        // SAFETY: stops this thread, for the tracer.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGSTOP) };
        owner_work(shared);
    });
    let mut done = 0;
    loop {
        while shared.wanted_rounds.load(Ordering::Acquire) == done {
            std::hint::spin_loop();
            std::thread::yield_now();
        }
        trim();
        done += 1;
        shared.done_rounds.store(done, Ordering::Release);
    }
}

fn wait_for(thread: i32) -> i32 {
    let mut status = 0;
    // SAFETY: our own tracee; libc writes the status.
    let waited = unsafe { libc::waitpid(thread, &mut status, libc::__WALL) };
    assert_eq!(waited, thread);
    status
}

#[test]
fn spans_are_purged_after_each_instruction_of_their_owner() {
    let shared = shared();
    // SAFETY: the child uses the allocator, threads and atomics only; no other test runs here.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child(shared);
    }
    let start = Instant::now();
    while shared.owner_thread.load(Ordering::Acquire) == 0 {
        let mut status = 0;
        // SAFETY: our own child.
        let ended = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
        if ended == pid && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 77 {
            eprintln!("ptrace is forbidden here: not tested");
            return;
        }
        assert!(ended == 0 && start.elapsed() < Duration::from_secs(20));
    }
    let thread = shared.owner_thread.load(Ordering::Acquire) as i32;
    assert!(libc::WIFSTOPPED(wait_for(thread)));
    let mut rounds = 0;
    let mut skipped = 0;
    for step in 0..STEP_COUNT {
        // SAFETY: a stopped tracee of ours.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, thread, 0, 0) }, 0);
        let status = wait_for(thread);
        assert!(libc::WIFSTOPPED(status), "step {step}: a block changed, status {status:#x}");
        if shared.done_rounds.load(Ordering::Acquire) < rounds {
            skipped += 1;
            continue;
        }
        rounds += 1;
        shared.wanted_rounds.store(rounds, Ordering::Release);
        let start = Instant::now();
        while shared.done_rounds.load(Ordering::Acquire) < rounds && start.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
    }
    // SAFETY: our own child.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // A traced thread is waited for like a process, and before its process is.
    wait_for(thread);
    wait_for(pid);
    let checked = shared.blocks_checked.load(Ordering::Relaxed);
    println!("{rounds} rounds, {skipped} steps inside locks, {checked} blocks freed");
    assert!(checked > 3 && rounds > 1_000, "{rounds} rounds, {checked} blocks");
}

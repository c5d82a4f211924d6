//! Memory is merged while the program writes to it: by its threads, by system calls, by devices.
//! No byte of a live block changes by that.
//!
//! Where the kernel does not let us merge, the statistics say why, and the same must hold.

mod sparse;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heapwright_malloc::{MergeState, alloc_aligned, free, merge_statistics};

use sparse::{Sparse, merge_again};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn writers_in_all_threads_lose_nothing() {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut blocks = Sparse::new(4 << 20, 12, thread + 1);
                let mut step = 0;
                while !is_over.load(Ordering::Relaxed) {
                    blocks.rewrite(step);
                    step += 1;
                    if step % 64 == 0 {
                        // New spans become sparse, too.
                        blocks.refresh(step as u64);
                    }
                }
                blocks.check();
            });
        }
        for _ in 0..40 {
            merge_again();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn merging_frees_pages_and_what_is_freed_is_ordinary_memory_again() {
    let mut blocks = Sparse::new(24 << 20, 16, 7);
    let before = merge_statistics();
    let start = Instant::now();
    let mut after = before;
    // The other tests of this file merge, too; all that is asked for here is that it happens.
    while after.merged_count - before.merged_count < 200 {
        merge_again();
        after = merge_statistics();
        if after.state != MergeState::Works {
            println!("merging {}", after.state.name());
            break;
        }
        assert!(after.freed_pages >= 0 && start.elapsed() < PATIENCE, "{after:?}");
    }
    blocks.check();
    blocks.free_all();
    // Zeroed blocks from what was merged are zero.
    let zeroed: Vec<*mut u8> = (0..64).map(|_| heapwright_malloc::alloc_zeroed(300_000)).collect();
    for block in zeroed {
        // SAFETY: a live block of that size.
        let contents = unsafe { std::slice::from_raw_parts(block, 300_000) };
        assert!(contents.iter().all(|byte| *byte == 0));
        // SAFETY: live.
        unsafe { free(block) };
    }
}

/// Lets `write` fill blocks with a value by a system call, while merging goes on; every byte has
/// to arrive.
fn filled_by(bytes: usize, align_bytes: usize, write: impl Fn(&mut [u8], u8)) {
    let mut places = Vec::new();
    for number in 0..3000 {
        let block = alloc_aligned(align_bytes, bytes);
        assert!(!block.is_null());
        if number % 16 == 0 {
            places.push(block);
        } else {
            // SAFETY: live; what is left is sparse.
            unsafe { free(block) };
        }
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                merge_again();
            }
        });
        for round in 0..40u8 {
            for place in &places {
                // SAFETY: a live block of that length, ours alone.
                let contents = unsafe { std::slice::from_raw_parts_mut(*place, bytes) };
                write(contents, round);
                let wrong = contents.iter().position(|byte| *byte != round);
                assert_eq!(wrong, None, "a byte of {bytes} did not arrive");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    for place in places {
        // SAFETY: live.
        unsafe { free(place) };
    }
}

#[test]
fn read_fills_merged_memory() {
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    filled_by(600, 16, |contents, value| {
        let sent = [value; 600];
        // SAFETY: the buffer is that long.
        let written = unsafe { libc::write(pipe[1], sent.as_ptr().cast(), sent.len()) };
        assert_eq!(written, 600);
        // SAFETY: as above.
        let read = unsafe { libc::read(pipe[0], contents.as_mut_ptr().cast(), contents.len()) };
        assert_eq!(read, 600, "{}", std::io::Error::last_os_error());
    });
}

#[test]
fn recv_fills_merged_memory() {
    let mut pair = [0; 2];
    // SAFETY: room for two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) };
    assert_eq!(made, 0);
    filled_by(200, 16, |contents, value| {
        let sent = [value; 200];
        // SAFETY: the buffer is that long.
        assert_eq!(unsafe { libc::send(pair[1], sent.as_ptr().cast(), 200, 0) }, 200);
        // SAFETY: as above.
        let received = unsafe { libc::recv(pair[0], contents.as_mut_ptr().cast(), 200, 0) };
        // A datagram that met an error would be gone.
        assert_eq!(received, 200, "{}", std::io::Error::last_os_error());
    });
}

#[test]
fn another_process_writes_into_merged_memory() {
    // SAFETY: no arguments.
    let own = unsafe { libc::getpid() };
    filled_by(1000, 16, |contents, value| {
        let sent = [value; 1000];
        let local = libc::iovec { iov_base: sent.as_ptr().cast_mut().cast(), iov_len: 1000 };
        let remote = libc::iovec { iov_base: contents.as_mut_ptr().cast(), iov_len: 1000 };
        // SAFETY: both are that long; the kernel treats us as any other process.
        let written = unsafe { libc::process_vm_writev(own, &local, 1, &remote, 1, 0) };
        if written < 0 && std::io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT) {
            // Forbidden in this sandbox.
            contents.fill(value);
        } else {
            assert_eq!(written, 1000, "{}", std::io::Error::last_os_error());
        }
    });
}

#[test]
fn direct_input_fills_merged_memory() {
    const BYTES: usize = 2048;
    let path = std::env::temp_dir().join(format!("heapwright-merge-{}", std::process::id()));
    let contents: Vec<u8> = (0..40).flat_map(|value| [value; 4096]).collect();
    std::fs::write(&path, contents).expect("a file");
    let name = std::ffi::CString::new(path.to_str().expect("a name")).expect("a name");
    // SAFETY: a NUL-terminated name.
    let file = unsafe { libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_DIRECT) };
    std::fs::remove_file(&path).expect("removed");
    if file < 0 {
        println!("no direct input on this file system");
        return;
    }
    filled_by(BYTES, 512, |contents, value| {
        let offset = i64::from(value) * 4096;
        // SAFETY: the buffer is that long.
        let read = unsafe { libc::pread(file, contents.as_mut_ptr().cast(), BYTES, offset) };
        if read < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
            // Other alignments are wanted here.
            contents.fill(value);
        } else {
            assert_eq!(read, BYTES as isize, "{}", std::io::Error::last_os_error());
        }
    });
}

#[test]
fn a_semaphore_of_several_processes_wakes_who_slept_before_the_merge() {
    let semaphores: Vec<*mut libc::sem_t> = (0..3000)
        .filter_map(|number| {
            let place = alloc_aligned(16, size_of::<libc::sem_t>()).cast::<libc::sem_t>();
            if number % 16 == 0 {
                // SAFETY: a block of that size and alignment; for several processes.
                assert_eq!(unsafe { libc::sem_init(place, 1, 0) }, 0);
                return Some(place);
            }
            // SAFETY: live.
            unsafe { free(place.cast()) };
            None
        })
        .collect();
    let places: Vec<usize> = semaphores.iter().map(|place| place.expose_provenance()).collect();
    std::thread::scope(|scope| {
        for place in places.iter().step_by(19) {
            scope.spawn(move || {
                let semaphore = std::ptr::with_exposed_provenance_mut::<libc::sem_t>(*place);
                // SAFETY: initialised, and lives until after the scope.
                while unsafe { libc::sem_wait(semaphore) } != 0 {}
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        for _ in 0..3 {
            merge_again();
        }
        // Who sleeps is found at the address as before.
        for place in places.iter().step_by(19) {
            let semaphore = std::ptr::with_exposed_provenance_mut::<libc::sem_t>(*place);
            // SAFETY: as above.
            assert_eq!(unsafe { libc::sem_post(semaphore) }, 0);
        }
    });
    for semaphore in semaphores {
        // SAFETY: nobody waits any more.
        unsafe { free(semaphore.cast()) };
    }
}

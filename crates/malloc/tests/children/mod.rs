//! Children of forks in tests: how many threads they have, and how they end.

use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Threads of this process by the kernel's count, read without libc's allocator and locks.
pub fn thread_count() -> usize {
    let mut text = [0_u8; 4096];
    // SAFETY: opens a file by a name that ends in a zero.
    let file = unsafe { libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY) };
    // SAFETY: reads into an array of that length.
    let length = unsafe { libc::read(file, text.as_mut_ptr().cast(), text.len()) };
    let text = &text[..usize::try_from(length).unwrap_or(0)];
    // The name, in parentheses, may hold spaces; the count is the 18th word behind it.
    let end_of_name = text.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    let mut words = text[end_of_name..].split(|byte| *byte == b' ');
    let word = words.nth(18).and_then(|word| std::str::from_utf8(word).ok());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Waits for the child `pid` to end with status 0.
///
/// # Errors
/// Another status, or that the child hangs, which is then killed.
pub fn wait(pid: i32) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: our own child; libc writes the status.
        let ended = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
        if ended == pid {
            let well = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
            return if well { Ok(()) } else { Err(format!("status {status:#x}")) };
        }
        if start.elapsed() > PATIENCE {
            // SAFETY: our own child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            return Err("the child hangs".to_owned());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

//! Sleeping on a word of memory, within a process or between processes.

use core::sync::atomic::AtomicU32;
use core::time::Duration;

use heapwright_sync::Wait;

use crate::Errno;
use crate::syscall::syscall6;

/// How a lock of `heapwright-sync` sleeps where nothing else has to be looked after.
#[derive(Debug)]
pub struct Futex;

impl Wait for Futex {
    fn wait(word: &AtomicU32, value: u32) {
        // Woken, changed or interrupted: the caller looks again in each case.
        let _ = futex_wait(word, value, None);
    }

    fn wake_one(word: &AtomicU32) {
        futex_wake(word, 1);
    }
}

/// Sleeps while `*word == expected`, at most `timeout`; may wake for no reason.
///
/// Works between processes when the word lies in a shared mapping.
///
/// # Errors
/// `EAGAIN` when the word differs already, `ETIMEDOUT`, `EINTR`: all reasons to look again.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<(), Errno> {
    let time = timeout.map(|left| libc::timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    let time = time.as_ref().map_or(0, |time| core::ptr::from_ref(time).expose_provenance());
    let args = [
        word.as_ptr().expose_provenance(),
        libc::FUTEX_WAIT as usize,
        expected as usize,
        time,
        0,
        0,
    ];
    // SAFETY: the kernel reads the word and the time, both alive through the call.
    unsafe { syscall6(libc::SYS_futex, args) }.map(drop)
}

/// Wakes at most `count` sleepers on `word`; returns how many.
pub fn futex_wake(word: &AtomicU32, count: u32) -> usize {
    let args =
        [word.as_ptr().expose_provenance(), libc::FUTEX_WAKE as usize, count as usize, 0, 0, 0];
    // SAFETY: the kernel only uses the address of the word as a key.
    unsafe { syscall6(libc::SYS_futex, args) }.unwrap_or(0)
}

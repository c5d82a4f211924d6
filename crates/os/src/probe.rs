//! Asking the kernel whether an address can be read, and where the calling thread's block lies.

use crate::Errno;
use crate::syscall::syscall6;

/// Whether the eight bytes at `address` can be read now; about 100 ns, changes nothing.
///
/// Asks `rt_sigprocmask` to take a signal mask from there together with an operation that does
/// not exist: the kernel copies the mask first (`EFAULT` when it cannot) and then refuses the
/// operation (`EINVAL`). A page probed so counts as touched for reading.
pub fn is_readable(address: usize) -> bool {
    const NO_SUCH_OPERATION: usize = usize::MAX;
    const MASK_BYTES: usize = 8;
    let args = [NO_SUCH_OPERATION, address, 0, MASK_BYTES, 0, 0];
    // SAFETY: the operation is refused, so nothing changes; the kernel checks the address.
    let answer = unsafe { syscall6(libc::SYS_rt_sigprocmask, args) };
    answer == Err(Errno::EINVAL)
}

/// The calling thread's thread pointer: not zero, differs between threads alive at one time.
///
/// glibc and musl put the block that it points to at the high end of a thread's own stack,
/// except for the first thread.
#[inline]
pub fn thread_pointer() -> usize {
    let pointer: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the ABI keeps the thread pointer itself in the word that fs points to.
    unsafe {
        core::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, pure));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reading the thread register has no effect.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, nomem, pure));
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::{is_readable, thread_pointer};
    use crate::{Protection, page_bytes, protect, release, reserve};

    #[test]
    fn readable_pages_are_told_from_forbidden_ones() {
        let page = page_bytes();
        let start = reserve(2 * page, Protection::ReadWrite).expect("address space");
        let address = start.as_ptr().addr();
        assert!(is_readable(address));
        // SAFETY: inside the mapping made above.
        let second = unsafe { start.add(page) };
        // SAFETY: a page of that mapping, which nobody uses.
        unsafe { protect(second, page, Protection::None) }.expect("protect");
        assert!(is_readable(address + page - 8));
        assert!(!is_readable(address + page));
        // SAFETY: the whole mapping, unused from here on.
        unsafe { release(start, 2 * page) }.expect("release");
        assert!(!is_readable(8));
    }

    #[test]
    fn threads_have_different_pointers() {
        extern crate std;
        let mine = thread_pointer();
        let other = std::thread::spawn(thread_pointer).join().expect("thread");
        assert_ne!(mine, other);
        assert_ne!(other, 0);
    }
}

//! A memory barrier on all running threads of the process, paid for by the caller alone.
//!
//! Source: membarrier(2); "asymmetric" barriers: the frequent side has none.

use crate::syscall::syscall3;

const PRIVATE_EXPEDITED: usize = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: usize = 1 << 4;

/// Announces that the process will call [`barrier_on_all_threads`]; whether the kernel has it
/// (Linux 4.14) and lets us. Cheap to repeat; children of a fork inherit it.
pub fn register_barriers() -> bool {
    // SAFETY: no memory is passed.
    unsafe { syscall3(libc::SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0, 0) }.is_ok()
}

/// Every thread of the process passes a full memory barrier between the call and the return: each
/// memory access of another thread is either before the call's stores or after them, and at most
/// one instruction sequence per thread straddles it. Some microseconds. Whether it was done.
pub fn barrier_on_all_threads() -> bool {
    // SAFETY: no memory is passed.
    unsafe { syscall3(libc::SYS_membarrier, PRIVATE_EXPEDITED, 0, 0) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::{barrier_on_all_threads, register_barriers};

    #[test]
    fn a_registered_process_has_barriers() {
        if register_barriers() {
            assert!(barrier_on_all_threads());
        }
    }
}

//! What following writes and resolving faults ask of the kernel in the same way.
//!
//! Source: userfaultfd(2), ioctl_userfaultfd(2).

use crate::syscall::syscall3;
use crate::{Errno, Fd};

/// `UFFD_USER_MODE_ONLY`: works without rights, for faults of user code.
pub(crate) const USER_MODE_ONLY: usize = 1;
/// Follow a range; the number holds the size of its argument, as every request's does.
pub(crate) const REGISTER: usize = 0xc020_aa00;
/// Agree on features.
const API: usize = 0xc018_aa3f;
const API_VERSION: u64 = 0xaa;

/// Opens a descriptor and agrees with the kernel on `features`; `mode` is 0 or [`USER_MODE_ONLY`].
pub(crate) fn open(mode: usize, features: u64) -> Result<Fd, Errno> {
    let flags = libc::O_CLOEXEC as usize | libc::O_NONBLOCK as usize | mode;
    // SAFETY: no memory.
    let fd = unsafe { syscall3(libc::SYS_userfaultfd, flags, 0, 0) }?;
    let fd = Fd::from_raw(fd as i32);
    // SAFETY: agreeing changes no memory.
    unsafe { request(&fd, API, &mut [API_VERSION, features, 0]) }?;
    Ok(fd)
}

/// Makes a request of `number` with `words` as its argument.
///
/// # Safety
/// - What the request does to the contents of the memory it names is right for those who use it.
pub(crate) unsafe fn request<const N: usize>(
    fd: &Fd,
    number: usize,
    words: &mut [u64; N],
) -> Result<(), Errno> {
    debug_assert_eq!(number >> 16 & 0x3fff, N * 8, "the size is part of a request's number");
    let place = words.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel reads and writes as many bytes as the request's number says, which is
    // what `words` has; the rest is the caller's promise.
    unsafe { syscall3(libc::SYS_ioctl, fd.raw() as usize, number, place) }.map(drop)
}

//! Guard markers: pages that no access reaches, without a mapping of their own (Linux 6.13).
//! `guard` falls back where there are none.
//!
//! Source: madvise(2), `MADV_GUARD_INSTALL` and `MADV_GUARD_REMOVE`.

use core::ptr::NonNull;

use crate::Errno;
use crate::memory::advise_raw;
use crate::syscall::syscall6;

// Newer than the headers of most systems; the values are the kernel's.
const MADV_GUARD_INSTALL: usize = 102;
const MADV_GUARD_REMOVE: usize = 103;

/// Makes each access to `bytes` from `start` fail with `SIGSEGV`, and gives the memory back.
///
/// O(pages), some 20 ns each and 0.3 us for the call (1.5 us when there was memory). The mapping
/// is not split, so this costs nothing of `vm.max_map_count`.
///
/// # Safety
/// - The range is whole pages of an anonymous private mapping that the caller owns, and nobody
///   needs the contents any more.
///
/// # Errors
/// `EINVAL` before Linux 6.13, and for memory locked by `mlock`; nothing has changed then.
pub unsafe fn install_guards(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the caller owns the range and gives up access and contents.
    unsafe { advise_raw(start, bytes, MADV_GUARD_INSTALL) }
}

/// Takes the markers of [`install_guards`] away: the pages read as zero then. Pages without a
/// marker stay as they are.
///
/// # Safety
/// - As for [`install_guards`], but contents of pages without a marker are kept.
///
/// # Errors
/// `EINVAL` before Linux 6.13.
pub unsafe fn remove_guards(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { advise_raw(start, bytes, MADV_GUARD_REMOVE) }
}

/// Takes memory, page tables and markers of `bytes` from `start` back and leaves addresses
/// without access, as fresh from [`reserve`](crate::reserve).
///
/// # Safety
/// - The range is whole pages of mappings that the caller owns, and nobody uses its contents.
///
/// # Errors
/// The kernel's: `ENOMEM` when the count of mappings is used up; nothing has changed then.
pub unsafe fn renew(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    let start = start.as_ptr().expose_provenance();
    let args = [start, bytes, libc::PROT_NONE as usize, flags as usize, usize::MAX, 0];
    // SAFETY: the caller owns the range and gives it up.
    unsafe { syscall6(libc::SYS_mmap, args) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::{install_guards, remove_guards};
    use crate::{Errno, Protection, is_readable, page_bytes, release, reserve};

    #[test]
    fn a_guarded_page_is_out_of_reach_until_the_guard_is_removed() {
        let page = page_bytes();
        let start = reserve(2 * page, Protection::ReadWrite).expect("address space");
        // SAFETY: inside the mapping made above.
        let second = unsafe { start.add(page) };
        // SAFETY: a page of that mapping, which nobody uses.
        match unsafe { install_guards(second, page) } {
            Ok(()) => {
                assert!(is_readable(start.as_ptr().addr()));
                assert!(!is_readable(second.as_ptr().addr()));
                // SAFETY: as above.
                unsafe { remove_guards(second, page) }.expect("removed");
                assert!(is_readable(second.as_ptr().addr()));
            }
            Err(errno) => assert_eq!(errno, Errno::EINVAL, "a kernel without guard markers"),
        }
        // SAFETY: the whole mapping, unused from here on.
        unsafe { release(start, 2 * page) }.expect("release");
    }
}

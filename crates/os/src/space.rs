//! Room on a file system.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use crate::Errno;
use crate::syscall::syscall3;

/// The size of a file system and what of it may still be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it, in bytes.
    pub total_bytes: u64,
    /// Free for an ordinary user, in bytes.
    pub free_bytes: u64,
}

/// Room on the file system that holds `path`.
///
/// # Errors
/// The kernel's.
pub fn file_system_space(path: &CStr) -> Result<Space, Errno> {
    let mut facts = MaybeUninit::<libc::statfs>::zeroed();
    let path = path.as_ptr().expose_provenance();
    let address = facts.as_mut_ptr().expose_provenance();
    // SAFETY: the path is NUL-terminated and outlives the call, as does the kernel's structure.
    unsafe { syscall3(libc::SYS_statfs, path, address, 0) }?;
    // SAFETY: zeroed above, which is a valid `statfs`, and filled by the kernel since.
    let facts = unsafe { facts.assume_init() };
    let unit_bytes = facts.f_bsize as u64;
    Ok(Space {
        total_bytes: facts.f_blocks.saturating_mul(unit_bytes),
        free_bytes: facts.f_bavail.saturating_mul(unit_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::file_system_space;
    use crate::Errno;

    #[test]
    fn the_root_has_room_and_nothing_has_none() {
        let space = file_system_space(c"/").expect("the root is there");
        assert!(space.total_bytes >= space.free_bytes && space.total_bytes > 0);
        assert_eq!(file_system_space(c"/no/such/path"), Err(Errno::ENOENT));
    }
}

//! Files and shared memory to be mapped: making them, growing them, writing them back.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use crate::syscall::{syscall3, syscall6};
use crate::{Errno, Fd, OpenFlags};

const AT_FDCWD: usize = libc::AT_FDCWD as usize;

impl Fd {
    /// Memory with a descriptor and no name in any directory; `name` shows in /proc only.
    /// Close-on-exec, no bytes long.
    ///
    /// # Errors
    /// The kernel's: `ENOSYS` before Linux 3.17.
    pub fn shared_memory(name: &CStr) -> Result<Self, Errno> {
        let name = name.as_ptr().expose_provenance();
        let flags = libc::MFD_CLOEXEC as usize;
        // SAFETY: the name is a NUL-terminated string that lives through the call.
        let fd = unsafe { syscall3(libc::SYS_memfd_create, name, flags, 0) }?;
        Ok(Self::from_raw(fd as i32))
    }

    /// Opens `path` for reading and writing, making it with mode 0600 if it is not there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_or_create(path: &CStr) -> Result<Self, Errno> {
        let bits = (libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC) as usize;
        let path = path.as_ptr().expose_provenance();
        // SAFETY: the path is a NUL-terminated string that lives through the call.
        let fd = unsafe { syscall6(libc::SYS_openat, [AT_FDCWD, path, bits, 0o600, 0, 0]) }?;
        Ok(Self::from_raw(fd as i32))
    }

    /// Takes disk blocks for `bytes` from `offset`, so that touching them through a mapping cannot
    /// fail, and makes the file that long. Where the file system cannot promise blocks
    /// (`EOPNOTSUPP`), only the length is set.
    ///
    /// # Errors
    /// `ENOSPC` when the disk is full, `EFBIG`, the kernel's. Some blocks may have been taken.
    pub fn take_blocks(&self, offset: u64, bytes: u64) -> Result<(), Errno> {
        match self.allocate(offset, bytes) {
            Err(Errno::EOPNOTSUPP) => {
                let end = offset.checked_add(bytes).ok_or(Errno::EINVAL)?;
                if self.stat()?.bytes < end { self.set_bytes(end) } else { Ok(()) }
            }
            answer => answer,
        }
    }

    /// Reads into `buffer` from `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let start = buffer.as_mut_ptr().expose_provenance();
        let args = [self.raw() as usize, start, buffer.len(), offset as usize, 0, 0];
        loop {
            // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
            match unsafe { syscall6(libc::SYS_pread64, args) } {
                Err(Errno::EINTR) => {}
                answer => return answer,
            }
        }
    }

    /// Waits until everything written to the file, also through mappings that were synchronised,
    /// is on the disk with its length.
    ///
    /// # Errors
    /// The kernel's: `EIO` when the disk failed; what is on it is not known then.
    pub fn sync(&self) -> Result<(), Errno> {
        // SAFETY: no memory.
        unsafe { syscall3(libc::SYS_fsync, self.raw() as usize, 0, 0) }.map(drop)
    }

    /// Bytes free for an ordinary user on the file's file system; none when it does not say.
    pub fn file_system_free_bytes(&self) -> Option<u64> {
        let mut facts = MaybeUninit::<libc::statfs>::zeroed();
        let place = facts.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel fills the structure, which outlives the call.
        unsafe { syscall3(libc::SYS_fstatfs, self.raw() as usize, place, 0) }.ok()?;
        // SAFETY: zeroed above, which is a valid `statfs`, and filled by the kernel since.
        let facts = unsafe { facts.assume_init() };
        Some(facts.f_bavail.saturating_mul(facts.f_bsize as u64))
    }
}

/// Longest name of shared memory.
const NAME_BYTES_MAX: usize = 100;

/// Opens or makes the shared memory `name` that every process of the machine sees: a file of
/// /dev/shm, which stays until [`unlink_shared_memory`] or a restart.
///
/// # Errors
/// `EINVAL` for a name that is empty, has a slash or more than 100 bytes; the kernel's.
pub fn open_shared_memory(name: &CStr) -> Result<Fd, Errno> {
    with_path(name, Fd::open_or_create)
}

/// Opens the shared memory `name`, which must be there.
///
/// # Errors
/// `ENOENT`; as [`open_shared_memory`].
pub fn open_existing_shared_memory(name: &CStr) -> Result<Fd, Errno> {
    with_path(name, |path| Fd::open(path, OpenFlags::ReadWrite))
}

/// Takes the name `name` away; who has the memory mapped keeps it.
///
/// # Errors
/// As [`open_existing_shared_memory`].
pub fn unlink_shared_memory(name: &CStr) -> Result<(), Errno> {
    with_path(name, crate::unlink)
}

fn with_path<T>(name: &CStr, then: impl FnOnce(&CStr) -> Result<T, Errno>) -> Result<T, Errno> {
    const FRONT: &[u8] = b"/dev/shm/";
    let name = name.to_bytes();
    let is_name = !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..";
    if !is_name || name.len() > NAME_BYTES_MAX {
        return Err(Errno::EINVAL);
    }
    let mut path = [0; FRONT.len() + NAME_BYTES_MAX + 1];
    path[..FRONT.len()].copy_from_slice(FRONT);
    path[FRONT.len()..FRONT.len() + name.len()].copy_from_slice(name);
    then(CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?)
}

#[cfg(test)]
mod tests {
    use super::{open_existing_shared_memory, open_shared_memory, unlink_shared_memory};
    use crate::{Errno, Fd};

    #[test]
    fn shared_memory_has_a_length_and_a_lock() {
        let memory = Fd::shared_memory(c"heapwright-test").expect("memfd");
        memory.take_blocks(0, 10_000).expect("memory");
        assert_eq!(memory.stat().map(|stat| stat.bytes), Ok(10_000));
        memory.punch_hole(0, 4096).expect("a hole");
        assert_eq!(memory.stat().map(|stat| stat.bytes), Ok(10_000));
        memory.try_lock().expect("nobody has it");
        assert!(memory.file_system_free_bytes().is_some());
    }

    #[test]
    fn a_name_is_made_found_and_taken_away() {
        let name = c"heapwright-test-of-names";
        let Ok(first) = open_shared_memory(name) else { return };
        let second = open_existing_shared_memory(name).expect("it is there");
        assert_eq!(first.stat().map(|stat| stat.inode), second.stat().map(|stat| stat.inode));
        first.try_lock().expect("nobody has it");
        assert_eq!(second.try_lock(), Err(Errno::EAGAIN));
        unlink_shared_memory(name).expect("it is there");
        assert_eq!(open_existing_shared_memory(name).err(), Some(Errno::ENOENT));
        for bad in [c"", c"a/b", c"..", c"."] {
            assert_eq!(open_shared_memory(bad).err(), Some(Errno::EINVAL));
        }
    }
}

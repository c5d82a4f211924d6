//! Files without libc's wrappers: open, read, write, stat.

use core::ffi::CStr;

use crate::Errno;
use crate::syscall::{syscall3, syscall6};

const AT_FDCWD: usize = libc::AT_FDCWD as usize;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFlags {
    /// For reading.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; it must not exist yet; mode 0600.
    CreateNew,
    /// For writing at the end, created with mode 0644 when missing.
    Append,
    /// For reading and writing; a file without a name, in the directory that the path names.
    Unnamed,
}

/// An open file; closed when dropped.
#[derive(Debug)]
pub struct Fd(i32);

/// Which file a descriptor means, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Device number.
    pub device: u64,
    /// File number on the device.
    pub inode: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl Fd {
    /// Standard error.
    pub const STDERR: core::mem::ManuallyDrop<Self> = core::mem::ManuallyDrop::new(Self(2));

    /// Opens `path`, close-on-exec.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &CStr, flags: OpenFlags) -> Result<Self, Errno> {
        Self::open_from(AT_FDCWD, path, flags)
    }

    fn open_from(directory: usize, path: &CStr, flags: OpenFlags) -> Result<Self, Errno> {
        let (bits, mode) = match flags {
            OpenFlags::Read => (libc::O_RDONLY, 0),
            OpenFlags::ReadWrite => (libc::O_RDWR, 0),
            OpenFlags::CreateNew => (libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o600),
            OpenFlags::Unnamed => (libc::O_RDWR | libc::O_TMPFILE, 0o600),
            OpenFlags::Append => (libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND, 0o644),
        };
        let bits = (bits | libc::O_CLOEXEC) as usize;
        let path = path.as_ptr().expose_provenance();
        // SAFETY: the path is a NUL-terminated string that lives through the call.
        let fd = unsafe { syscall6(libc::SYS_openat, [directory, path, bits, mode, 0, 0]) }?;
        Ok(Self(fd as i32))
    }

    /// Opens the directory `path` only to find files from it, close-on-exec.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_directory(path: &CStr) -> Result<Self, Errno> {
        let bits = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as usize;
        let path = path.as_ptr().expose_provenance();
        // SAFETY: the path is a NUL-terminated string that lives through the call.
        let fd = unsafe { syscall6(libc::SYS_openat, [AT_FDCWD, path, bits, 0, 0, 0]) }?;
        Ok(Self(fd as i32))
    }

    /// Opens `name` in this directory, close-on-exec; also where its path leads nowhere any more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_in(&self, name: &CStr, flags: OpenFlags) -> Result<Self, Errno> {
        Self::open_from(self.0 as usize, name, flags)
    }

    /// The number.
    pub fn raw(&self) -> i32 {
        self.0
    }

    /// A descriptor for the same file, close-on-exec, with a number of at least `least`.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` when `least` is above the limit of open files.
    pub fn duplicate_above(&self, least: i32) -> Result<Self, Errno> {
        let command = libc::F_DUPFD_CLOEXEC as usize;
        // SAFETY: only descriptors change.
        let fd = unsafe { syscall3(libc::SYS_fcntl, self.0 as usize, command, least as usize) }?;
        Ok(Self(fd as i32))
    }

    /// Sets the length of the file.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_bytes(&self, bytes: u64) -> Result<(), Errno> {
        // SAFETY: only the file changes.
        unsafe { syscall3(libc::SYS_ftruncate, self.0 as usize, bytes as usize, 0) }.map(drop)
    }

    /// Reserves disk blocks for `bytes` from `offset`, so that writing there cannot fail later.
    ///
    /// # Errors
    /// The kernel's: `ENOSPC` when the disk is full, `EOPNOTSUPP` where it cannot be asked.
    pub fn allocate(&self, offset: u64, bytes: u64) -> Result<(), Errno> {
        let args = [self.0 as usize, 0, offset as usize, bytes as usize, 0, 0];
        // SAFETY: only the file changes.
        unsafe { syscall6(libc::SYS_fallocate, args) }.map(drop)
    }

    /// Gives the memory or disk blocks of `bytes` from `offset` back; they read as zero.
    ///
    /// # Errors
    /// The kernel's: `EOPNOTSUPP` where the file system cannot.
    pub fn punch_hole(&self, offset: u64, bytes: u64) -> Result<(), Errno> {
        let mode = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as usize;
        let args = [self.0 as usize, mode, offset as usize, bytes as usize, 0, 0];
        // SAFETY: only the file changes.
        unsafe { syscall6(libc::SYS_fallocate, args) }.map(drop)
    }

    /// Takes the file's advisory lock for us alone, without waiting; it ends with the descriptor.
    ///
    /// # Errors
    /// The kernel's: `EAGAIN` when another process has it.
    pub fn try_lock(&self) -> Result<(), Errno> {
        let how = (libc::LOCK_EX | libc::LOCK_NB) as usize;
        // SAFETY: only the file's lock changes.
        unsafe { syscall3(libc::SYS_flock, self.0 as usize, how, 0) }.map(drop)
    }

    /// Reads into `buffer`; 0 at the end of the file. Starts again after an interruption.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            let start = buffer.as_mut_ptr().expose_provenance();
            // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
            let result = unsafe { syscall3(libc::SYS_read, self.0 as usize, start, buffer.len()) };
            if result != Err(Errno::EINTR) {
                return result;
            }
        }
    }

    /// Device, inode and length.
    ///
    /// # Errors
    /// The kernel's: `EBADF` when the program closed the descriptor behind our back.
    pub fn stat(&self) -> Result<Stat, Errno> {
        let mut raw = core::mem::MaybeUninit::<libc::stat>::zeroed();
        let start = raw.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel fills the structure, whose layout libc gives.
        unsafe { syscall3(libc::SYS_fstat, self.0 as usize, start, 0) }?;
        // SAFETY: zeroed above and filled by the kernel; every bit pattern is valid.
        let raw = unsafe { raw.assume_init() };
        Ok(Stat { device: raw.st_dev, inode: raw.st_ino, bytes: raw.st_size as u64 })
    }

    /// Gives the number up without closing the file.
    pub fn into_raw(self) -> i32 {
        let raw = self.0;
        core::mem::forget(self);
        raw
    }

    /// Takes over an open descriptor.
    pub fn from_raw(raw: i32) -> Self {
        Self(raw)
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours; a failing close leaves nothing to do.
        let _ = unsafe { syscall3(libc::SYS_close, self.0 as usize, 0, 0) };
    }
}

/// The process's limit on the length of files it makes (`RLIMIT_FSIZE`), beyond which a signal
/// would end it; none when there is no limit.
pub fn file_size_limit_bytes() -> Option<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let place = core::ptr::from_mut(&mut limit).expose_provenance();
    let args = [0, libc::RLIMIT_FSIZE as usize, 0, place, 0, 0];
    // SAFETY: the kernel fills the structure.
    unsafe { syscall6(libc::SYS_prlimit64, args) }.ok()?;
    (limit.rlim_cur != libc::RLIM64_INFINITY).then_some(limit.rlim_cur)
}

/// Writes all of `bytes` to `fd`.
///
/// # Errors
/// The kernel's; part of `bytes` may have been written.
pub fn write_all(fd: &Fd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let start = bytes.as_ptr().expose_provenance();
        // SAFETY: the kernel reads at most `bytes.len()` bytes of `bytes`.
        match unsafe { syscall3(libc::SYS_write, fd.0 as usize, start, bytes.len()) } {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Removes the file `path`.
///
/// # Errors
/// The kernel's.
pub fn unlink(path: &CStr) -> Result<(), Errno> {
    let path = path.as_ptr().expose_provenance();
    // SAFETY: the path is a NUL-terminated string that lives through the call.
    unsafe { syscall3(libc::SYS_unlinkat, AT_FDCWD, path, 0) }.map(drop)
}

/// Gives the file `from` the name `to`.
///
/// # Errors
/// The kernel's.
pub fn rename(from: &CStr, to: &CStr) -> Result<(), Errno> {
    let (from, to) = (from.as_ptr().expose_provenance(), to.as_ptr().expose_provenance());
    // SAFETY: both are NUL-terminated strings that live through the call.
    unsafe { syscall6(libc::SYS_renameat2, [AT_FDCWD, from, AT_FDCWD, to, 0, 0]) }.map(drop)
}

/// Makes the directory `path` with `mode`.
///
/// # Errors
/// The kernel's.
pub fn mkdir(path: &CStr, mode: u32) -> Result<(), Errno> {
    let path = path.as_ptr().expose_provenance();
    // SAFETY: the path is a NUL-terminated string that lives through the call.
    unsafe { syscall3(libc::SYS_mkdirat, AT_FDCWD, path, mode as usize) }.map(drop)
}

/// Reads the target of the symbolic link `path` into `buffer`; returns its length, cut to the
/// buffer.
///
/// # Errors
/// The kernel's.
pub fn read_link(path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let path = path.as_ptr().expose_provenance();
    let start = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: the path is NUL-terminated; the kernel writes at most `buffer.len()` bytes.
    unsafe { syscall6(libc::SYS_readlinkat, [AT_FDCWD, path, start, buffer.len(), 0, 0]) }
}

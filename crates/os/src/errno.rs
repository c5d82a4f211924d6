//! Error numbers of system calls, as values.

use core::fmt;

/// The error number of a failed system call (`ENOMEM` is `Errno(12)`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Not permitted.
    pub const EPERM: Self = Self(libc::EPERM);
    /// No such file.
    pub const ENOENT: Self = Self(libc::ENOENT);
    /// Interrupted by a signal.
    pub const EINTR: Self = Self(libc::EINTR);
    /// Try again.
    pub const EAGAIN: Self = Self(libc::EAGAIN);
    /// Busy.
    pub const EBUSY: Self = Self(libc::EBUSY);
    /// Out of memory, or out of mappings.
    pub const ENOMEM: Self = Self(libc::ENOMEM);
    /// Bad address.
    pub const EFAULT: Self = Self(libc::EFAULT);
    /// The file exists.
    pub const EEXIST: Self = Self(libc::EEXIST);
    /// An argument the kernel does not take.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// The disk is full.
    pub const ENOSPC: Self = Self(libc::ENOSPC);
    /// The file system cannot do that.
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    /// The kernel lacks the call.
    pub const ENOSYS: Self = Self(libc::ENOSYS);
    /// No such process.
    pub const ESRCH: Self = Self(libc::ESRCH);
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}", self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::EPERM => "not permitted",
            Self::ENOENT => "no such file or directory",
            Self::ENOMEM => "out of memory or of mappings",
            Self::EEXIST => "already exists",
            Self::EINVAL => "invalid argument",
            Self::ENOSPC => "no space left on the device",
            Self::EOPNOTSUPP => "not possible on this file system",
            Self::ENOSYS => "not known to this kernel",
            Self::ESRCH => "no such process",
            _ => return write!(f, "system error {}", self.0),
        };
        f.write_str(text)
    }
}

impl core::error::Error for Errno {}

//! Shared mappings of files.

use core::fmt;
use core::ptr::NonNull;

use crate::syscall::{syscall3, syscall6};
use crate::{Errno, Fd, Protection};

/// A shared mapping of a file that stays for as long as the process (it is never unmapped by
/// dropping: the recorder's rings outlive every owner).
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is an address range; what is read and written there is the user's affair.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The first byte, page aligned.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the mapping away.
    ///
    /// # Safety
    /// - Nobody uses the range, here or through a copy of this value, after the call.
    pub unsafe fn unmap(self) {
        let start = self.start.as_ptr().expose_provenance();
        // SAFETY: the caller gives the range up; a failure leaves it mapped, which is harmless.
        let _ = unsafe { syscall3(libc::SYS_munmap, start, self.bytes, 0) };
    }
}

/// Why a file could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// The kernel refused `bytes` bytes at `offset`.
    Refused {
        /// Where in the file.
        offset: u64,
        /// How much.
        bytes: usize,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The file is shorter than what is mapped of it: touching what is missing is a signal.
    Truncated {
        /// Where in the file the mapping ends.
        mapped_to: u64,
        /// Where the file ends.
        file_bytes: u64,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { offset, bytes, errno } => {
                write!(f, "cannot map {bytes} bytes at offset {offset}: {errno}")
            }
            Self::Truncated { mapped_to, file_bytes } => write!(
                f,
                "the file is mapped to byte {mapped_to} and was cut to {file_bytes} bytes"
            ),
        }
    }
}

impl core::error::Error for MapError {}

/// Maps the first `bytes` of `file` over what is at `place`, shared with every other process that
/// maps it; children inherit it.
///
/// # Safety
/// - `place` begins whole OS pages of `bytes` that the caller owns, and whoever uses them takes
///   the file's contents instead of what was there.
///
/// # Errors
/// [`MapError::Refused`] with the kernel's reason; nothing has changed then.
pub unsafe fn map_shared_at(
    place: NonNull<u8>,
    file: &Fd,
    bytes: usize,
    protection: Protection,
) -> Result<Mapping, MapError> {
    let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as usize;
    let address = place.as_ptr().expose_provenance();
    let args = [address, bytes, protection.bits(), flags, file.raw() as usize, 0];
    // SAFETY: the caller gives up what is there.
    unsafe { syscall6(libc::SYS_mmap, args) }.map_err(|errno| MapError::Refused {
        offset: 0,
        bytes,
        errno,
    })?;
    Ok(Mapping { start: place, bytes })
}

/// Maps `bytes` of `file` from `offset` (a multiple of the page size), shared with every other
/// process that maps it.
///
/// # Errors
/// [`MapError::Refused`] with the kernel's reason.
pub fn map_shared(
    file: &Fd,
    offset: u64,
    bytes: usize,
    protection: Protection,
) -> Result<Mapping, MapError> {
    let args = [
        0,
        bytes,
        protection.bits(),
        libc::MAP_SHARED as usize,
        file.raw() as usize,
        offset as usize,
    ];
    // SAFETY: a fresh mapping at an address the kernel chooses overlaps nothing.
    let address = unsafe { syscall6(libc::SYS_mmap, args) }.map_err(|errno| MapError::Refused {
        offset,
        bytes,
        errno,
    })?;
    let start = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(address))
        .ok_or(MapError::Refused { offset, bytes, errno: Errno::EINVAL })?;
    Ok(Mapping { start, bytes })
}

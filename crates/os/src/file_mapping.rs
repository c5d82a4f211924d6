//! A shared mapping of a file with an owner: access advice, writing back, and whether the file is
//! still as long as it.
//!
//! # A file that gets shorter
//! Touching a page behind the end of the file ends the process with `SIGBUS`, and no check can
//! rule that out: another process may cut the file at any moment. What is offered: disk blocks are
//! taken before they are mapped ([`Fd::take_blocks`]), so a full disk is an error and not a
//! signal; [`FileMapping::check`] tells that the file is shorter; [`crate::is_readable`] asks about
//! one address without touching it; [`Fd::try_lock`] keeps out everybody who asks.

use core::ops::Range;
use core::ptr::NonNull;

use crate::memory::{advise_raw, map, release};
use crate::syscall::syscall3;
use crate::{Errno, Fd, MapError, Protection, page_bytes};

/// How a mapped range will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No particular way: the kernel reads some pages ahead.
    Normal,
    /// From front to back: much is read ahead, and dropped behind.
    Sequential,
    /// Anywhere: nothing is read ahead.
    Random,
    /// All of it, soon: reading begins now.
    Soon,
    /// All of it, soon, and for writing: its pages are there when the call returns, as if each had
    /// been written to (Linux 5.14; `EINVAL` before).
    Written,
    /// Not for a while: these pages go first when memory is wanted. Contents stay.
    NotSoon,
}

impl Access {
    pub(crate) fn value(self) -> usize {
        (match self {
            Self::Normal => libc::MADV_NORMAL,
            Self::Sequential => libc::MADV_SEQUENTIAL,
            Self::Random => libc::MADV_RANDOM,
            Self::Soon => libc::MADV_WILLNEED,
            Self::Written => libc::MADV_POPULATE_WRITE,
            Self::NotSoon => libc::MADV_COLD,
        }) as usize
    }
}

/// A part of a file in memory, shared with every other process that maps it; unmapped when
/// dropped. What is written reaches the file by itself in time, at once by [`Self::sync`].
#[derive(Debug)]
pub struct FileMapping {
    start: NonNull<u8>,
    bytes: usize,
    offset: u64,
}

// SAFETY: a mapping is an address range; what is read and written there is the user's affair.
unsafe impl Send for FileMapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    /// Maps `bytes` of `file` from `offset`, a multiple of the OS page. The file may be shorter;
    /// pages behind its end must not be touched.
    ///
    /// # Errors
    /// [`MapError::Refused`].
    pub fn new(
        file: &Fd,
        offset: u64,
        bytes: usize,
        protection: Protection,
    ) -> Result<Self, MapError> {
        // SAFETY: no address is given, so nothing is replaced.
        unsafe { map(None, bytes, protection, libc::MAP_SHARED, Some((file, offset))) }
            .map(|start| Self { start, bytes, offset })
            .map_err(|errno| MapError::Refused { offset, bytes, errno })
    }

    /// The first byte, aligned to the OS page.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether `file`, the mapped one, still covers the mapping. One system call.
    ///
    /// # Errors
    /// [`MapError::Truncated`] with both lengths.
    pub fn check(&self, file: &Fd) -> Result<(), MapError> {
        let (offset, bytes) = (self.offset, self.bytes);
        let stat = file.stat().map_err(|errno| MapError::Refused { offset, bytes, errno })?;
        let mapped_to = offset + bytes as u64;
        if stat.bytes.next_multiple_of(page_bytes() as u64) < mapped_to {
            return Err(MapError::Truncated { mapped_to, file_bytes: stat.bytes });
        }
        Ok(())
    }

    /// Whole pages around `range`; none if it is not inside the mapping.
    fn pages(&self, range: &Range<usize>) -> Result<(NonNull<u8>, usize), Errno> {
        if range.start > range.end || range.end > self.bytes {
            return Err(Errno::EINVAL);
        }
        let from = range.start & !(page_bytes() - 1);
        // SAFETY: inside the mapping.
        Ok((unsafe { self.start.add(from) }, range.end - from))
    }

    /// Tells how `range` will be read.
    ///
    /// # Errors
    /// `EINVAL` for a range that is not inside the mapping; the kernel's.
    pub fn advise(&self, range: Range<usize>, access: Access) -> Result<(), Errno> {
        let (start, bytes) = self.pages(&range)?;
        // SAFETY: pages of ours; the advice changes no contents.
        unsafe { advise_raw(start, bytes, access.value()) }
    }

    /// Writes `range` back to the file and waits for the disk.
    ///
    /// # Errors
    /// `EINVAL` for a range that is not inside the mapping; the kernel's, `EIO` above all.
    pub fn sync(&self, range: Range<usize>) -> Result<(), Errno> {
        let (start, bytes) = self.pages(&range)?;
        let start = start.as_ptr().expose_provenance();
        // SAFETY: pages of ours; only the file changes.
        unsafe { syscall3(libc::SYS_msync, start, bytes, libc::MS_SYNC as usize) }.map(drop)
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: our whole mapping, unused from here; what was written stays in the file.
        let _ = unsafe { release(self.start, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, FileMapping};
    use crate::{Errno, Fd, MapError, Protection, is_readable, page_bytes};

    #[test]
    fn what_is_written_is_in_the_file() {
        let page = page_bytes();
        let file = Fd::shared_memory(c"heapwright-test").expect("memfd");
        file.take_blocks(0, 2 * page as u64).expect("memory");
        let first = FileMapping::new(&file, 0, 2 * page, Protection::ReadWrite).expect("mapped");
        let second = FileMapping::new(&file, page as u64, page, Protection::Read).expect("mapped");
        // SAFETY: the second page of the first mapping.
        let byte = unsafe { first.start().add(page) };
        // SAFETY: as above.
        unsafe { byte.write(7) };
        // SAFETY: the same page of the file.
        assert_eq!(unsafe { second.start().read() }, 7);
        first.sync(0..2 * page).expect("written");
        // A kernel that cannot populate says so; nothing has changed then.
        let populated = first.advise(0..2 * page, Access::Written);
        assert!(matches!(populated, Ok(()) | Err(Errno::EINVAL)), "{populated:?}");
        // SAFETY: as above.
        assert_eq!(unsafe { second.start().read() }, 7);
        for access in [Access::Random, Access::Sequential, Access::Soon, Access::Normal] {
            first.advise(1..page, access).expect("advice");
        }
        assert_eq!(first.sync(0..2 * page + 1), Err(Errno::EINVAL));
    }

    #[test]
    fn a_shorter_file_is_told_without_touching_it() {
        let page = page_bytes();
        let file = Fd::shared_memory(c"heapwright-test").expect("memfd");
        file.take_blocks(0, 2 * page as u64).expect("memory");
        let mapping = FileMapping::new(&file, 0, 2 * page, Protection::ReadWrite).expect("mapped");
        mapping.check(&file).expect("as long as it was");
        let second = mapping.start().as_ptr().addr() + page;
        assert!(is_readable(second));
        file.set_bytes(page as u64).expect("cut");
        let told = MapError::Truncated { mapped_to: 2 * page as u64, file_bytes: page as u64 };
        assert_eq!(mapping.check(&file), Err(told));
        assert!(!is_readable(second), "a touch would be a signal; asking is not");
    }
}

//! Which OS pages of a range were written since one last asked.
//!
//! Three ways, the best that works here: the kernel lets writes through and notes them
//! (asynchronous write protection by userfaultfd, read back by `PAGEMAP_SCAN`, Linux 6.7): about
//! 0.9 µs for the first write to a page, 5 ns a page to ask; soft-dirty bits, whose reset touches
//! the whole process; or nothing is known, and every page counts as written.
//!
//! Source: the kernel's Documentation/admin-guide/mm/{userfaultfd,pagemap,soft-dirty}.rst.

use core::ops::Range;
use core::ptr::NonNull;

use crate::page_scan::{WRITTEN, open_pagemap, scan};
use crate::syscall::syscall6;
use crate::userfaultfd::{self, REGISTER, USER_MODE_ONLY};
use crate::{Errno, Fd, OpenFlags, page_bytes, write_all};

/// Request to userfaultfd: protect a part of a range that is followed.
const WRITEPROTECT: usize = 0xc018_aa06;
const FEATURE_WP: u64 = 1 << 0;
const FEATURE_WP_SHARED: u64 = 1 << 12;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const REGISTER_MODE_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;
/// Bit of an entry of /proc/self/pagemap: written since the bits were cleared.
const SOFT_DIRTY: u64 = 1 << 55;
/// Entries read at once.
const ENTRY_COUNT: usize = 256;

/// How writes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirtyMethod {
    /// By the kernel, page by page, for this range only.
    WriteProtect,
    /// By the kernel, for the whole process: [`DirtyPages::take`] clears the marks of every
    /// range, so there may be one follower in a process.
    SoftDirty,
    /// Not at all: every page counts as written every time.
    Everything,
}

/// Follows the writes to a range of memory; ends when dropped.
#[derive(Debug)]
pub struct DirtyPages {
    range: Range<usize>,
    pagemap: Option<Fd>,
    /// Held open: its end is the end of following.
    _follower: Option<Fd>,
    method: DirtyMethod,
}

impl DirtyPages {
    /// Follows `bytes` from `start` from now on, in the best way there is. Anonymous or shared
    /// memory; for pages of a disk file only the two lesser ways work. O(pages) once.
    ///
    /// # Safety
    /// - The range is whole OS pages of a mapping that the caller owns, and stays mapped as it is
    ///   while this lives.
    pub unsafe fn follow(start: NonNull<u8>, bytes: usize) -> Self {
        // SAFETY: the caller's promise, here and below.
        unsafe { Self::follow_by(start, bytes, DirtyMethod::WriteProtect) }
            // SAFETY: as above.
            .or_else(|_| unsafe { Self::follow_by(start, bytes, DirtyMethod::SoftDirty) })
            .unwrap_or_else(|_| Self::everything(start, bytes))
    }

    /// Follows in the way given.
    ///
    /// # Safety
    /// - As for [`Self::follow`].
    ///
    /// # Errors
    /// The kernel's, when it lacks the way: `ENOSYS`, `EINVAL`, `ENOTTY` or `EPERM`.
    pub unsafe fn follow_by(
        start: NonNull<u8>,
        bytes: usize,
        method: DirtyMethod,
    ) -> Result<Self, Errno> {
        let first = start.as_ptr().expose_provenance();
        let range = first..first + bytes;
        match method {
            DirtyMethod::WriteProtect => {
                let follower = open_follower()?;
                let pagemap = open_pagemap()?;
                protect_writes(&follower, &range)?;
                scan(&pagemap, range.clone(), WRITTEN, true, |_| {})?;
                Ok(Self { range, pagemap: Some(pagemap), _follower: Some(follower), method })
            }
            DirtyMethod::SoftDirty => {
                if !soft_dirty_works() {
                    return Err(Errno::EINVAL);
                }
                let pagemap = open_pagemap()?;
                clear_soft_dirty()?;
                Ok(Self { range, pagemap: Some(pagemap), _follower: None, method })
            }
            DirtyMethod::Everything => Ok(Self::everything(start, bytes)),
        }
    }

    fn everything(start: NonNull<u8>, bytes: usize) -> Self {
        let first = start.as_ptr().addr();
        let range = first..first + bytes;
        Self { range, pagemap: None, _follower: None, method: DirtyMethod::Everything }
    }

    /// How writes are noticed.
    pub fn method(&self) -> DirtyMethod {
        self.method
    }

    /// Calls `each` with the runs of pages, as offsets in bytes from the start, that were written
    /// since the last call or since the beginning; and begins anew. A write during the call counts
    /// for it or for the next one, never for neither.
    ///
    /// # Errors
    /// The kernel's; what was told by then is not told again.
    pub fn take(&mut self, mut each: impl FnMut(Range<usize>)) -> Result<(), Errno> {
        let first = self.range.start;
        match (&self.pagemap, self.method) {
            (Some(pagemap), DirtyMethod::WriteProtect) => {
                scan(pagemap, self.range.clone(), WRITTEN, true, |piece| {
                    each(piece.start - first..piece.end - first);
                })
            }
            (Some(pagemap), DirtyMethod::SoftDirty) => {
                // Soft-dirty marks cannot be read and cleared at once: who writes between the two
                // would be missed, so nobody may, and the caller has us exclusively for that.
                soft_dirty_pages(pagemap, &self.range, |piece| {
                    each(piece.start - first..piece.end - first);
                })?;
                clear_soft_dirty()
            }
            _ => {
                each(0..self.range.len());
                Ok(())
            }
        }
    }
}

/// A userfaultfd that notes writes by itself.
fn open_follower() -> Result<Fd, Errno> {
    let features = FEATURE_WP | FEATURE_WP_SHARED | FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC;
    userfaultfd::open(USER_MODE_ONLY, features)
}

fn protect_writes(follower: &Fd, range: &Range<usize>) -> Result<(), Errno> {
    let (start, bytes) = (range.start as u64, range.len() as u64);
    let mut all = [start, bytes, REGISTER_MODE_WP, 0];
    // SAFETY: following writes changes no contents; likewise below.
    unsafe { userfaultfd::request(follower, REGISTER, &mut all) }?;
    let mut part = [start, bytes, WRITEPROTECT_MODE_WP];
    // SAFETY: as above.
    unsafe { userfaultfd::request(follower, WRITEPROTECT, &mut part) }
}

fn clear_soft_dirty() -> Result<(), Errno> {
    let path = c"/proc/self/clear_refs".as_ptr().expose_provenance();
    let args =
        [libc::AT_FDCWD as usize, path, (libc::O_WRONLY | libc::O_CLOEXEC) as usize, 0, 0, 0];
    // SAFETY: the path is a NUL-terminated string that lives through the call.
    let fd = unsafe { syscall6(libc::SYS_openat, args) }?;
    write_all(&Fd::from_raw(fd as i32), b"4")
}

/// Calls `each` with the pages of `range` that are marked.
fn soft_dirty_pages(
    pagemap: &Fd,
    range: &Range<usize>,
    mut each: impl FnMut(Range<usize>),
) -> Result<(), Errno> {
    let page = page_bytes();
    let mut entries = [0u64; ENTRY_COUNT];
    let mut at = range.start;
    while at < range.end {
        let count = ((range.end - at) / page).min(ENTRY_COUNT);
        let place = entries.as_mut_ptr().expose_provenance();
        let args = [pagemap.raw() as usize, place, count * 8, at / page * 8, 0, 0];
        // SAFETY: the kernel writes at most `count` words into the entries.
        let got = unsafe { syscall6(libc::SYS_pread64, args) }? / 8;
        if got == 0 {
            return Err(Errno::EINVAL);
        }
        for (index, entry) in entries[..got].iter().enumerate() {
            if entry & SOFT_DIRTY != 0 {
                each(at + index * page..at + (index + 1) * page);
            }
        }
        at += got * page;
    }
    Ok(())
}

/// Whether a written page is marked here, and a cleared one is not: kernels without the option
/// accept the request and do nothing.
fn soft_dirty_works() -> bool {
    let page = page_bytes();
    let Ok(start) = crate::reserve(page, crate::Protection::ReadWrite) else { return false };
    let first = start.as_ptr().addr();
    let marked = |pagemap: &Fd| {
        let mut seen = false;
        soft_dirty_pages(pagemap, &(first..first + page), |_| seen = true).map(|()| seen)
    };
    let looked = Fd::open(c"/proc/self/pagemap", OpenFlags::Read).and_then(|pagemap| {
        // SAFETY: a page of ours.
        unsafe { start.write_volatile(1) };
        clear_soft_dirty()?;
        let cleared = !marked(&pagemap)?;
        // SAFETY: as above.
        unsafe { start.write_volatile(2) };
        Ok(cleared && marked(&pagemap)?)
    });
    // SAFETY: our whole mapping, unused.
    let _ = unsafe { crate::release(start, page) };
    looked == Ok(true)
}

/// Soft-dirty marks are the process's: tests that clear them run one after the other.
#[cfg(test)]
pub(crate) fn soft_dirty_alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{DirtyMethod, DirtyPages, soft_dirty_alone};
    use crate::{Protection, page_bytes, release, reserve};

    /// Pages told as written, as bits.
    fn told(pages: &mut DirtyPages) -> u64 {
        let page = page_bytes();
        let mut bits = 0;
        pages
            .take(|run| (run.start / page..run.end / page).for_each(|index| bits |= 1 << index))
            .expect("the kernel tells");
        bits
    }

    #[test]
    fn written_pages_are_told_once() {
        let _alone = soft_dirty_alone();
        let page = page_bytes();
        for method in [DirtyMethod::WriteProtect, DirtyMethod::SoftDirty] {
            let start = reserve(8 * page, Protection::ReadWrite).expect("address space");
            // SAFETY: inside the mapping, here and below.
            let at = |index: usize| unsafe { start.add(index * page) };
            // SAFETY: as above.
            unsafe { at(1).write(1) };
            // SAFETY: a mapping of ours, there until the end of the test.
            if let Ok(mut pages) = unsafe { DirtyPages::follow_by(start, 8 * page, method) } {
                assert_eq!(told(&mut pages), 0, "{method:?}: nothing was written since");
                for index in [1, 2, 5] {
                    // SAFETY: as above.
                    unsafe { at(index).write(2) };
                }
                // SAFETY: reading is not writing.
                assert_eq!(unsafe { at(6).read() }, 0);
                let expected = 1 << 1 | 1 << 2 | 1 << 5;
                assert_eq!(told(&mut pages) & !(1 << 6), expected, "{method:?}");
                assert_eq!(told(&mut pages), 0, "{method:?}: told once");
                // SAFETY: as above.
                unsafe { at(7).write(3) };
                assert_eq!(told(&mut pages), 1 << 7, "{method:?}");
            }
            // SAFETY: the whole mapping, unused.
            unsafe { release(start, 8 * page) }.expect("release");
        }
    }

    #[test]
    fn without_help_everything_counts_as_written() {
        let page = page_bytes();
        let start = reserve(4 * page, Protection::ReadWrite).expect("address space");
        // SAFETY: a mapping of ours.
        let followed = unsafe { DirtyPages::follow_by(start, 4 * page, DirtyMethod::Everything) };
        let mut pages = followed.expect("no kernel is asked");
        assert_eq!((told(&mut pages), told(&mut pages)), (0b1111, 0b1111));
        // SAFETY: the whole mapping, unused.
        unsafe { release(start, 4 * page) }.expect("release");
    }
}

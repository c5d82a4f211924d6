//! Page faults that a thread of the program resolves: accesses to pages that are not there wait
//! until it has done so. With it pages can be taken away and put back while other threads run.
//!
//! What makes it the right tool for moving memory behind a program's back: system calls that
//! access the range wait, too, instead of failing; the kernel refuses to take a page that is
//! pinned for a device or shared with a child; and a fork in between is told.
//!
//! Source: userfaultfd(2), ioctl_userfaultfd(2); the kernel's
//! Documentation/admin-guide/mm/userfaultfd.rst.

use core::ptr::NonNull;

use crate::memory::map;
use crate::syscall::syscall3;
use crate::userfaultfd::{self, REGISTER, USER_MODE_ONLY};
use crate::{Errno, Fd, Protection};

// Requests; each number holds the size of its argument.
const UNREGISTER: usize = 0x8010_aa01;
const WAKE: usize = 0x8010_aa02;
const COPY: usize = 0xc028_aa03;
const ZEROPAGE: usize = 0xc020_aa04;
const MOVE: usize = 0xc028_aa05;
const WRITE_PROTECT: usize = 0xc018_aa06;
const FEATURE_EVENT_FORK: u64 = 1 << 1;
const FEATURE_MOVE: u64 = 1 << 16;
const REGISTER_MISSING: u64 = 1 << 0;
const REGISTER_WRITES: u64 = 1 << 1;
const PROTECT: u64 = 1 << 0;
const DO_NOT_WAKE: u64 = 1 << 0;
const ALLOW_HOLES: u64 = 1 << 1;
/// `UFFD_EVENT_FORK`.
const EVENT_FORK: u8 = 0x13;
/// Length of an event, and where a fork's descriptor is in it.
const EVENT_BYTES: usize = 32;
const EVENT_FD_OFFSET: usize = 8;

/// Whose accesses wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultScope {
    /// All; and forks are told. Needs `CAP_SYS_PTRACE`.
    Everybody,
    /// Those of user code; system calls get `EFAULT`. Needs no rights.
    UserCode,
}

/// Resolves missing pages of ranges of this process; closing it ends that.
#[derive(Debug)]
pub struct UserFaults {
    fd: Fd,
}

impl UserFaults {
    /// Opens one that can move pages.
    ///
    /// # Errors
    /// `EPERM` without the rights that `scope` needs or in a sandbox, `ENOSYS` and `EINVAL` where
    /// the kernel cannot (before Linux 6.8).
    pub fn open(scope: FaultScope) -> Result<Self, Errno> {
        let (mode, features) = match scope {
            FaultScope::Everybody => (0, FEATURE_MOVE | FEATURE_EVENT_FORK),
            FaultScope::UserCode => (USER_MODE_ONLY, FEATURE_MOVE),
        };
        Ok(Self { fd: userfaultfd::open(mode, features)? })
    }

    /// Lets accesses to missing pages of `bytes` from `start` wait from now on.
    ///
    /// # Safety
    /// - The range is whole pages of anonymous memory that the caller owns; it sees to it that
    ///   those who wait are woken. The calling thread touches no missing page of it.
    ///
    /// # Errors
    /// The kernel's: `ENOMEM` when the count of mappings is used up, `EBUSY` when somebody else
    /// follows the range.
    pub unsafe fn follow(&self, start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        self.request(REGISTER, &mut [address(start), bytes as u64, REGISTER_MISSING, 0])
    }

    /// Lets writes to `bytes` from `start` wait from now on; who reads goes on. Pages that are not
    /// there get a mark, which the kernel's table shows as a page that was swapped out. Ended by
    /// [`UserFaults::unfollow`], or by mapping something else there and [`UserFaults::wake`].
    ///
    /// # Safety
    /// - The range is whole pages of one private mapping of a file of [`Fd::shared_memory`] that
    ///   the caller owns; it sees to it that those who wait are woken. The calling thread does not
    ///   write there.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` where it cannot (before Linux 5.19), else as [`UserFaults::follow`].
    /// Nothing waits then.
    pub unsafe fn hold_writes(&self, start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        self.request(REGISTER, &mut [address(start), bytes as u64, REGISTER_WRITES, 0])?;
        let held = self.request(WRITE_PROTECT, &mut [address(start), bytes as u64, PROTECT]);
        if held.is_err() {
            // A refusal leaves it followed until this value is dropped.
            let _ = self.unfollow(start, bytes);
        }
        held
    }

    /// Ends [`UserFaults::follow`] and [`UserFaults::hold_writes`], and wakes who waits.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unfollow(&self, start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        let ended = self.request(UNREGISTER, &mut [address(start), bytes as u64]);
        // By itself the kernel wakes those only that wait for a missing page.
        let woken = self.wake(start, bytes);
        ended.and(woken)
    }

    /// Wakes who waits for a page of the range, whatever is mapped there now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wake(&self, start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        self.request(WAKE, &mut [address(start), bytes as u64])
    }

    /// Moves what pages there are of `bytes` at `from` to `to`, each at once and with all that
    /// was written to it; nobody is woken. Returns the bytes done, and why not all.
    ///
    /// # Safety
    /// - Both ranges are whole pages of private anonymous memory of the caller's; `to` is followed
    ///   and has no pages. Whoever reads `from` afterwards takes what the caller puts there.
    ///
    /// # Errors
    /// `EBUSY`: a page is pinned or shared with a child; `EAGAIN`: a fork waits to be told
    /// ([`UserFaults::take_fork`]); `EINVAL`: memory of another kind (locked, of a file).
    pub unsafe fn move_pages(
        &self,
        from: NonNull<u8>,
        to: NonNull<u8>,
        bytes: usize,
    ) -> Result<(), (usize, Errno)> {
        let mut done = 0;
        while done < bytes {
            let (to, from) = (address(to) + done as u64, address(from) + done as u64);
            let mode = DO_NOT_WAKE | ALLOW_HOLES;
            let mut words = [to, from, (bytes - done) as u64, mode, 0];
            match self.request(MOVE, &mut words) {
                Ok(()) => return Ok(()),
                Err(errno) => match usize::try_from(words[4] as i64) {
                    // A part was done; the next try tells why not the rest.
                    Ok(moved @ 1..) => done += moved,
                    _ => return Err((done, errno)),
                },
            }
        }
        Ok(())
    }

    /// Puts a copy of the `bytes` at `from` to missing pages at `to`, which may be another
    /// process's address when `self` came from [`UserFaults::take_fork`]. Nobody is woken.
    ///
    /// # Safety
    /// - `from` is readable memory of this process; `to` is followed, and its readers take that.
    ///
    /// # Errors
    /// `EEXIST` when there is a page, `EAGAIN` as for [`UserFaults::move_pages`], `ESRCH` when
    /// that process is gone, `ENOMEM`.
    pub unsafe fn put_copy(
        &self,
        from: NonNull<u8>,
        to: NonNull<u8>,
        bytes: usize,
    ) -> Result<(), Errno> {
        self.request(COPY, &mut [address(to), address(from), bytes as u64, DO_NOT_WAKE, 0])
    }

    /// Puts zero pages where pages are missing. Nobody is woken.
    ///
    /// # Safety
    /// - The range is followed.
    ///
    /// # Errors
    /// As [`UserFaults::put_copy`].
    pub unsafe fn put_zero(&self, start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        self.request(ZEROPAGE, &mut [address(start), bytes as u64, DO_NOT_WAKE, 0])
    }

    /// Whether a fork took place while a range was followed and was not told yet: its parent
    /// waits for [`UserFaults::take_fork`].
    pub fn has_fork(&self) -> bool {
        // An empty move is refused as such only after the kernel has looked for forks.
        self.request(MOVE, &mut [0; 5]) == Err(Errno::EAGAIN)
    }

    /// Takes a fork: what resolves the child's missing pages, at the same addresses. Closing that
    /// ends it: the child then finds zero pages where none were put. None when there is no fork
    /// to be told at this moment. Never waits.
    pub fn take_fork(&self) -> Option<Self> {
        loop {
            let mut event = [0u8; EVENT_BYTES];
            match self.fd.read(&mut event) {
                Ok(EVENT_BYTES) if event[0] == EVENT_FORK => {
                    let bytes = event.get(EVENT_FD_OFFSET..EVENT_FD_OFFSET + 4)?;
                    let raw = i32::from_ne_bytes(bytes.try_into().ok()?);
                    return Some(Self { fd: Fd::from_raw(raw) });
                }
                // An access that waits: it is woken with the others.
                Ok(EVENT_BYTES) => {}
                _ => return None,
            }
        }
    }

    fn request<const N: usize>(&self, number: usize, words: &mut [u64; N]) -> Result<(), Errno> {
        // SAFETY: what happens to the ranges is the promise of the unsafe methods' callers, and
        // waking changes no contents.
        unsafe { userfaultfd::request(&self.fd, number, words) }
    }
}

fn address(start: NonNull<u8>) -> u64 {
    start.as_ptr().expose_provenance() as u64
}

/// Gives the calling thread a table of descriptors of its own, with nothing in it but three that
/// stand for the standard ones: what it opens is out of the program's sight and reach, and what
/// the program closes is closed. Whether that was possible (Linux 5.9).
pub fn leave_descriptors() -> bool {
    /// `CLOSE_RANGE_UNSHARE`.
    const UNSHARE: usize = 2;
    // SAFETY: the table that is emptied is this thread's own; with the whole range closed the
    // kernel copies nothing into it.
    if unsafe { syscall3(libc::SYS_close_range, 0, u32::MAX as usize, UNSHARE) }.is_err() {
        return false;
    }
    // A message that is written to standard error must not end up in a file of ours.
    (0..3).all(|_| Fd::shared_memory(c"heapwright-nowhere").map(Fd::into_raw).is_ok())
}

/// Maps `bytes` of `file` from `offset` over what is at `place`, for reading and writing; what is
/// written stays in this mapping and its copies in children, and no swap is reserved.
///
/// # Safety
/// - `place` begins whole pages of a mapping that the caller owns, and whoever uses them takes
///   the file's contents instead of what was there. The file keeps its length.
///
/// # Errors
/// The kernel's: `ENOMEM` when the count of mappings is used up; nothing has changed then.
pub unsafe fn map_private_at(
    place: NonNull<u8>,
    file: &Fd,
    offset: u64,
    bytes: usize,
) -> Result<(), Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    // SAFETY: the caller's promise.
    unsafe { map(Some(place), bytes, Protection::ReadWrite, flags, Some((file, offset))) }.map(drop)
}

/// Maps zeroed anonymous memory over what is at `place`, for reading and writing.
///
/// # Safety
/// - `place` begins whole pages of mappings that the caller owns, and nobody needs what they hold.
///
/// # Errors
/// The kernel's; nothing has changed then.
pub unsafe fn map_zeroed_at(place: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the caller's promise.
    unsafe { map(Some(place), bytes, Protection::ReadWrite, flags, None) }.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::{FaultScope, UserFaults, map_private_at, map_zeroed_at};
    use crate::{Errno, Fd, Protection, ResidentPages, page_bytes, release, reserve};

    /// What can be had here: the test says when there is nothing.
    fn opened() -> Option<UserFaults> {
        let found = UserFaults::open(FaultScope::Everybody)
            .or_else(|_| UserFaults::open(FaultScope::UserCode));
        if let Err(errno) = &found {
            std::println!("no userfaultfd here: {errno}");
        }
        found.ok()
    }

    #[test]
    fn a_page_is_taken_away_and_its_reader_waits_for_what_is_mapped_instead() {
        let Some(faults) = opened() else { return };
        let page = page_bytes();
        let range = reserve(2 * page, Protection::ReadWrite).expect("address space");
        let stash = reserve(2 * page, Protection::ReadWrite).expect("address space");
        // SAFETY: the mapping made above.
        unsafe { range.write(7) };
        // SAFETY: ours; nobody touches the stash's missing pages, and the range's readers are
        // woken below.
        unsafe { faults.follow(stash, 2 * page) }.expect("followed");
        // SAFETY: as above.
        unsafe { faults.follow(range, 2 * page) }.expect("followed");
        // SAFETY: both ours; the second page is not there at all.
        unsafe { faults.move_pages(range, stash, 2 * page) }.expect("moved");
        // SAFETY: moved there.
        assert_eq!(unsafe { stash.read() }, 7);
        let file = Fd::shared_memory(c"test").expect("memory");
        file.set_bytes(2 * page as u64).expect("length");
        crate::write_all(&file, &[9; 16]).expect("written");
        let (has_read, start) = (AtomicBool::new(false), range.as_ptr().expose_provenance());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let place = core::ptr::with_exposed_provenance::<u8>(start);
                // SAFETY: mapped; the access waits until it is resolved.
                let found = unsafe { place.read_volatile() };
                has_read.store(true, Ordering::SeqCst);
                found
            });
            std::thread::sleep(Duration::from_millis(50));
            assert!(!has_read.load(Ordering::SeqCst), "nothing was there to be read");
            // SAFETY: ours; the reader takes what it finds.
            unsafe { map_private_at(range, &file, 0, 2 * page) }.expect("mapped");
            faults.wake(range, 2 * page).expect("woken");
            assert_eq!(reader.join().expect("no panic"), 9);
        });
        assert!(!faults.has_fork());
        // SAFETY: nobody needs it.
        unsafe { map_zeroed_at(range, 2 * page) }.expect("mapped");
        // SAFETY: mapped.
        assert_eq!(unsafe { range.read() }, 0);
        for start in [range, stash] {
            // SAFETY: whole mappings, unused from here on.
            unsafe { release(start, 2 * page) }.expect("release");
        }
    }

    #[test]
    fn writes_to_a_file_s_pages_wait_and_reads_do_not() {
        let Some(faults) = opened() else { return };
        let page = page_bytes();
        let range = reserve(2 * page, Protection::ReadWrite).expect("address space");
        let file = Fd::shared_memory(c"test").expect("memory");
        file.set_bytes(2 * page as u64).expect("length");
        crate::write_all(&file, &[5; 16]).expect("written");
        // SAFETY: ours.
        unsafe { map_private_at(range, &file, 0, 2 * page) }.expect("mapped");
        let pages = ResidentPages::open().expect("the table of pages");
        let own_pages = || {
            let (mut count, start) = (0, range.as_ptr().addr());
            let asked = pages.for_each(start..start + 2 * page, |run, is_file| {
                count += if is_file { 0 } else { run.len() / page };
            });
            asked.map(|()| count)
        };
        // SAFETY: mapped; the second page is this mapping's own from here on.
        unsafe { range.as_ptr().wrapping_add(page).write(6) };
        // The first one is there, so that it is no mark in the table's place.
        // SAFETY: mapped.
        assert_eq!(unsafe { range.read_volatile() }, 5);
        // SAFETY: a private mapping of shared memory, ours; writers are woken below.
        if let Err(errno) = unsafe { faults.hold_writes(range, 2 * page) } {
            std::println!("writes cannot be held here: {errno}");
            return;
        }
        // A kernel that cannot tell of pages cannot move them either.
        assert_eq!(own_pages(), Ok(1));
        let (has_written, start) = (AtomicBool::new(false), range.as_ptr().expose_provenance());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let place = core::ptr::with_exposed_provenance_mut::<u8>(start);
                // SAFETY: mapped; the access waits until it is resolved.
                unsafe { place.wrapping_add(1).write_volatile(7) };
                has_written.store(true, Ordering::SeqCst);
            });
            std::thread::sleep(Duration::from_millis(50));
            assert!(!has_written.load(Ordering::SeqCst), "the page is held");
            // SAFETY: mapped.
            assert_eq!(unsafe { range.read_volatile() }, 5);
            faults.unfollow(range, 2 * page).expect("let go");
        });
        // SAFETY: mapped.
        assert_eq!(unsafe { range.as_ptr().wrapping_add(1).read() }, 7);
        // SAFETY: a whole mapping, unused from here on.
        unsafe { release(range, 2 * page) }.expect("release");
    }

    #[test]
    fn memory_of_a_file_is_not_moved() {
        let Some(faults) = opened() else { return };
        let page = page_bytes();
        let range = reserve(page, Protection::ReadWrite).expect("address space");
        let stash = reserve(page, Protection::ReadWrite).expect("address space");
        let file = Fd::shared_memory(c"test").expect("memory");
        file.set_bytes(page as u64).expect("length");
        // SAFETY: ours.
        unsafe { map_private_at(range, &file, 0, page) }.expect("mapped");
        // SAFETY: ours.
        unsafe { faults.follow(stash, page) }.expect("followed");
        // SAFETY: ours.
        let refused = unsafe { faults.move_pages(range, stash, page) };
        assert_eq!(refused, Err((0, Errno::EINVAL)));
        for start in [range, stash] {
            // SAFETY: whole mappings, unused from here on.
            unsafe { release(start, page) }.expect("release");
        }
    }
}

//! A file, or shared memory, as a [`Backing`].

use core::alloc::Layout;
use core::ffi::CStr;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use heapwright_core::backing::{
    Backing, BackingError, Extent, NodePolicy, Operation, Purge, Purged,
};

use crate::anonymous::{refused, resident_bytes};
use crate::file::open_shared_memory;
use crate::memory::{Protection, advise_raw, map, protect, release, reserve, trim};
use crate::placement::bind;
use crate::{Access, Errno, Fd, OpenFlags, page_bytes};

/// Addresses that one extent takes when it may grow; file blocks are taken when it does.
const RESERVE_HINT_BYTES: usize = 1 << 30;

/// Why a file cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilePagesError {
    /// It could not be opened or made.
    Open(Errno),
    /// It has something in it, and memory would be cut from it.
    NotEmpty {
        /// Its length.
        file_bytes: u64,
    },
    /// Somebody else has it as memory.
    InUse,
}

impl fmt::Display for FilePagesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(errno) => write!(f, "cannot open the file: {errno}"),
            Self::NotEmpty { file_bytes } => write!(f, "the file has {file_bytes} bytes already"),
            Self::InUse => f.write_str("the file is in use"),
        }
    }
}

impl core::error::Error for FilePagesError {}

/// Memory that lies in a file: larger than RAM, or shared with other processes, or shown at two
/// addresses ([`Backing::alias`]).
///
/// Each extent is a range of the file, which only grows. Blocks are taken by commit, so a full
/// disk is [`BackingError::Exhausted`] with what is free; they go back by decommit, purge and
/// release. A file that somebody cut meanwhile is [`BackingError::Truncated`] at the next commit
/// or [`FilePages::check`]; touching what is missing is `SIGBUS`.
///
/// What it holds ends with the extents: for contents that are found again take a heap in a file.
#[derive(Debug)]
pub struct FilePages {
    file: Fd,
    /// Where the next extent begins in the file.
    end: AtomicU64,
    /// Blocks were taken up to here: the file is never shorter unless somebody cuts it.
    grown: AtomicU64,
}

impl FilePages {
    /// Memory in the file `path`, which is made, or must be empty. It stays when this is dropped.
    ///
    /// # Errors
    /// [`FilePagesError`].
    pub fn create(path: &CStr) -> Result<Self, FilePagesError> {
        Self::of(Fd::open_or_create(path).map_err(FilePagesError::Open)?)
    }

    /// Memory in a file without a name in the directory `directory`: it goes with this.
    ///
    /// # Errors
    /// [`FilePagesError`]; `EOPNOTSUPP` where the file system has no such files.
    pub fn temporary(directory: &CStr) -> Result<Self, FilePagesError> {
        Self::of(Fd::open(directory, OpenFlags::Unnamed).map_err(FilePagesError::Open)?)
    }

    /// Shared memory without a name: children after fork and whoever gets the descriptor share it.
    ///
    /// # Errors
    /// [`FilePagesError`].
    pub fn shared(name: &CStr) -> Result<Self, FilePagesError> {
        Self::of(Fd::shared_memory(name).map_err(FilePagesError::Open)?)
    }

    /// The shared memory `name` of the machine, made, or empty. It stays when this is dropped:
    /// [`crate::unlink_shared_memory`] takes it away.
    ///
    /// # Errors
    /// [`FilePagesError`].
    pub fn named(name: &CStr) -> Result<Self, FilePagesError> {
        Self::of(open_shared_memory(name).map_err(FilePagesError::Open)?)
    }

    /// Memory in `file`, which is open for reading and writing, and empty.
    ///
    /// # Errors
    /// [`FilePagesError`].
    pub fn of(file: Fd) -> Result<Self, FilePagesError> {
        file.try_lock().map_err(|errno| match errno {
            Errno::EAGAIN => FilePagesError::InUse,
            errno => FilePagesError::Open(errno),
        })?;
        let file_bytes = file.stat().map_err(FilePagesError::Open)?.bytes;
        if file_bytes > 0 {
            return Err(FilePagesError::NotEmpty { file_bytes });
        }
        Ok(Self { file, end: AtomicU64::new(0), grown: AtomicU64::new(0) })
    }

    /// The file.
    pub fn file(&self) -> &Fd {
        &self.file
    }

    /// Where `extent` begins in the file: another process maps it from there.
    pub fn file_offset(extent: &Extent) -> u64 {
        extent.tag as u64 * page_bytes() as u64
    }

    /// Whether the file is as long as it was made. One system call.
    ///
    /// # Errors
    /// [`BackingError::Truncated`] with both lengths.
    pub fn check(&self) -> Result<(), BackingError> {
        // Acquire: pairs with the Release in `commit`: who sees a length sees the file as long.
        let expected_bytes = self.grown.load(Ordering::Acquire);
        let stat = self.file.stat().map_err(|errno| refused(errno, 0))?;
        if stat.bytes < expected_bytes {
            return Err(BackingError::Truncated { expected_bytes, file_bytes: stat.bytes });
        }
        Ok(())
    }

    /// Tells how `range` will be read.
    ///
    /// # Safety
    /// - `extent` is a live one of this backing, and `range` is inside it and committed.
    ///
    /// # Errors
    /// The kernel's.
    pub unsafe fn advise(
        &self,
        extent: &Extent,
        range: Range<usize>,
        access: Access,
    ) -> Result<(), Errno> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        // SAFETY: pages of ours; the advice changes no contents.
        unsafe { advise_raw(start, range.len(), access.value()) }
    }

    /// # Safety
    /// - `range` is inside the live extent `extent`.
    unsafe fn at(extent: &Extent, range: &Range<usize>) -> NonNull<u8> {
        debug_assert!(range.start < range.end && range.end <= extent.reserved_bytes);
        debug_assert!(range.start.is_multiple_of(extent.step_bytes));
        // SAFETY: inside the extent, as the caller promises.
        unsafe { extent.start.add(range.start) }
    }

    /// An address range of `bytes`, aligned, and nothing mapped beside it.
    fn addresses(bytes: usize, align: usize) -> Result<NonNull<u8>, Errno> {
        let page = page_bytes();
        let spare = align.saturating_sub(page);
        let all = bytes.checked_add(spare).ok_or(Errno::ENOMEM)?;
        let mapped = reserve(all, Protection::None)?;
        let lead = mapped.as_ptr().addr().wrapping_neg() & (align - 1);
        // SAFETY: at most `spare` bytes into a mapping that is longer.
        let start = unsafe { mapped.add(lead) };
        if lead > 0 {
            // SAFETY: the part before, unused. If it stays, addresses are lost, nothing else.
            let _ = unsafe { trim(mapped, lead) };
        }
        if lead < spare {
            // SAFETY: inside the mapping.
            let tail = unsafe { start.add(bytes) };
            // SAFETY: the part behind, unused; likewise.
            let _ = unsafe { trim(tail, spare - lead) };
        }
        Ok(start)
    }

    fn full(&self, errno: Errno, bytes: usize) -> BackingError {
        if errno != Errno::ENOSPC {
            return refused(errno, bytes);
        }
        let available_bytes =
            self.file.file_system_free_bytes().map_or(0, |free| usize::try_from(free).unwrap_or(0));
        BackingError::Exhausted { requested_bytes: bytes, available_bytes }
    }
}

// SAFETY: extents are mappings of their own, of ranges of the file that no other extent has (I1);
// inaccessible until `commit` has blocks for them (I2), which read as zero because the file was
// empty and nobody writes beside its extents (I4). What fails has changed no more than blocks of
// the file (I3). The tag is the offset in the file in OS pages.
unsafe impl Backing for FilePages {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let page = page_bytes();
        let exhausted =
            BackingError::Exhausted { requested_bytes: layout.size(), available_bytes: 0 };
        let bytes = layout.size().max(1).checked_next_multiple_of(page).ok_or(exhausted)?;
        let start =
            Self::addresses(bytes, layout.align()).map_err(|errno| refused(errno, bytes))?;
        // Relaxed: only that no two extents get the same range matters.
        let offset = self.end.fetch_add(bytes as u64, Ordering::Relaxed);
        let file = Some((&self.file, offset));
        // SAFETY: the addresses just taken, which nobody uses.
        match unsafe { map(Some(start), bytes, Protection::None, libc::MAP_SHARED, file) } {
            Ok(start) => Ok(Extent {
                start,
                reserved_bytes: bytes,
                committed_bytes: 0,
                step_bytes: page,
                zeroed: true,
                tag: (offset / page as u64) as usize,
            }),
            Err(errno) => {
                // SAFETY: as above.
                let _ = unsafe { release(start, bytes) };
                Err(refused(errno, bytes))
            }
        }
    }

    unsafe fn release(&self, extent: Extent) {
        // SAFETY: the whole mapping, which the caller gives up.
        let _ = unsafe { release(extent.start, extent.reserved_bytes) };
        // A file system without holes keeps the blocks until the file goes.
        let _ = self.file.punch_hole(Self::file_offset(&extent), extent.reserved_bytes as u64);
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        bytes_min.max(RESERVE_HINT_BYTES)
    }

    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        self.check()?;
        let bytes = range.len();
        let offset = Self::file_offset(extent) + range.start as u64;
        self.file.take_blocks(offset, bytes as u64).map_err(|errno| self.full(errno, bytes))?;
        // Release: pairs with the Acquire in `check`.
        self.grown.fetch_max(offset + bytes as u64, Ordering::Release);
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        // SAFETY: whole pages of a mapping of ours.
        unsafe { protect(start, bytes, Protection::ReadWrite) }
            .map_err(|errno| refused(errno, bytes))?;
        // SAFETY: likewise; takes away what `guard` put there, if anything.
        unsafe { crate::guard::clear_installed(start, bytes) }
            .map_err(|errno| refused(errno, bytes))
    }

    unsafe fn decommit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: the caller's promise, here and below.
        let start = unsafe { Self::at(extent, &range) };
        let bytes = range.len();
        // SAFETY: as above.
        unsafe { self.purge(extent, range, Purge::Now) }?;
        // SAFETY: nobody uses the range.
        unsafe { protect(start, bytes, Protection::None) }.map_err(|errno| refused(errno, bytes))
    }

    unsafe fn purge(
        &self,
        extent: &Extent,
        range: Range<usize>,
        _when: Purge,
    ) -> Result<Purged, BackingError> {
        let bytes = range.len();
        let offset = Self::file_offset(extent) + range.start as u64;
        match self.file.punch_hole(offset, bytes as u64) {
            Ok(()) => Ok(Purged::Zeroed),
            Err(Errno::EOPNOTSUPP) => Err(BackingError::Unsupported(Operation::Purge)),
            Err(errno) => Err(refused(errno, bytes)),
        }
    }

    unsafe fn guard(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        let bytes = range.len();
        // SAFETY: whole pages of ours that nobody uses.
        unsafe { crate::guard(start, bytes) }.map(drop).map_err(|errno| refused(errno, bytes))
    }

    unsafe fn alias(
        &self,
        extent: &Extent,
        from: Range<usize>,
        to: usize,
    ) -> Result<(), BackingError> {
        let bytes = from.len();
        // SAFETY: the caller's promise.
        let at = unsafe { Self::at(extent, &(to..to + bytes)) };
        let offset = Self::file_offset(extent) + from.start as u64;
        let file = Some((&self.file, offset));
        // SAFETY: pages of our extent whose contents nobody needs are replaced.
        unsafe { map(Some(at), bytes, Protection::ReadWrite, libc::MAP_SHARED, file) }
            .map(drop)
            .map_err(|errno| refused(errno, bytes))
    }

    unsafe fn bind(
        &self,
        extent: &Extent,
        range: Range<usize>,
        policy: NodePolicy,
    ) -> Result<(), BackingError> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) };
        // SAFETY: whole pages of ours; a policy changes no contents.
        unsafe { bind(start, range.len(), policy) }.map_err(|errno| refused(errno, range.len()))
    }

    unsafe fn resident_bytes(&self, extent: &Extent, range: Range<usize>) -> Option<usize> {
        // SAFETY: the caller's promise.
        let start = unsafe { Self::at(extent, &range) }.as_ptr().addr();
        resident_bytes(start, range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{FilePages, FilePagesError};
    use crate::{Fd, page_bytes};
    use core::alloc::Layout;
    use heapwright_core::backing::{Backing, BackingError, Purge, Purged};

    fn layout(pages: usize) -> Layout {
        Layout::from_size_align(pages * page_bytes(), 1).expect("a layout")
    }

    #[test]
    fn shared_memory_is_committed_aliased_purged_and_released() {
        let page = page_bytes();
        let memory = FilePages::shared(c"heapwright-test").expect("memfd");
        let first = memory.reserve(layout(1)).expect("addresses");
        let extent = memory.reserve(layout(4)).expect("addresses");
        assert_eq!(FilePages::file_offset(&extent), page as u64);
        // SAFETY: inside the extent.
        unsafe { memory.commit(&extent, 0..4 * page) }.expect("blocks");
        // SAFETY: committed.
        unsafe { extent.start.write(42) };
        // SAFETY: both inside, committed, apart; nobody holds references.
        unsafe { memory.alias(&extent, 0..page, 2 * page) }.expect("alias");
        // SAFETY: inside the extent, here and below.
        let third = unsafe { extent.start.add(2 * page) };
        // SAFETY: committed.
        assert_eq!(unsafe { third.read() }, 42);
        // SAFETY: as above.
        unsafe { third.write(43) };
        // SAFETY: as above.
        assert_eq!(unsafe { extent.start.read() }, 43, "one page at two addresses");
        // SAFETY: the contents are not needed.
        let purged = unsafe { memory.purge(&extent, 0..page, Purge::Now) };
        assert_eq!(purged, Ok(Purged::Zeroed));
        // SAFETY: still committed.
        assert_eq!(unsafe { extent.start.read() }, 0);
        // SAFETY: nobody uses it.
        unsafe { memory.decommit(&extent, 3 * page..4 * page) }.expect("decommit");
        assert!(!crate::is_readable(extent.start.as_ptr().addr() + 3 * page));
        for extent in [first, extent] {
            // SAFETY: given back once, unused.
            unsafe { memory.release(extent) };
        }
    }

    #[test]
    fn alignment_is_kept_and_a_cut_file_is_told() {
        let page = page_bytes();
        let memory = FilePages::shared(c"heapwright-test").expect("memfd");
        let wide = Layout::from_size_align(2 * page, 64 * page).expect("a layout");
        let extent = memory.reserve(wide).expect("addresses");
        assert!(extent.start.as_ptr().addr().is_multiple_of(64 * page));
        // SAFETY: inside the extent.
        unsafe { memory.commit(&extent, 0..page) }.expect("blocks");
        memory.check().expect("as long as it was made");
        memory.file().set_bytes(100).expect("cut");
        let told = BackingError::Truncated { expected_bytes: page as u64, file_bytes: 100 };
        assert_eq!(memory.check(), Err(told));
        // SAFETY: inside the extent.
        let refused = unsafe { memory.commit(&extent, page..2 * page) };
        assert_eq!(refused, Err(told));
        // SAFETY: given back once, unused.
        unsafe { memory.release(extent) };
    }

    #[test]
    fn a_file_with_something_in_it_is_left_alone() {
        let file = Fd::shared_memory(c"heapwright-test").expect("memfd");
        file.set_bytes(10).expect("a length");
        let refused = FilePages::of(file).map(drop);
        assert_eq!(refused, Err(FilePagesError::NotEmpty { file_bytes: 10 }));
        let path = c"/tmp";
        if let Ok(memory) = FilePages::temporary(path) {
            let extent = memory.reserve(layout(1)).expect("addresses");
            // SAFETY: inside the extent.
            unsafe { memory.commit(&extent, 0..page_bytes()) }.expect("blocks");
            // SAFETY: committed.
            unsafe { extent.start.write(1) };
            // SAFETY: given back once, unused.
            unsafe { memory.release(extent) };
        }
    }
}

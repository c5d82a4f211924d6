//! Address space: reserve, commit, protect, advise, give back.
//!
//! Source for the advice values: madvise(2), Linux 6.x.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::syscall::{syscall3, syscall6};
use crate::{Errno, Fd};

/// What a mapping may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// No access: address space only.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

impl Protection {
    pub(crate) fn bits(self) -> usize {
        (match self {
            Self::None => libc::PROT_NONE,
            Self::Read => libc::PROT_READ,
            Self::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }) as usize
    }
}

/// Advice to the kernel about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The contents are dead; the pages go back now and read as zero afterwards.
    DontNeed,
    /// The contents are dead; the kernel takes the pages when it wants them.
    Free,
    /// Huge pages wanted.
    HugePage,
    /// Huge pages not wanted.
    NoHugePage,
    /// A child after fork sees zeroes here (anonymous private memory only).
    WipeOnFork,
    /// A child after fork does not have this range at all.
    DontFork,
    /// Not part of a core dump.
    DontDump,
    /// Memory for all pages now, as if each had been written to (Linux 5.14).
    Populate,
}

impl Advice {
    fn value(self) -> usize {
        (match self {
            Self::DontNeed => libc::MADV_DONTNEED,
            Self::Free => libc::MADV_FREE,
            Self::HugePage => libc::MADV_HUGEPAGE,
            Self::NoHugePage => libc::MADV_NOHUGEPAGE,
            Self::WipeOnFork => libc::MADV_WIPEONFORK,
            Self::DontFork => libc::MADV_DONTFORK,
            Self::DontDump => libc::MADV_DONTDUMP,
            Self::Populate => libc::MADV_POPULATE_WRITE,
        }) as usize
    }
}

/// Live mappings made through this crate; mappings are a budget (`vm.max_map_count`).
static MAPPING_COUNT: AtomicUsize = AtomicUsize::new(0);
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// How many mappings made through this crate exist now. A quick estimate: the kernel merges
/// neighbours, and what splits one (guards by protection, aliases, partial commit) is not counted;
/// [`crate::mappings_now`] counts them all.
pub fn mapping_count() -> usize {
    MAPPING_COUNT.load(Ordering::Relaxed)
}

/// The kernel's page size in bytes, read at run time from the auxiliary vector.
#[inline]
pub fn page_bytes() -> usize {
    let known = PAGE_BYTES.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let bytes = crate::raw_auxv(libc::AT_PAGESZ).unwrap_or(4096);
    PAGE_BYTES.store(bytes, Ordering::Relaxed);
    bytes
}

/// Maps `bytes` of anonymous private address space with `protection`, without reserving swap.
///
/// O(1); touches no memory. The address is a multiple of the page size.
///
/// # Errors
/// The kernel's: `ENOMEM` when the address space, the limit or the mappings are used up.
pub fn reserve(bytes: usize, protection: Protection) -> Result<NonNull<u8>, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: no address is given, so nothing is replaced.
    unsafe { map(None, bytes, protection, flags, None) }
}

/// Maps `bytes` with the kernel's `flags`, of a file from an offset or of none; at `at`, in place
/// of what is there, or where the kernel likes.
///
/// # Safety
/// - If `at` is given, the range there is whole pages of a mapping that the caller owns, and
///   nobody needs what it holds.
///
/// # Errors
/// The kernel's; nothing has changed then.
pub(crate) unsafe fn map(
    at: Option<NonNull<u8>>,
    bytes: usize,
    protection: Protection,
    flags: i32,
    file: Option<(&Fd, u64)>,
) -> Result<NonNull<u8>, Errno> {
    let fixed = if at.is_some() { libc::MAP_FIXED } else { 0 };
    let start = at.map_or(0, |start| start.as_ptr().expose_provenance());
    let (fd, offset) =
        file.map_or((usize::MAX, 0), |(file, offset)| (file.raw() as usize, offset as usize));
    let args = [start, bytes, protection.bits(), (flags | fixed) as usize, fd, offset];
    // SAFETY: a fresh mapping overlaps nothing, and what a fixed one replaces is the caller's.
    let address = unsafe { syscall6(libc::SYS_mmap, args) }?;
    if at.is_none() {
        MAPPING_COUNT.fetch_add(1, Ordering::Relaxed);
    }
    NonNull::new(core::ptr::with_exposed_provenance_mut(address)).ok_or(Errno::ENOMEM)
}

/// Makes `bytes` from `start` readable and writable.
///
/// # Safety
/// - The range is whole pages of a mapping that the caller owns.
///
/// # Errors
/// The kernel's, `ENOMEM` above all; nothing has changed then.
pub unsafe fn commit(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { protect(start, bytes, Protection::ReadWrite) }
}

/// Changes the protection of `bytes` from `start`.
///
/// # Safety
/// - The range is whole pages of a mapping that the caller owns, and nobody relies on an access
///   that `protection` takes away.
///
/// # Errors
/// The kernel's.
pub unsafe fn protect(
    start: NonNull<u8>,
    bytes: usize,
    protection: Protection,
) -> Result<(), Errno> {
    // SAFETY: the caller owns the range and gives up what the protection forbids.
    unsafe {
        syscall3(libc::SYS_mprotect, start.as_ptr().expose_provenance(), bytes, protection.bits())
    }
    .map(drop)
}

/// Advises the kernel about `bytes` from `start`.
///
/// # Safety
/// - The range is whole pages of a mapping that the caller owns.
/// - For [`Advice::DontNeed`] and [`Advice::Free`] nobody needs the contents any more.
///
/// # Errors
/// The kernel's; `EINVAL` for advice that it does not know.
pub unsafe fn advise(start: NonNull<u8>, bytes: usize, advice: Advice) -> Result<(), Errno> {
    // SAFETY: the caller owns the range and gives up the contents where the advice says so.
    unsafe {
        syscall3(libc::SYS_madvise, start.as_ptr().expose_provenance(), bytes, advice.value())
    }
    .map(drop)
}

/// [`advise`] with a value of the kernel's that [`Advice`] does not name.
///
/// # Safety
/// - As for [`advise`]; and what the advice does to the range is all right for whoever uses it.
///
/// # Errors
/// The kernel's.
pub(crate) unsafe fn advise_raw(
    start: NonNull<u8>,
    bytes: usize,
    value: usize,
) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall3(libc::SYS_madvise, start.as_ptr().expose_provenance(), bytes, value) }
        .map(drop)
}

/// Sets the NUMA policy of `bytes` from `start`; bit `n` of `nodes` is node `n`.
///
/// # Safety
/// - The range is whole pages of a mapping that the caller owns.
///
/// # Errors
/// The kernel's: `EINVAL` for nodes that are not there, `ENOSYS` without NUMA.
pub(crate) unsafe fn bind_raw(
    start: NonNull<u8>,
    bytes: usize,
    mode: i32,
    nodes: u64,
) -> Result<(), Errno> {
    // The kernel reads one bit less than it is told.
    let (mask, bits) =
        if nodes == 0 { (0, 0) } else { ((&raw const nodes).expose_provenance(), 65) };
    let start = start.as_ptr().expose_provenance();
    // SAFETY: the kernel reads the mask, one word, and changes no contents of the range.
    unsafe { syscall6(libc::SYS_mbind, [start, bytes, mode as usize, mask, bits, 0]) }.map(drop)
}

/// Unmaps `bytes` from `start`.
///
/// # Safety
/// - The range is whole pages of mappings that the caller owns and nobody uses any more.
///
/// # Errors
/// The kernel's: `ENOMEM` when cutting a mapping in two would exceed the count of mappings.
pub unsafe fn release(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the caller owns the range and gives it up.
    unsafe { syscall3(libc::SYS_munmap, start.as_ptr().expose_provenance(), bytes, 0) }?;
    MAPPING_COUNT.fetch_sub(1, Ordering::Relaxed);
    Ok(())
}

/// Unmaps an end of a mapping that stays; the count of mappings does, too.
///
/// # Safety
/// - As for [`release`].
///
/// # Errors
/// As there.
pub(crate) unsafe fn trim(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the caller owns the range and gives it up.
    unsafe { syscall3(libc::SYS_munmap, start.as_ptr().expose_provenance(), bytes, 0) }.map(drop)
}

/// Resizes a mapping from `old_bytes` to `new_bytes`, moving it when `may_move`.
///
/// O(pages) of page-table work, no copying of contents.
///
/// # Safety
/// - The range is one whole mapping that the caller owns; after a move nobody uses the old
///   addresses.
///
/// # Errors
/// The kernel's; the mapping is then as before.
pub unsafe fn remap(
    start: NonNull<u8>,
    old_bytes: usize,
    new_bytes: usize,
    may_move: bool,
) -> Result<NonNull<u8>, Errno> {
    let flags = if may_move { libc::MREMAP_MAYMOVE as usize } else { 0 };
    // SAFETY: the caller owns the mapping and accepts the move.
    let address = unsafe {
        syscall6(
            libc::SYS_mremap,
            [start.as_ptr().expose_provenance(), old_bytes, new_bytes, flags, 0, 0],
        )
    }?;
    let pointer = core::ptr::with_exposed_provenance_mut::<u8>(address);
    NonNull::new(pointer).ok_or(Errno::ENOMEM)
}

/// Moves the pages of `bytes` from `from` to `to`, in place of what was there; the old range stays
/// mapped and reads as zero.
///
/// O(pages) of page-table work, no copying. Costs up to four mappings of the budget, since the
/// moved range no longer merges with its neighbours.
///
/// # Safety
/// - Both ranges are whole pages of anonymous private mappings with the same protection that the
///   caller owns; they do not overlap; nobody needs the contents at `to`, and nobody relies on
///   those at `from` afterwards.
///
/// # Errors
/// The kernel's: `EINVAL` before Linux 5.7; nothing has changed then.
pub unsafe fn move_pages(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    // Not in every libc's list yet; the value is the kernel's.
    const MREMAP_DONTUNMAP: usize = 4;
    let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as usize | MREMAP_DONTUNMAP;
    let from = from.as_ptr().expose_provenance();
    let to = to.as_ptr().expose_provenance();
    // SAFETY: the caller's promise about both ranges.
    unsafe { syscall6(libc::SYS_mremap, [from, bytes, bytes, flags, to, 0]) }.map(drop)
}

/// Tells for each page from `start` whether it is resident: bit 0 of one byte a page.
///
/// # Errors
/// The kernel's: `ENOMEM` when a page of the range is not mapped, `EINVAL` when `start` is not a
/// multiple of the page size.
pub fn mincore(start: usize, pages: &mut [u8]) -> Result<(), Errno> {
    let bytes = pages.len() * page_bytes();
    // SAFETY: the kernel writes one byte a page into `pages`, which is as long; the range itself
    // is only looked at.
    unsafe { syscall3(libc::SYS_mincore, start, bytes, pages.as_mut_ptr().expose_provenance()) }
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::{Advice, Protection, advise, commit, mincore, page_bytes, release, reserve};

    #[test]
    fn a_reserved_range_is_committed_purged_and_released() {
        let page = page_bytes();
        let start = reserve(4 * page, Protection::None).expect("address space");
        // SAFETY: the mapping made above, nobody else knows it.
        unsafe { commit(start, 2 * page) }.expect("commit");
        // SAFETY: committed above, two pages long.
        unsafe { start.write_bytes(7, 2 * page) };
        let mut resident = [0u8; 2];
        mincore(start.as_ptr().addr(), &mut resident).expect("mapped");
        assert_eq!(resident.map(|byte| byte & 1), [1, 1]);
        // SAFETY: the contents are not needed any more.
        unsafe { advise(start, page, Advice::DontNeed) }.expect("purge");
        // SAFETY: still committed; the kernel gives a zero page.
        assert_eq!(unsafe { start.read() }, 0);
        // SAFETY: the whole mapping, unused from here on.
        unsafe { release(start, 4 * page) }.expect("release");
    }
}

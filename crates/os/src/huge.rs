//! Huge pages: asking for them, making them, and finding out what one really got.
//!
//! Source: madvise(2), mmap(2), the kernel's Documentation/admin-guide/mm/{transhuge,hugetlbpage}.rst.

use core::ffi::CStr;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use crate::memory::{Advice, advise, advise_raw, map};
use crate::page_scan::{HUGE, PRESENT, open_pagemap, scan};
use crate::pseudo_file::{PathText, parse_number, read_number, read_text};
use crate::{Errno, Fd, OpenFlags, Protection};

/// `MADV_COLLAPSE` of Linux 6.1.
const COLLAPSE: usize = 25;
/// What x86_64 and most kernels of aarch64 have.
const TRANSPARENT_BYTES_USUAL: usize = 2 << 20;

/// An explicit huge page: of the pool that the administrator set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePage {
    /// 2 MiB.
    Mib2,
    /// 1 GiB.
    Gib1,
}

impl HugePage {
    /// Its size in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Mib2 => 2 << 20,
            Self::Gib1 => 1 << 30,
        }
    }
}

/// The size of the huge pages that the kernel makes of ordinary memory, in bytes: 2 MiB on x86_64.
pub fn transparent_huge_page_bytes() -> usize {
    read_number(c"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|bytes| bytes.is_power_of_two())
        .unwrap_or(TRANSPARENT_BYTES_USUAL)
}

/// Whether the machine's setting lets a program ask for huge pages. Read once.
pub(crate) fn offers_huge_pages() -> bool {
    const UNREAD: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    static OFFERED: AtomicU8 = AtomicU8::new(UNREAD);
    // Relaxed: whoever comes first writes what all would.
    match OFFERED.load(Ordering::Relaxed) {
        UNREAD => {
            let offers = reads_as_offered(c"/sys/kernel/mm/transparent_hugepage/enabled");
            OFFERED.store(if offers { YES } else { NO }, Ordering::Relaxed);
            offers
        }
        known => known == YES,
    }
}

/// The setting in force is the one in brackets: `always [madvise] never`.
fn reads_as_offered(setting: &CStr) -> bool {
    let mut buffer = [0; 64];
    read_text(setting, &mut buffer)
        .is_some_and(|text| [&b"[always]"[..], b"[madvise]"].iter().any(|one| has(text, one)))
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// How many pages of that size the pool has left; none where there is no such pool.
pub fn free_huge_pages(page: HugePage) -> Option<u64> {
    let kib = (page.bytes() / 1024) as u64;
    let path = PathText::numbered("/sys/kernel/mm/hugepages/hugepages-", kib, "kB/free_hugepages");
    read_number(path.as_c())
}

/// Asks for huge pages in a range that is not touched yet; the kernel gives them as it likes.
///
/// # Safety
/// - The range is whole OS pages of a mapping that the caller owns.
///
/// # Errors
/// The kernel's: `EINVAL` where it has none.
pub unsafe fn advise_huge(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise; no contents change.
    unsafe { advise(start, bytes, Advice::HugePage) }
}

/// Makes huge pages now of what lies in `bytes` from `start`, as far as it is aligned for them.
/// Copies: some 0.7 ms a huge page. Works for anonymous and shared memory.
///
/// # Safety
/// - The range is whole OS pages of a mapping that the caller owns.
///
/// # Errors
/// The kernel's: `EINVAL` before Linux 6.1 and where nothing is aligned, `ENOMEM` or `EAGAIN` when
/// it finds no free one; part of the range may be huge then.
pub unsafe fn collapse(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise; no contents change.
    unsafe { advise_raw(start, bytes, COLLAPSE) }
}

/// Maps `bytes` (rounded up to whole pages) of explicit huge pages, readable and writable, zero.
/// They are taken from the pool at once, so touching them later cannot fail.
///
/// # Errors
/// `ENOMEM` when the pool has not enough: see [`free_huge_pages`]; `EINVAL` for a size that the
/// machine lacks.
pub fn map_huge(bytes: usize, page: HugePage) -> Result<NonNull<u8>, Errno> {
    let size = match page {
        HugePage::Mib2 => libc::MAP_HUGE_2MB,
        HugePage::Gib1 => libc::MAP_HUGE_1GB,
    };
    let bytes = bytes.checked_next_multiple_of(page.bytes()).ok_or(Errno::ENOMEM)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | size;
    // SAFETY: no address is given, so nothing is replaced.
    unsafe { map(None, bytes, Protection::ReadWrite, flags, None) }
}

/// How many of `bytes` from `start` lie in huge pages now, of either kind.
///
/// Exact from Linux 6.7; before it the figure is that of the mappings that the range touches, so
/// at most the range's length and perhaps a neighbour's. None where the kernel does not say.
pub fn huge_bytes(start: NonNull<u8>, bytes: usize) -> Option<usize> {
    let first = start.as_ptr().addr();
    let range = first..first + bytes;
    let mut huge = 0;
    let asked = open_pagemap().and_then(|pagemap| {
        scan(&pagemap, range.clone(), HUGE | PRESENT, false, |piece| huge += piece.len())
    });
    match asked {
        Ok(()) => Some(huge),
        Err(_) => huge_bytes_of_mappings(range).map(|seen| seen.min(bytes)),
    }
}

/// Sum of the fields of `/proc/self/smaps` that count huge pages, over mappings that overlap.
fn huge_bytes_of_mappings(range: core::ops::Range<usize>) -> Option<usize> {
    const FIELDS: [&[u8]; 4] =
        [b"AnonHugePages:", b"ShmemPmdMapped:", b"Private_Hugetlb:", b"Shared_Hugetlb:"];
    let file = Fd::open(c"/proc/self/smaps", OpenFlags::Read).ok()?;
    let (mut inside, mut huge_kib) = (false, 0);
    each_line(&file, |line| {
        if let Some(mapping) = mapping_of(line) {
            inside = mapping.start < range.end && range.start < mapping.end;
        } else if inside {
            let value = FIELDS.iter().find_map(|field| line.strip_prefix(*field));
            huge_kib += value.and_then(parse_number).map_or(0, |(kib, _)| kib);
        }
    })?;
    usize::try_from(huge_kib * 1024).ok()
}

/// The addresses that a line as `7f00-7f10 rw-p ...` begins with.
fn mapping_of(line: &[u8]) -> Option<core::ops::Range<usize>> {
    let dash = line.iter().position(|byte| *byte == b'-')?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    let hex = |text: &[u8]| usize::from_str_radix(core::str::from_utf8(text).ok()?, 16).ok();
    Some(hex(line.get(..dash)?)?..hex(line.get(dash + 1..space)?)?)
}

/// Calls `each` with every line, cut to the buffer.
fn each_line(file: &Fd, mut each: impl FnMut(&[u8])) -> Option<()> {
    let mut buffer = [0; 4096];
    let mut length = 0;
    loop {
        let more = file.read(&mut buffer[length..]).ok()?;
        length += more;
        let mut done = 0;
        while let Some(end) = buffer[done..length].iter().position(|byte| *byte == b'\n') {
            each(&buffer[done..done + end]);
            done += end + 1;
        }
        if done == 0 && length == buffer.len() {
            // No line of ours is that long; a path may be.
            each(&buffer);
            done = length;
        }
        buffer.copy_within(done..length, 0);
        length -= done;
        if more == 0 {
            return Some(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        HugePage, collapse, free_huge_pages, huge_bytes, huge_bytes_of_mappings, map_huge,
        mapping_of, transparent_huge_page_bytes,
    };
    use crate::{Protection, release, reserve};

    #[test]
    fn a_line_of_smaps_is_told_from_a_field() {
        assert_eq!(mapping_of(b"1000-3000 rw-p 0 00:00 0"), Some(0x1000..0x3000));
        assert_eq!(mapping_of(b"AnonHugePages:      2048 kB"), None);
    }

    #[test]
    fn what_was_collapsed_is_said_to_be_huge() {
        let huge = transparent_huge_page_bytes();
        let start = reserve(2 * huge, Protection::ReadWrite).expect("address space");
        let lead = start.as_ptr().addr().wrapping_neg() & (huge - 1);
        // SAFETY: inside the mapping, which is two huge pages long.
        let aligned = unsafe { start.add(lead) };
        // SAFETY: a huge page of it.
        unsafe { aligned.write_bytes(1, huge) };
        let before = huge_bytes(aligned, huge);
        // SAFETY: a mapping of ours.
        if unsafe { collapse(aligned, huge) }.is_ok() {
            assert_eq!(huge_bytes(aligned, huge), Some(huge), "{before:?} before");
            let from = aligned.as_ptr().addr();
            let seen = huge_bytes_of_mappings(from..from + huge).expect("smaps is there");
            assert!(seen >= huge, "the older way says {seen}");
            // SAFETY: a byte of the huge page.
            let last = unsafe { aligned.add(huge - 1) };
            // SAFETY: still there.
            assert_eq!(unsafe { last.read() }, 1);
        }
        // SAFETY: the whole mapping, unused.
        unsafe { release(start, 2 * huge) }.expect("release");
    }

    #[test]
    fn an_empty_pool_is_an_error() {
        for page in [HugePage::Mib2, HugePage::Gib1] {
            let free = free_huge_pages(page).unwrap_or(0);
            let mapped = map_huge(1, page);
            assert!(mapped.is_err() || free > 0, "{free} free pages of {page:?}");
            if let Ok(start) = mapped {
                assert_eq!(
                    huge_bytes(start, page.bytes()).map(|seen| seen % page.bytes()),
                    Some(0)
                );
                // SAFETY: the whole mapping, unused.
                unsafe { release(start, page.bytes()) }.expect("release");
            }
        }
    }
}

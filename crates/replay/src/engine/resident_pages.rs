//! Which pages of the own address space are resident, and count as the process's own: anonymous
//! memory, and shared memory without a file on a disk. Nothing here allocates.
//!
//! Source: the kernel's Documentation/admin-guide/mm/pagemap.rst and proc_pid_maps(5).
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use heapwright_os::ResidentPages;

/// Bits of an entry of the page map.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// A page of a file or of shared memory, not an anonymous one.
const SHARED: u64 = 1 << 61;

/// Entries read at once.
const ENTRIES: usize = 1024;
/// Longest line of the list of mappings: paths have up to 4096 bytes.
const LINE_BYTES_MAX: usize = 4608;
/// What shared memory without a file on a disk is called in that list.
const SHARED_MEMORY: [&[u8]; 5] = [b"/memfd:", b"/dev/zero", b"/SYSV", b"/dev/shm/", b"/anon_huge"];

/// Resident pages in a row. The inode is 0 for anonymous memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResidentRun {
    pub(super) start: usize,
    pub(super) pages: usize,
    pub(super) inode: u64,
    pub(super) device: u64,
    pub(super) file_page: u64,
}

/// A line of the list of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapped {
    start: usize,
    end: usize,
    is_shared: bool,
    offset: u64,
    device: u64,
    inode: u64,
    is_shared_memory: bool,
}

/// Calls `each` with all runs, by ascending address. O(resident pages); before Linux 6.7 O(mapped
/// pages), some ns each.
///
/// # Errors
/// What reading `/proc/self/maps` and `/proc/self/pagemap` gives.
pub(super) fn for_each_run(page_bytes: usize, mut each: impl FnMut(ResidentRun)) -> io::Result<()> {
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut scanner = ResidentPages::open().ok();
    let mut maps = File::open("/proc/self/maps")?;
    let mut buffer = [0; 2 * LINE_BYTES_MAX];
    let mut filled = 0;
    loop {
        let read = maps.read(&mut buffer[filled..])?;
        filled += read;
        let mut taken = 0;
        while let Some(length) = buffer[taken..filled].iter().position(|&byte| byte == b'\n') {
            if let Some(mapped) = parse(&buffer[taken..taken + length]) {
                // A kernel that cannot scan says so at the first range.
                let scanned = scanner
                    .as_ref()
                    .is_some_and(|scanner| scan(scanner, &mapped, page_bytes, &mut each));
                if !scanned {
                    scanner = None;
                    runs_of(&pagemap, &mapped, page_bytes, &mut each)?;
                }
            }
            taken += length + 1;
        }
        if taken == 0 && filled == buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a mapping's line is too long"));
        }
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
        if read == 0 {
            return Ok(());
        }
    }
}

/// By the kernel's own scan, which leaves out at once what was never touched; whether it can.
fn scan(
    scanner: &ResidentPages,
    mapped: &Mapped,
    page_bytes: usize,
    each: &mut impl FnMut(ResidentRun),
) -> bool {
    if mapped.is_disk_file() {
        return true;
    }
    let told = scanner.for_each(mapped.start..mapped.end, |range, is_of_file| {
        if mapped.is_shared || !is_of_file {
            let mut run = mapped.run_at(range.start / page_bytes, page_bytes);
            run.pages = range.len() / page_bytes;
            each(run);
        }
    });
    told.is_ok()
}

/// By the table of pages, an entry each.
fn runs_of(
    pagemap: &File,
    mapped: &Mapped,
    page_bytes: usize,
    each: &mut impl FnMut(ResidentRun),
) -> io::Result<()> {
    if mapped.is_disk_file() {
        return Ok(());
    }
    let (first, end) = (mapped.start / page_bytes, mapped.end / page_bytes);
    let mut bytes = [0; 8 * ENTRIES];
    let mut run: Option<ResidentRun> = None;
    let mut page = first;
    while page < end {
        let wanted = (end - page).min(ENTRIES);
        let read = pagemap.read_at(&mut bytes[..8 * wanted], 8 * page as u64)?;
        if read < 8 {
            // Beyond what the kernel tells of (the last page of x86's system calls).
            break;
        }
        for entry in bytes[..read].as_chunks::<8>().0 {
            let entry = u64::from_ne_bytes(*entry);
            let is_resident = entry & (PRESENT | SWAPPED) != 0;
            let counts = is_resident && (mapped.is_shared || entry & SHARED == 0);
            match (&mut run, counts) {
                (Some(run), true) => run.pages += 1,
                (None, true) => run = Some(mapped.run_at(page, page_bytes)),
                (_, false) => run.take().into_iter().for_each(&mut *each),
            }
            page += 1;
        }
    }
    run.into_iter().for_each(each);
    Ok(())
}

impl Mapped {
    fn is_disk_file(&self) -> bool {
        self.is_shared && !self.is_shared_memory
    }

    fn run_at(&self, page: usize, page_bytes: usize) -> ResidentRun {
        let start = page * page_bytes;
        let (inode, device) = if self.is_shared { (self.inode, self.device) } else { (0, 0) };
        let file_page = (self.offset + (start - self.start) as u64) / page_bytes as u64;
        ResidentRun { start, pages: 1, inode, device, file_page }
    }
}

/// `7f00-7f10 rw-p 00001000 00:01 1234   /memfd:name (deleted)`
fn parse(line: &[u8]) -> Option<Mapped> {
    let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let mut ends = fields.next()?.splitn(2, |&byte| byte == b'-');
    let start = hexadecimal(ends.next()?)? as usize;
    let end = hexadecimal(ends.next()?)? as usize;
    let is_shared = fields.next()?.get(3) == Some(&b's');
    let offset = hexadecimal(fields.next()?)?;
    let mut device = fields.next()?.splitn(2, |&byte| byte == b':');
    let device = hexadecimal(device.next()?)? << 32 | hexadecimal(device.next()?)?;
    let inode = fields.next()?.iter().try_fold(0u64, |sum, &digit| {
        let digit = char::from(digit).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    let path = fields.next().unwrap_or_default();
    let is_shared_memory = SHARED_MEMORY.iter().any(|name| path.starts_with(name));
    Some(Mapped { start, end, is_shared, offset, device, inode, is_shared_memory })
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        (sum >> 60 == 0).then_some(sum << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::{Mapped, ResidentRun, for_each_run, parse, runs_of, scan};

    #[test]
    fn a_line_is_taken_apart() {
        let line = b"7f00a000-7f00c000 rw-s 00003000 00:1f 77  /memfd:x y (deleted)";
        let expected = Mapped {
            start: 0x7f00_a000,
            end: 0x7f00_c000,
            is_shared: true,
            offset: 0x3000,
            device: 0x1f,
            inode: 77,
            is_shared_memory: true,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b"nonsense"), None);
    }

    #[test]
    fn written_pages_are_found_and_others_are_not() {
        let page_bytes = heapwright_os::page_bytes();
        let mut memory = vec![0u8; 64 * page_bytes];
        let first = memory.as_ptr().addr().next_multiple_of(page_bytes);
        let offset = first - memory.as_ptr().addr();
        for page in [3, 4, 5, 9] {
            memory[offset + page * page_bytes] = 1;
        }
        let mut found = Vec::new();
        for_each_run(page_bytes, |run| {
            for page in 0..run.pages {
                let place = run.start + page * page_bytes;
                if (first..first + 60 * page_bytes).contains(&place) {
                    found.push((place - first) / page_bytes);
                }
            }
        })
        .expect("a /proc");
        for page in [3, 4, 5, 9] {
            assert!(found.contains(&page), "{found:?}");
        }
        std::hint::black_box(memory);
    }

    #[test]
    fn scan_and_table_agree() {
        let page_bytes = heapwright_os::page_bytes();
        let mut memory = vec![0u8; 3000 * page_bytes];
        let start = memory.as_ptr().addr().next_multiple_of(page_bytes);
        let offset = start - memory.as_ptr().addr();
        (0..2900)
            .filter(|page| page % 7 < 3)
            .for_each(|page| memory[offset + page * page_bytes] = 1);
        let mapped = Mapped {
            start,
            end: start + 2900 * page_bytes,
            is_shared: false,
            offset: 0,
            device: 0,
            inode: 0,
            is_shared_memory: false,
        };
        let pagemap = std::fs::File::open("/proc/self/pagemap").expect("a /proc");
        let mut by_table: Vec<ResidentRun> = Vec::new();
        runs_of(&pagemap, &mapped, page_bytes, &mut |run| by_table.push(run)).expect("a table");
        assert!(by_table.len() >= 400, "{}", by_table.len());
        let scanner = heapwright_os::ResidentPages::open().expect("a /proc");
        let mut by_scan: Vec<ResidentRun> = Vec::new();
        if scan(&scanner, &mapped, page_bytes, &mut |run| by_scan.push(run)) {
            assert_eq!(by_scan, by_table);
        } else {
            println!("this kernel cannot scan: not compared");
        }
        std::hint::black_box(memory);
    }
}

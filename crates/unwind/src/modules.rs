//! Which modules lie where: read from `/proc/self/maps` and the modules' own headers.
//!
//! The loader is not asked: its list stands under a lock that another thread may hold while it
//! allocates and waits for us.

use heapwright_os::{Fd, OpenFlags};

use crate::eh_frame::UnwindTable;
use crate::elf::Image;
use crate::maps::MapLine;

const MODULE_COUNT_MAX: usize = 1024;
const PATH_BYTES_MAX: usize = 128 << 10;
const CODE_COUNT_MAX: usize = 512;
/// A path has at most 4096 bytes, the fields before it some 75.
const LINE_BYTES_MAX: usize = 8192;
/// Addresses from here on belong to the kernel (the vsyscall page).
const ADDRESS_LIMIT: usize = 1 << 47;

/// A loaded file with code: the program, a shared object, the kernel's vdso.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Lowest address.
    pub start: usize,
    /// End of the highest segment.
    pub end: usize,
    /// Address in this process minus the address that the file gives (0 when not relocated).
    pub bias: usize,
    /// The file's path as the kernel has it, `[vdso]` for the kernel's own.
    pub path: &'a [u8],
    /// The GNU build id, empty when there is none.
    pub build_id: &'a [u8],
}

#[derive(Clone, Copy)]
struct Entry {
    image: Image,
    table: UnwindTable,
    path_start: usize,
    path_bytes: usize,
}

const NO_ENTRY: Entry =
    Entry { image: Image::NONE, table: UnwindTable::NONE, path_start: 0, path_bytes: 0 };

/// A range of executable memory that no file explains.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CodeRange {
    start: usize,
    end: usize,
}

/// What lies at an address.
pub(crate) enum Place {
    /// A module, with its unwind table, which may be empty.
    Module(UnwindTable),
    /// Executable memory without a file.
    Code,
    /// Nothing that is known to be code.
    Nothing,
}

/// All modules at one time, sorted by address. Empty it is all zeroes, so that it takes no room
/// in the program's file.
pub(crate) struct ModuleTable {
    entries: [Entry; MODULE_COUNT_MAX],
    count: usize,
    paths: [u8; PATH_BYTES_MAX],
    path_bytes: usize,
    code: [CodeRange; CODE_COUNT_MAX],
    code_count: usize,
    /// Whether the last entry may be only a file that the program maps to read it.
    in_doubt: bool,
}

impl ModuleTable {
    pub(crate) const fn new() -> Self {
        Self {
            entries: [NO_ENTRY; MODULE_COUNT_MAX],
            count: 0,
            paths: [0; PATH_BYTES_MAX],
            path_bytes: 0,
            code: [CodeRange { start: 0, end: 0 }; CODE_COUNT_MAX],
            code_count: 0,
            in_doubt: false,
        }
    }

    fn entries(&self) -> &[Entry] {
        &self.entries[..self.count]
    }

    fn last(&self) -> Option<Entry> {
        self.entries().last().copied()
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = Module<'_>> {
        self.entries().iter().map(|entry| self.module(entry))
    }

    fn module<'a>(&'a self, entry: &'a Entry) -> Module<'a> {
        Module {
            start: entry.image.start,
            end: entry.image.end,
            bias: entry.image.bias,
            path: &self.paths[entry.path_start..entry.path_start + entry.path_bytes],
            build_id: &entry.image.build_id[..entry.image.build_id_bytes],
        }
    }

    /// What lies at `address`; O(log modules).
    pub(crate) fn place(&self, address: usize) -> Place {
        let entries = self.entries();
        let after = entries.partition_point(|entry| entry.image.start <= address);
        if let Some(entry) = after.checked_sub(1).map(|index| &entries[index])
            && address < entry.image.end
        {
            return Place::Module(entry.table);
        }
        let code = &self.code[..self.code_count];
        let after = code.partition_point(|range| range.start <= address);
        let known = after.checked_sub(1).is_some_and(|index| address < code[index].end);
        if known { Place::Code } else { Place::Nothing }
    }

    /// Whether every module of `self` is also one of `newer`, at the same place.
    pub(crate) fn is_kept_by(&self, newer: &Self) -> bool {
        let mut candidates = newer.modules();
        self.modules().all(|module| candidates.any(|candidate| candidate == module))
    }

    /// Whether both know the same executable ranges without files.
    pub(crate) fn same_code(&self, other: &Self) -> bool {
        self.code[..self.code_count] == other.code[..other.code_count]
    }

    /// Reads the process's mappings anew; false when they cannot be read.
    ///
    /// Some 20 to 100 us.
    ///
    /// # Safety
    /// - No module is unloaded during the call.
    pub(crate) unsafe fn read(&mut self, buffer: &mut LineBuffer) -> bool {
        self.count = 0;
        self.path_bytes = 0;
        self.code_count = 0;
        self.in_doubt = false;
        let Ok(file) = Fd::open(c"/proc/self/maps", OpenFlags::Read) else { return false };
        buffer.for_each_line(&file, |line| {
            if let Some(line) = MapLine::parse(line)
                && line.end <= ADDRESS_LIMIT
            {
                // SAFETY: the caller's promise.
                unsafe { self.add(&line) };
            }
        });
        if self.in_doubt {
            self.drop_last();
        }
        debug_assert!(self.entries().iter().is_sorted_by_key(|entry| entry.image.start));
        self.count > 0
    }

    /// # Safety
    /// - As for `read`.
    unsafe fn add(&mut self, line: &MapLine<'_>) {
        let is_file = line.path.first() == Some(&b'/') || line.path == b"[vdso]";
        if is_file && line.readable && line.file_offset == 0 {
            // SAFETY: the caller's promise.
            unsafe { self.add_candidate(line) };
        }
        if !line.executable {
            return;
        }
        if let Some(entry) = self.last()
            && line.start < entry.image.end
            && line.start >= entry.image.start
        {
            let covers_code = entry.image.code >= line.start && entry.image.code < line.end;
            let path = self.module(&entry).path;
            if covers_code && (line.path.is_empty() || line.path == path) {
                self.in_doubt = false;
            }
            if !self.in_doubt {
                return;
            }
        }
        self.add_code(line.start, line.end);
    }

    /// # Safety
    /// - As for `read`.
    unsafe fn add_candidate(&mut self, line: &MapLine<'_>) {
        if let Some(last) = self.last()
            && line.start < last.image.end
            && (!self.in_doubt || self.module(&last).path == line.path)
        {
            return; // A later segment of the same module that starts in the file's first page.
        }
        // SAFETY: the kernel lists the range as readable, and nothing is unloaded meanwhile.
        let Some(image) = (unsafe { Image::read(line.start, line.end) }) else { return };
        if self.in_doubt {
            self.drop_last();
        }
        let path_end = self.path_bytes + line.path.len();
        if self.count == MODULE_COUNT_MAX || path_end > PATH_BYTES_MAX {
            return;
        }
        self.paths[self.path_bytes..path_end].copy_from_slice(line.path);
        let (path_start, path_bytes) = (self.path_bytes, line.path.len());
        self.path_bytes = path_end;
        // SAFETY: just read, and nothing is unloaded meanwhile.
        let table = unsafe { UnwindTable::locate(&image) };
        self.entries[self.count] = Entry { image, table, path_start, path_bytes };
        self.count += 1;
        self.in_doubt = true;
    }

    fn drop_last(&mut self) {
        self.count -= 1;
        self.path_bytes = self.entries[self.count].path_start;
        self.in_doubt = false;
    }

    fn add_code(&mut self, start: usize, end: usize) {
        if let Some(last) = self.code[..self.code_count].last_mut()
            && last.end == start
        {
            last.end = end;
        } else if self.code_count < CODE_COUNT_MAX {
            self.code[self.code_count] = CodeRange { start, end };
            self.code_count += 1;
        }
    }
}

/// Room for the line being read and what follows it.
pub(crate) struct LineBuffer([u8; LINE_BYTES_MAX]);

impl LineBuffer {
    pub(crate) const fn new() -> Self {
        Self([0; LINE_BYTES_MAX])
    }

    fn for_each_line(&mut self, file: &Fd, mut line: impl FnMut(&[u8])) {
        let mut filled = 0;
        while let Ok(bytes @ 1..) = file.read(&mut self.0[filled..]) {
            filled += bytes;
            let mut start = 0;
            while let Some(length) = self.0[start..filled].iter().position(|&b| b == b'\n') {
                line(&self.0[start..start + length]);
                start += length + 1;
            }
            if start == 0 && filled == self.0.len() {
                start = filled; // Longer than any line can be: skip it.
            }
            self.0.copy_within(start..filled, 0);
            filled -= start;
        }
    }
}

//! Reading the program headers of a module where it lies in memory.

use heapwright_os::is_readable;

const EHDR_BYTES: usize = 64;
const PHDR_BYTES: usize = 56;
const PHDR_COUNT_MAX: usize = 64;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const NT_GNU_BUILD_ID: u32 = 3;
const PF_X: u32 = 1;

/// The longest build id that is kept, in bytes; the usual one is a SHA-1 of 20.
pub const BUILD_ID_BYTES_MAX: usize = 32;

/// What the program headers of a module say, as addresses in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// Address minus the address that the file gives.
    pub(crate) bias: usize,
    /// Lowest loaded address.
    pub(crate) start: usize,
    /// End of the highest loaded segment.
    pub(crate) end: usize,
    /// An address in an executable segment.
    pub(crate) code: usize,
    /// The header of the unwind table, 0 when there is none.
    pub(crate) eh_frame_hdr: usize,
    /// End of the loaded segment that holds it.
    pub(crate) eh_frame_hdr_end: usize,
    pub(crate) build_id: [u8; BUILD_ID_BYTES_MAX],
    pub(crate) build_id_bytes: usize,
}

#[derive(Clone, Copy)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    address: usize,
    bytes: usize,
}

impl Image {
    /// No module.
    pub(crate) const NONE: Self = Self {
        bias: 0,
        start: 0,
        end: 0,
        code: 0,
        eh_frame_hdr: 0,
        eh_frame_hdr_end: 0,
        build_id: [0; BUILD_ID_BYTES_MAX],
        build_id_bytes: 0,
    };

    /// Reads the module whose file is mapped from its first byte at `[start, end)`.
    ///
    /// # Safety
    /// - The range is mapped readable and stays so during the call.
    pub(crate) unsafe fn read(start: usize, end: usize) -> Option<Self> {
        if end - start < EHDR_BYTES || !is_readable(start) {
            return None;
        }
        // SAFETY: the caller says that the range is readable; it is long enough.
        let header = unsafe { bytes_at(start, EHDR_BYTES) };
        // 64-bit, little-endian, version 1; executable or shared object.
        if header[..7] != *b"\x7fELF\x02\x01\x01" || !matches!(header[16], 2 | 3) {
            return None;
        }
        let table_offset = usize::try_from(word_at(header, 32)?).ok()?;
        let entry_bytes = usize::from(half_at(header, 54)?);
        let count = usize::from(half_at(header, 56)?).min(PHDR_COUNT_MAX);
        let table_end = table_offset.checked_add(count.checked_mul(entry_bytes)?)?;
        if entry_bytes < PHDR_BYTES || table_end > end - start {
            return None;
        }
        // SAFETY: inside the range, checked above.
        let table = unsafe { bytes_at(start + table_offset, count * entry_bytes) };
        Self::from_headers(start, table.chunks_exact(entry_bytes).filter_map(ProgramHeader::read))
    }

    fn from_headers(
        start: usize,
        headers: impl Iterator<Item = ProgramHeader> + Clone,
    ) -> Option<Self> {
        let mut loads = headers.clone().filter(|header| header.kind == PT_LOAD);
        let first = loads.clone().next()?;
        // The first segment starts at the first byte of the file, up to the page size.
        let bias = start.wrapping_sub(first.address & !0xfff);
        let end = loads
            .clone()
            .map(|load| bias.wrapping_add(load.address).wrapping_add(load.bytes))
            .max()?;
        let code = bias.wrapping_add(loads.find(|load| load.flags & PF_X != 0)?.address);
        let mut image = Self { bias, start, end, code, ..Self::NONE };
        if end <= start {
            return None;
        }
        for header in headers.clone() {
            let segment_end = image.segment_end(headers.clone(), header.address);
            match (header.kind, segment_end) {
                (PT_GNU_EH_FRAME, Some(segment_end)) => {
                    image.eh_frame_hdr = bias.wrapping_add(header.address);
                    image.eh_frame_hdr_end = segment_end;
                }
                (PT_NOTE, Some(segment_end)) if image.build_id_bytes == 0 => {
                    let note = bias.wrapping_add(header.address);
                    image.read_build_id(note, header.bytes.min(segment_end - note));
                }
                _ => {}
            }
        }
        Some(image)
    }

    /// The end of the loaded segment with the file's `address`, if its memory can be read.
    fn segment_end(
        &self,
        mut headers: impl Iterator<Item = ProgramHeader>,
        address: usize,
    ) -> Option<usize> {
        let segment = headers.find(|header| {
            header.kind == PT_LOAD && address.wrapping_sub(header.address) < header.bytes
        })?;
        let end = self.bias.wrapping_add(segment.address).wrapping_add(segment.bytes);
        let here = self.bias.wrapping_add(address);
        (here >= self.start && end <= self.end && is_readable(here)).then_some(end)
    }

    /// Finds the build id among the notes in `[start, start + bytes)`, which can be read.
    fn read_build_id(&mut self, start: usize, bytes: usize) {
        // SAFETY: the notes lie in a loaded, readable segment (`segment_end`).
        let mut rest = unsafe { bytes_at(start, bytes.min(4096)) };
        while let (Some(name_bytes), Some(value_bytes), Some(kind)) =
            (quarter_at(rest, 0), quarter_at(rest, 4), quarter_at(rest, 8))
        {
            let name_end = 12 + (name_bytes as usize).next_multiple_of(4);
            let value_bytes = value_bytes as usize;
            let Some(value) = rest.get(name_end..name_end + value_bytes) else { return };
            let is_gnu = rest.get(12..16) == Some(b"GNU\0") && name_bytes == 4;
            if kind == NT_GNU_BUILD_ID && is_gnu && value_bytes <= BUILD_ID_BYTES_MAX {
                self.build_id[..value_bytes].copy_from_slice(value);
                self.build_id_bytes = value_bytes;
                return;
            }
            let next = name_end + value_bytes.next_multiple_of(4);
            rest = rest.get(next..).unwrap_or(&[]);
        }
    }

    /// The end of the readable bytes that start at `address` and belong to this module, from
    /// the headers at its start.
    ///
    /// # Safety
    /// - The module is still mapped as it was when it was read.
    pub(crate) unsafe fn readable_end(&self, address: usize) -> Option<usize> {
        // SAFETY: the header was read from there, and the caller says it is still mapped.
        let header = unsafe { bytes_at(self.start, EHDR_BYTES) };
        let table_offset = usize::try_from(word_at(header, 32)?).ok()?;
        let entry_bytes = usize::from(half_at(header, 54)?);
        let count = usize::from(half_at(header, 56)?).min(PHDR_COUNT_MAX);
        // SAFETY: as above; `read` checked these bounds.
        let table = unsafe { bytes_at(self.start + table_offset, count * entry_bytes) };
        let headers = table.chunks_exact(entry_bytes).filter_map(ProgramHeader::read);
        self.segment_end(headers, address.wrapping_sub(self.bias))
    }
}

impl ProgramHeader {
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            kind: quarter_at(bytes, 0)?,
            flags: quarter_at(bytes, 4)?,
            address: usize::try_from(word_at(bytes, 16)?).ok()?,
            bytes: usize::try_from(word_at(bytes, 40)?).ok()?,
        })
    }
}

/// The memory at `[start, start + bytes)`.
///
/// # Safety
/// - The range is mapped readable, and stays so and unchanged while the slice is in use.
pub(crate) unsafe fn bytes_at(start: usize, bytes: usize) -> &'static [u8] {
    let pointer = core::ptr::with_exposed_provenance::<u8>(start);
    // SAFETY: the caller's promise; the memory is a mapping of a file, made by the loader.
    unsafe { core::slice::from_raw_parts(pointer, bytes) }
}

fn half_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn quarter_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn word_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

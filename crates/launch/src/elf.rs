//! What an ELF file's headers and dynamic symbols tell, read without loading the file whole.

use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _, Sym as _};
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, ReadCache, elf};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

/// The machine number of this build's targets.
#[cfg(target_arch = "x86_64")]
pub(crate) const OWN_MACHINE: u16 = elf::EM_X86_64.0;
/// The machine number of this build's targets.
#[cfg(target_arch = "aarch64")]
pub(crate) const OWN_MACHINE: u16 = elf::EM_AARCH64.0;

/// The facts that decide whether preloading reaches a program, or an object can be preloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ElfFacts {
    /// Of this machine's kind: 64 bits and the same architecture.
    pub own_kind: bool,
    /// Names a dynamic linker, without which nothing can be preloaded.
    pub has_interpreter: bool,
    /// A shared object or position-independent program.
    pub is_dynamic: bool,
    /// Defines `malloc` for others to use.
    pub defines_malloc: bool,
    /// Defines `free` for others to use.
    pub defines_free: bool,
    /// Text of the symbol `heapwright_peer_version`, if it is there.
    pub version: Option<String>,
}

impl ElfFacts {
    /// Reads them from `file`; none when it is no ELF file.
    ///
    /// # Errors
    /// Of reading, and `InvalidData` for headers that contradict themselves.
    pub(crate) fn read(file: &mut File) -> io::Result<Option<Self>> {
        let mut ident = [0u8; 20];
        file.seek(SeekFrom::Start(0))?;
        if file.read_exact(&mut ident).is_err() || ident[..4] != elf::ELFMAG {
            return Ok(None);
        }
        let machine = u16::from_le_bytes([ident[18], ident[19]]);
        if ident[4] != elf::ELFCLASS64.0 || ident[5] != elf::ELFDATA2LSB.0 || machine != OWN_MACHINE
        {
            return Ok(Some(Self::default()));
        }
        let cache = ReadCache::new(file);
        let invalid = |error: object::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let parsed = ElfFile64::<Endianness, _>::parse(&cache).map_err(invalid)?;
        let endian = parsed.endian();
        let headers = parsed.elf_header().program_headers(endian, &cache).map_err(invalid)?;
        let mut facts = Self {
            own_kind: true,
            has_interpreter: headers.iter().any(|header| header.p_type(endian) == elf::PT_INTERP),
            is_dynamic: parsed.elf_header().e_type(endian) == elf::ET_DYN,
            ..Self::default()
        };
        // All names at once: the cache would read the file for each by itself, some 10,000 times
        // for a compiler.
        let names = parsed.section_by_index(parsed.elf_dynamic_symbol_table().string_section());
        let names = names.and_then(|section| section.data()).map_err(invalid);
        for symbol in parsed.dynamic_symbols().filter(|symbol| symbol.is_definition()) {
            let name = match &names {
                Ok(names) => name_at(names, symbol.elf_symbol().st_name(endian)),
                Err(_) => symbol.name_bytes().unwrap_or_default(),
            };
            match name {
                b"malloc" => facts.defines_malloc = true,
                b"free" => facts.defines_free = true,
                b"heapwright_peer_version" => {
                    let section =
                        symbol.section_index().map(|index| parsed.section_by_index(index));
                    let bytes = section.and_then(Result::ok).and_then(|section| {
                        section.data_range(symbol.address(), symbol.size()).ok().flatten()
                    });
                    facts.version = bytes.map(|bytes| {
                        String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
                    });
                }
                _ => {}
            }
        }
        Ok(Some(facts))
    }
}

/// The name at `offset` of a table of names that each end with a zero; empty beyond its end.
fn name_at(names: &[u8], offset: u32) -> &[u8] {
    let rest = names.get(offset as usize..).unwrap_or_default();
    rest.split(|&byte| byte == 0).next().unwrap_or_default()
}

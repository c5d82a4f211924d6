//! The symbols of a loaded object, read from its image in memory.
//!
//! The loader's own `dlsym` cannot be used from inside an allocator: it gives the text that
//! `dlerror` told the program away, and allocates one to say that a symbol is not there.
//! Source: ELF-64 object file format, 1.5; the GNU hash table as binutils writes it.

use core::ffi::CStr;

/// Program headers' kinds.
pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_DYNAMIC: u32 = 2;
/// Tags of the dynamic section.
const DT_NULL: u64 = 0;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_VERSYM: u64 = 0x6fff_fff0;
/// Sizes of a dynamic entry and a symbol.
const DYNAMIC_BYTES: usize = 16;
const SYMBOL_BYTES: usize = 24;
/// Sections that a symbol may name: none (it is another object's), and none since its value is
/// absolute.
const SHN_UNDEF: u16 = 0;
const SHN_ABS: u16 = 0xfff1;
/// Kinds and bindings of symbols.
const STT_TLS: u8 = 6;
const STT_GNU_IFUNC: u8 = 10;
const STB_LOCAL: u8 = 0;
/// A version that only those ask for who name it.
const VERSION_HIDDEN: u16 = 0x8000;

/// A value of a loaded image.
///
/// # Safety
/// - `address` is inside the image, and a `T` there is readable.
pub(crate) unsafe fn read<T: Copy>(address: usize) -> T {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::with_exposed_provenance::<T>(address).read_unaligned() }
}

/// The fields of a symbol, in the file's order.
#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    name: u32,
    kind_and_binding: u8,
    visibility: u8,
    section: u16,
    value: u64,
    bytes: u64,
}

const _: () = assert!(size_of::<Entry>() == SYMBOL_BYTES);

/// A symbol that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// Its address, or that of the function that knows it.
    address: usize,
    /// Whether `address` is that of a function to be asked for the symbol's own.
    indirect: bool,
}

impl Symbol {
    /// The symbol's address. One that depends on the CPU is asked of its object.
    ///
    /// # Safety
    /// - The object is still loaded, and relocated.
    pub(crate) unsafe fn address(self) -> *const () {
        let found = core::ptr::with_exposed_provenance::<()>(self.address);
        // SAFETY: the caller's promise; the table says that this is such a function.
        if self.indirect { unsafe { resolve(found) } } else { found }
    }
}

/// What an indirect function's resolver answers.
///
/// # Safety
/// - `resolver` is a resolver of an object that is loaded and relocated.
#[cfg(not(target_arch = "aarch64"))]
unsafe fn resolve(resolver: *const ()) -> *const () {
    type Resolver = unsafe extern "C" fn() -> *const ();
    // SAFETY: a resolver takes nothing here.
    let resolver = unsafe { core::mem::transmute::<*const (), Resolver>(resolver) };
    // SAFETY: the caller's promise.
    unsafe { resolver() }
}

/// As above; here a resolver is told what the CPU can do.
///
/// # Safety
/// - `resolver` is a resolver of an object that is loaded and relocated.
#[cfg(target_arch = "aarch64")]
unsafe fn resolve(resolver: *const ()) -> *const () {
    /// Says that the second argument is there.
    const HAS_ARGUMENT: u64 = 1 << 62;
    #[repr(C)]
    struct Argument {
        bytes: u64,
        capabilities: u64,
        more_capabilities: u64,
    }
    type Resolver = unsafe extern "C" fn(u64, *const Argument) -> *const ();
    // SAFETY: a resolver has this type here.
    let resolver = unsafe { core::mem::transmute::<*const (), Resolver>(resolver) };
    let capabilities = crate::raw_auxv(libc::AT_HWCAP).unwrap_or(0) as u64;
    let argument = Argument {
        bytes: size_of::<Argument>() as u64,
        capabilities,
        more_capabilities: crate::raw_auxv(libc::AT_HWCAP2).unwrap_or(0) as u64,
    };
    // SAFETY: the caller's promise; it reads the argument only while it runs.
    unsafe { resolver(capabilities | HAS_ARGUMENT, &raw const argument) }
}

/// Where the parts of an object's symbol table are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SymbolTable {
    /// What is added to the addresses of the file.
    load: usize,
    symbols: usize,
    strings: usize,
    versions: Option<usize>,
    hash: Hash,
}

#[derive(Clone, Copy, Debug)]
enum Hash {
    Gnu(usize),
    Classical(usize),
}

impl SymbolTable {
    /// The table of the object whose dynamic section is at `dynamic`; none where the object has
    /// none or no hash table.
    ///
    /// # Safety
    /// - `dynamic` is the address of the dynamic section of an object loaded at `load`, which
    ///   stays loaded while the table is used.
    pub(crate) unsafe fn of(load: usize, dynamic: usize) -> Option<Self> {
        let (mut symbols, mut strings, mut versions) = (None, None, None);
        let (mut classical, mut gnu) = (None, None);
        let mut entry = dynamic;
        loop {
            // SAFETY: entries of the dynamic section up to the one that ends it.
            let [tag, value] = unsafe { read::<[u64; 2]>(entry) };
            // Some loaders write addresses in place of what the file says, others do not.
            let value = value as usize;
            let address = Some(if value < load { load.wrapping_add(value) } else { value });
            match tag {
                DT_NULL => break,
                DT_HASH => classical = address,
                DT_GNU_HASH => gnu = address,
                DT_STRTAB => strings = address,
                DT_SYMTAB => symbols = address,
                DT_VERSYM => versions = address,
                _ => {}
            }
            entry += DYNAMIC_BYTES;
        }
        let hash = gnu.map(Hash::Gnu).or(classical.map(Hash::Classical))?;
        Some(Self { load, symbols: symbols?, strings: strings?, versions, hash })
    }

    /// The symbol of that name which the object gives to others, in its default version.
    pub(crate) fn find(&self, name: &CStr) -> Option<Symbol> {
        match self.hash {
            Hash::Gnu(table) => self.find_gnu(table, name),
            Hash::Classical(table) => self.find_classical(table, name),
        }
    }

    fn find_gnu(&self, table: usize, name: &CStr) -> Option<Symbol> {
        let hash = name
            .to_bytes()
            .iter()
            .fold(5381_u32, |hash, &byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)));
        // SAFETY: the table's header has four words: buckets, first symbol, words of the filter,
        // shift.
        let header = unsafe { read::<[u32; 4]>(table) };
        let [buckets, first, words, shift] = header;
        if buckets == 0 || words == 0 {
            return None;
        }
        let word = table + 16 + (hash / 64 % words) as usize * 8;
        // SAFETY: a word of the filter.
        let filter = unsafe { read::<u64>(word) };
        if filter >> (hash % 64) & filter >> ((hash >> shift) % 64) & 1 == 0 {
            return None;
        }
        let bucket = table + 16 + words as usize * 8;
        let chain = bucket + buckets as usize * 4;
        // SAFETY: a bucket of the table: the first symbol of its chain, or nothing.
        let mut index = unsafe { read::<u32>(bucket + (hash % buckets) as usize * 4) };
        if index < first {
            return None;
        }
        loop {
            // SAFETY: a chain has a word for each symbol from `first`; the lowest bit ends it.
            let word = unsafe { read::<u32>(chain + (index - first) as usize * 4) };
            if word | 1 == hash | 1
                && let Some(symbol) = self.exported(index, name)
            {
                return Some(symbol);
            }
            if word & 1 == 1 {
                return None;
            }
            index += 1;
        }
    }

    fn find_classical(&self, table: usize, name: &CStr) -> Option<Symbol> {
        let hash = name.to_bytes().iter().fold(0_u32, |hash, &byte| {
            let hash = (hash << 4).wrapping_add(u32::from(byte));
            let high = hash & 0xf000_0000;
            (hash ^ high >> 24) & !high
        });
        // SAFETY: the table begins with the counts of its buckets and of its chains' words.
        let [buckets, words] = unsafe { read::<[u32; 2]>(table) };
        if buckets == 0 {
            return None;
        }
        let bucket = table + 8;
        let chain = bucket + buckets as usize * 4;
        // SAFETY: a bucket of the table: the first symbol of its chain; 0 is none.
        let mut index = unsafe { read::<u32>(bucket + (hash % buckets) as usize * 4) };
        while index != 0 && index < words {
            if let Some(symbol) = self.exported(index, name) {
                return Some(symbol);
            }
            // SAFETY: a chain has a word for each symbol: the next one.
            index = unsafe { read::<u32>(chain + index as usize * 4) };
        }
        None
    }

    /// The symbol with that number, if it has that name and is the object's own, for others, and
    /// of the version that they get who name none.
    fn exported(&self, index: u32, name: &CStr) -> Option<Symbol> {
        // SAFETY: a symbol of the table.
        let entry = unsafe { read::<Entry>(self.symbols + index as usize * SYMBOL_BYTES) };
        let (kind, binding) = (entry.kind_and_binding & 15, entry.kind_and_binding >> 4);
        let own = !matches!(entry.section, SHN_UNDEF | SHN_ABS);
        if !own || kind == STT_TLS || binding == STB_LOCAL || entry.value == 0 {
            return None;
        }
        if !self.is_named(entry.name, name) {
            return None;
        }
        if let Some(versions) = self.versions {
            // SAFETY: the table of versions has a half word for each symbol.
            let version = unsafe { read::<u16>(versions + index as usize * 2) };
            if version & VERSION_HIDDEN != 0 {
                return None;
            }
        }
        let address = self.load.wrapping_add(entry.value as usize);
        Some(Symbol { address, indirect: kind == STT_GNU_IFUNC })
    }

    /// Whether the text at that offset of the table of strings is `name`. Compared here, not by
    /// libc's functions: those may be what is being looked for.
    fn is_named(&self, offset: u32, name: &CStr) -> bool {
        let text = self.strings + offset as usize;
        name.to_bytes_with_nul().iter().enumerate().all(|(at, &byte)| {
            // SAFETY: names end in a zero byte inside the table of strings; the byte is read if
            // all before were equal, so not zero.
            byte == unsafe { read::<u8>(text + at) }
        })
    }
}

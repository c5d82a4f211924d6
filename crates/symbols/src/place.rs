//! What an address turned out to be.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A function at a place; inlined functions are frames of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Demangled name; empty when unknown.
    pub function: Arc<str>,
    /// Source file; empty when unknown.
    pub file: Arc<str>,
    /// Source line, from 1; 0 when unknown.
    pub line: u32,
}

/// Where the knowledge about a place comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Debug information: function, file, line, inlined frames.
    DebugInformation,
    /// A symbol table: the function only.
    SymbolTable,
    /// The unwind table: where the function starts, without a name.
    FunctionStart,
    /// The module only, or nothing at all.
    #[default]
    Nothing,
}

/// An address of a recording, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Index into [`AddressTable::modules`]; none for code outside all modules (compiled at run
    /// time).
    pub module: Option<u32>,
    /// The looked-up address (the return address - 1): the module's ELF virtual address, as
    /// `addr2line -e` takes it; the plain address outside all modules.
    pub offset: u64,
    /// Start of the function, in the same terms as `offset`; none when unknown.
    pub function_start: Option<u64>,
    /// Where the frames come from.
    pub source: Source,
    /// The function and those inlined into it, innermost first; never empty.
    pub frames: Vec<Frame>,
}

/// A module as the symbolizer found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleFacts {
    /// Path as recorded.
    pub path: String,
    /// File name, or the path when it is none (`[vdso]`).
    pub name: Arc<str>,
    /// Build id in hex; empty when it has none or cannot be read.
    pub build_id: String,
    /// The separate file with debug information, when there is one.
    pub debug_file: Option<PathBuf>,
    /// Whether debug information was found.
    pub has_debug_information: bool,
    /// Why nothing is known of it; empty when it could be read.
    pub problem: String,
}

/// The answers of [`crate::Symbolizer::resolve`]: one [`Place`] for each address asked, in the
/// order of asking. Equal places are stored once.
#[derive(Clone, Debug, Default)]
pub struct AddressTable {
    pub(crate) modules: Vec<ModuleFacts>,
    pub(crate) places: Vec<Place>,
    pub(crate) of_input: Vec<u32>,
}

impl AddressTable {
    /// Number of addresses asked.
    pub fn len(&self) -> usize {
        self.of_input.len()
    }

    /// Whether no address was asked.
    pub fn is_empty(&self) -> bool {
        self.of_input.is_empty()
    }

    /// The answer to the address asked as number `input`, from 0.
    ///
    /// # Panics
    /// When fewer addresses were asked.
    pub fn place(&self, input: usize) -> &Place {
        &self.places[self.of_input[input] as usize]
    }

    /// Number of the place of the address asked as number `input`: equal numbers, equal places.
    ///
    /// # Panics
    /// When fewer addresses were asked.
    pub fn place_index(&self, input: usize) -> u32 {
        self.of_input[input]
    }

    /// All places, each once.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// All modules met.
    pub fn modules(&self) -> &[ModuleFacts] {
        &self.modules
    }

    /// The module of `place`; none for code outside all modules.
    pub fn module_of(&self, place: &Place) -> Option<&ModuleFacts> {
        place.module.map(|index| &self.modules[index as usize])
    }

    /// What to call the frame `frame` of `place`: its function; else module and start of the
    /// function (`cc1+0x9a3f20`); else the address.
    pub fn label(&self, place: &Place, frame: usize) -> String {
        match place.frames.get(frame) {
            Some(frame) if !frame.function.is_empty() => frame.function.to_string(),
            _ => Unnamed { table: self, place }.to_string(),
        }
    }
}

struct Unnamed<'a> {
    table: &'a AddressTable,
    place: &'a Place,
}

impl fmt::Display for Unnamed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.place.function_start.unwrap_or(self.place.offset);
        match self.table.module_of(self.place) {
            Some(module) => write!(f, "{}+{at:#x}", module.name),
            None => write!(f, "{at:#x}"),
        }
    }
}

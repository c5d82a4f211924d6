//! Many addresses at once: which module at which time, then one module after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heapwright_format::merge::Module;
use rustc_hash::FxHashMap;

use crate::demangle::demangle;
use crate::module_symbols::ModuleSymbols;
use crate::place::{AddressTable, Frame, Place, Source};

/// Resolves addresses; keeps each module's file and each answer.
///
/// Opening a module reads its file once (a file of 35 MB: some 50 ms); an address costs a
/// microsecond or a few, once. Memory: the symbol tables of the modules met, and what their
/// debug information needs.
pub struct Symbolizer {
    roots: Vec<PathBuf>,
    modules: Vec<ModuleSymbols>,
    by_build: FxHashMap<(String, Vec<u8>), usize>,
    strings: FxHashMap<String, Arc<str>>,
    demangled: FxHashMap<String, Arc<str>>,
    empty: Arc<str>,
}

impl Default for Symbolizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbolizer {
    /// A symbolizer that looks for separate debug files under `/usr/lib/debug`.
    pub fn new() -> Self {
        Self::with_debug_roots(vec![PathBuf::from("/usr/lib/debug")])
    }

    /// A symbolizer that looks for separate debug files under `roots`.
    pub fn with_debug_roots(roots: Vec<PathBuf>) -> Self {
        Self {
            roots,
            modules: Vec::new(),
            by_build: FxHashMap::default(),
            strings: FxHashMap::default(),
            demangled: FxHashMap::default(),
            empty: "".into(),
        }
    }

    /// Resolves the return addresses of one process, each with the time at which it was code.
    ///
    /// Each is looked up at its address - 1, which lies in the call. The module of an address
    /// is the one that was defined last over it, not after the time; when none was defined by
    /// then, the first one after.
    pub fn resolve(
        &mut self,
        modules: &[Module],
        addresses: impl Iterator<Item = (u64, u64)>,
    ) -> AddressTable {
        let layout = Layout::new(modules);
        let opened: Vec<Option<usize>> = vec![None; modules.len()];
        let mut asked = Asked { opened, ..Asked::default() };
        for (return_address, time) in addresses {
            let address = return_address.wrapping_sub(1);
            let key = match layout.find(address, time) {
                Some(mapping) => {
                    let module = match asked.opened[mapping] {
                        Some(module) => module,
                        None => {
                            let mapped = &modules[mapping];
                            let module = self.open(&mapped.path, &mapped.build_id);
                            asked.opened[mapping] = Some(module);
                            module
                        }
                    };
                    (module as u32, address.wrapping_sub(modules[mapping].bias))
                }
                None => (OUTSIDE, address),
            };
            asked.enter(key);
        }
        // By module and address: neighbours share what the debug information unpacks.
        let mut order: Vec<u32> = (0..asked.keys.len() as u32).collect();
        order.sort_unstable_by_key(|&index| asked.keys[index as usize]);
        let mut places = vec![Place::default(); asked.keys.len()];
        for index in order {
            let (module, offset) = asked.keys[index as usize];
            places[index as usize] = self.place(module, offset);
        }
        let modules = self.modules.iter().map(|module| module.facts.clone()).collect();
        AddressTable { modules, places, of_input: asked.of_input }
    }

    /// Resolves one address of the file at `path`, an ELF virtual address (not a return
    /// address: nothing is subtracted). `module` of the answer is always none.
    pub fn resolve_in_file(&mut self, path: &Path, address: u64) -> Place {
        let module = self.open(&path.to_string_lossy(), &[]);
        Place { module: None, ..self.place(module as u32, address) }
    }

    fn open(&mut self, path: &str, id: &[u8]) -> usize {
        let key = (path.to_owned(), id.to_owned());
        if let Some(&index) = self.by_build.get(&key) {
            return index;
        }
        self.modules.push(ModuleSymbols::open(path, id, &self.roots));
        self.by_build.insert(key, self.modules.len() - 1);
        self.modules.len() - 1
    }

    fn place(&mut self, module: u32, offset: u64) -> Place {
        let blank = Frame { function: self.empty.clone(), file: self.empty.clone(), line: 0 };
        let mut place = Place { offset, frames: vec![blank], ..Place::default() };
        if module == OUTSIDE {
            return place;
        }
        place.module = Some(module);
        let Self { modules, strings, demangled, .. } = self;
        let module = &modules[module as usize];
        let mut interner = Interner { strings, demangled };
        place.function_start = module.starts.containing(offset);
        let named = name_from_table(module, offset, &mut interner);
        if let Some((start, _)) = &named {
            place.function_start = Some(*start);
        }
        let frames = catch_unwind(AssertUnwindSafe(|| {
            frames_from_debug_information(module, offset, &mut interner)
        }));
        if let Ok(Some(mut frames)) = frames {
            let outermost = frames.last_mut().expect("never empty");
            if outermost.function.is_empty()
                && let Some((_, name)) = &named
            {
                outermost.function = name.clone();
            }
            place.frames = frames;
            place.source = Source::DebugInformation;
        } else if let Some((_, name)) = named {
            place.frames[0].function = name;
            place.source = Source::SymbolTable;
        } else if place.function_start.is_some() {
            place.source = Source::FunctionStart;
        }
        place
    }
}

/// Number instead of a module's for addresses outside all modules.
const OUTSIDE: u32 = u32::MAX;

#[derive(Default)]
struct Asked {
    opened: Vec<Option<usize>>,
    keys: Vec<(u32, u64)>,
    index: FxHashMap<(u32, u64), u32>,
    of_input: Vec<u32>,
}

impl Asked {
    fn enter(&mut self, key: (u32, u64)) {
        let index = *self.index.entry(key).or_insert_with(|| {
            self.keys.push(key);
            self.keys.len() as u32 - 1
        });
        self.of_input.push(index);
    }
}

struct Interner<'a> {
    strings: &'a mut FxHashMap<String, Arc<str>>,
    demangled: &'a mut FxHashMap<String, Arc<str>>,
}

impl Interner<'_> {
    fn string(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return known.clone();
        }
        let shared: Arc<str> = text.into();
        self.strings.insert(text.to_owned(), shared.clone());
        shared
    }

    fn demangled(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.demangled.get(name) {
            return known.clone();
        }
        let readable = self.string(&demangle(name));
        self.demangled.insert(name.to_owned(), readable.clone());
        readable
    }
}

/// How far a symbol without a size reaches: no hand-written function is longer.
const SIZELESS_BYTES_MAX: u64 = 64 << 10;

/// Start and name of the function at `address`, when the symbol table knows it.
///
/// A symbol with a size holds its bytes; one without reaches to the next symbol, unless the
/// unwind table says that another function begins between.
fn name_from_table(
    module: &ModuleSymbols,
    address: u64,
    interner: &mut Interner<'_>,
) -> Option<(u64, Arc<str>)> {
    if module.names.is_empty() {
        return None;
    }
    let nearest = module.names.nearest(address)?;
    let inside = if nearest.size > 0 {
        address - nearest.address < nearest.size
    } else {
        address - nearest.address < SIZELESS_BYTES_MAX
            && module.starts.containing(address).is_none_or(|start| start <= nearest.address)
    };
    inside.then(|| (nearest.address, interner.demangled(nearest.name)))
}

fn frames_from_debug_information(
    module: &ModuleSymbols,
    address: u64,
    interner: &mut Interner<'_>,
) -> Option<Vec<Frame>> {
    let mut found = module.loader.as_ref()?.find_frames(address).ok()?;
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = found.next() {
        let function = match frame.function.as_ref().and_then(|name| name.raw_name().ok()) {
            Some(name) => interner.demangled(&name),
            None => interner.string(""),
        };
        let location = frame.location.as_ref();
        let file = location.and_then(|location| location.file).unwrap_or_default();
        let line = location.and_then(|location| location.line).unwrap_or(0);
        frames.push(Frame { function, file: interner.string(file), line });
    }
    (!frames.is_empty()).then_some(frames)
}

/// The mappings of a process, to be searched by address and time.
struct Layout<'m> {
    modules: &'m [Module],
    /// Borders between ranges of addresses with the same mappings, ascending.
    borders: Vec<u64>,
    /// For each border the mappings over the range from it on, by time.
    covering: Vec<Vec<usize>>,
}

impl<'m> Layout<'m> {
    fn new(modules: &'m [Module]) -> Self {
        let mut borders: Vec<u64> =
            modules.iter().flat_map(|module| [module.start, module.end]).collect();
        borders.sort_unstable();
        borders.dedup();
        let mut covering = vec![Vec::new(); borders.len()];
        let mut by_time: Vec<usize> = (0..modules.len()).collect();
        by_time.sort_by_key(|&index| modules[index].time);
        for index in by_time {
            let module = &modules[index];
            let first = borders.partition_point(|&border| border < module.start);
            let last = borders.partition_point(|&border| border < module.end);
            covering[first..last.max(first)].iter_mut().for_each(|list| list.push(index));
        }
        Self { modules, borders, covering }
    }

    fn find(&self, address: u64, time: u64) -> Option<usize> {
        let after = self.borders.partition_point(|&border| border <= address);
        let list = &self.covering[after.checked_sub(1)?];
        let defined = list.partition_point(|&index| self.modules[index].time <= time);
        list.get(defined.saturating_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use heapwright_format::merge::Module;

    use super::{Layout, Symbolizer};

    fn module(start: u64, end: u64, path: &str, time: u64) -> Module {
        let build_id = Vec::new();
        Module { start, end, bias: start, build_id, path: path.into(), time }
    }

    #[test]
    fn the_module_of_an_address_depends_on_the_time() {
        let modules = [
            module(0x1000, 0x3000, "a", 10),
            module(0x2000, 0x4000, "b", 20),
            module(0x1000, 0x2000, "c", 30),
        ];
        let layout = Layout::new(&modules);
        let found = |address, time| layout.find(address, time).map(|i| modules[i].path.as_str());
        assert_eq!(found(0x0fff, 15), None);
        assert_eq!(found(0x1000, 15), Some("a"));
        assert_eq!(found(0x1000, 30), Some("c"));
        assert_eq!(found(0x2fff, 19), Some("a"));
        assert_eq!(found(0x2fff, 99), Some("b"));
        assert_eq!(found(0x3fff, 5), Some("b"), "the first one after, when none was before");
        assert_eq!(found(0x4000, 99), None);
    }

    #[test]
    fn what_is_no_file_keeps_its_name_and_address() {
        let modules = [
            module(0x1000, 0x2000, "[vdso]", 0),
            module(0x5000, 0x6000, "/tmp/gone.so (deleted)", 0),
            module(0x7000, 0x8000, "/nonexistent/lib.so", 0),
        ];
        let addresses = [0x1101, 0x5201, 0x7301, 0x9001, 0x1101];
        let table = Symbolizer::new().resolve(&modules, addresses.into_iter().map(|at| (at, 1)));
        let label = |input| table.label(table.place(input), 0);
        assert_eq!(label(0), "[vdso]+0x100");
        assert_eq!(label(1), "gone.so (deleted)+0x200");
        assert_eq!(label(2), "lib.so+0x300");
        assert_eq!(label(3), "0x9000");
        assert_eq!(table.place_index(0), table.place_index(4));
        assert!(table.modules().iter().all(|module| !module.problem.is_empty()));
    }
}

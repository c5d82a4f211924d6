//! One module: its debug information, its names, the starts of its functions.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use addr2line::Loader;
use object::{Object, ObjectSection};

use crate::debug_file::{build_id_path, hex, separate_debug_file, supplementary_file};
use crate::function_starts::FunctionStarts;
use crate::place::ModuleFacts;
use crate::symbol_table::SymbolTable;

/// A module's file, opened.
pub(crate) struct ModuleSymbols {
    pub(crate) facts: ModuleFacts,
    pub(crate) names: SymbolTable,
    pub(crate) starts: FunctionStarts,
    pub(crate) loader: Option<Loader>,
}

impl ModuleSymbols {
    /// Opens the module with the recorded `path` and `id` (empty when it had none). What cannot
    /// be read is told in [`ModuleFacts::problem`]; a damaged file never panics through here.
    pub(crate) fn open(path: &str, id: &[u8], roots: &[PathBuf]) -> Self {
        let name = if path.starts_with('[') { path } else { file_name(path) };
        let facts = ModuleFacts {
            path: path.into(),
            name: name.into(),
            build_id: hex(id),
            ..ModuleFacts::default()
        };
        let mut module = Self {
            facts,
            names: SymbolTable::default(),
            starts: FunctionStarts::default(),
            loader: None,
        };
        // The parsers are written not to panic on foreign bytes; this is the second wall.
        let result = catch_unwind(AssertUnwindSafe(|| module.load(id, roots)));
        let result = result.unwrap_or_else(|_| Err("its debug information is damaged".into()));
        if let Err(problem) = result {
            module.facts.problem = problem;
        }
        module.names.finish();
        module
    }

    fn load(&mut self, id: &[u8], roots: &[PathBuf]) -> Result<(), String> {
        let result = self.load_module(id, roots);
        if result.is_err() && !id.is_empty() {
            // The file is gone or another one; what was installed for the recorded one may not.
            let by_id = roots.iter().filter_map(|root| build_id_path(root, id));
            if let Some(debug_path) = by_id.into_iter().find(|path| path.is_file()) {
                return self.load_separate(&debug_path, roots);
            }
        }
        result
    }

    fn load_module(&mut self, id: &[u8], roots: &[PathBuf]) -> Result<(), String> {
        let path = readable_path(&self.facts.path)?;
        let data = fs::read(&path).map_err(|error| error.to_string())?;
        let file = object::File::parse(&*data).map_err(|error| error.to_string())?;
        let found_id = file.build_id().ok().flatten().unwrap_or_default();
        if !id.is_empty() && found_id != id {
            return Err("its file is another one now than when it was recorded".into());
        }
        self.facts.build_id = hex(found_id);
        self.names.add(&file);
        if let Some(section) = file.section_by_name(".eh_frame_hdr")
            && let Ok(bytes) = section.data()
        {
            self.starts = FunctionStarts::parse(bytes, section.address());
        }
        if file.section_by_name(".debug_info").is_some() {
            self.load_debug_information(&path, &file, roots);
        } else if let Some(debug_path) = separate_debug_file(&path, &file, roots) {
            // The module's own names are worth having whatever the separate file is like.
            let _ = self.load_separate(&debug_path, roots);
        }
        Ok(())
    }

    fn load_separate(&mut self, debug_path: &Path, roots: &[PathBuf]) -> Result<(), String> {
        let data = fs::read(debug_path).map_err(|error| error.to_string())?;
        let debug = object::File::parse(&*data).map_err(|error| error.to_string())?;
        self.names.add(&debug);
        self.load_debug_information(debug_path, &debug, roots);
        self.facts.debug_file = Some(debug_path.to_owned());
        Ok(())
    }

    fn load_debug_information(&mut self, path: &Path, file: &object::File<'_>, roots: &[PathBuf]) {
        let supplementary = supplementary_file(path, file, roots);
        let loader = Loader::new_with_sup(path, supplementary.as_deref());
        // A file whose shared part is missing is still worth its own part.
        self.loader = loader.or_else(|_| Loader::new(path)).ok();
        self.facts.has_debug_information = self.loader.is_some();
    }
}

/// The recorded `path`, when it names a file that can have symbols.
fn readable_path(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err("it is not a file".into());
    }
    if path.ends_with(" (deleted)") {
        return Err("its file was deleted before it could be read".into());
    }
    // Devices and pipes would block or never end.
    if !fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a file".into());
    }
    Ok(path.into())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

/// The build id of the ELF file at `path`, in hex; none when it has none or cannot be read.
/// Reads the whole file.
pub fn build_id(path: &Path) -> Option<String> {
    let data = fs::read(path).ok()?;
    let file = object::File::parse(&*data).ok()?;
    file.build_id().ok().flatten().map(hex)
}

//! Puts a [`Profile`] together from named places: every text, module, function and address once.

use heapwright_symbols::AddressTable;
use rustc_hash::FxHashMap;

use crate::pprof::{Function, Line, Location, Mapping, Profile, Sample, ValueType};

/// A profile in the making.
#[derive(Debug)]
pub struct ProfileBuilder {
    /// What it is so far; times and period are for the caller to set.
    pub profile: Profile,
    texts: Vec<String>,
    text_numbers: FxHashMap<String, i64>,
    functions: FxHashMap<(String, String), u64>,
    locations: FxHashMap<u32, u64>,
}

impl ProfileBuilder {
    /// A profile whose samples have values of `sample_types` (name and unit), shown by
    /// `default_type` at first; its period is in bytes.
    pub fn new<const N: usize>(sample_types: [(&str, &str); N], default_type: &str) -> Self {
        let mut builder = Self {
            profile: Profile::default(),
            texts: Vec::new(),
            text_numbers: FxHashMap::default(),
            functions: FxHashMap::default(),
            locations: FxHashMap::default(),
        };
        // The format wants the empty text first.
        builder.text("");
        builder.profile.sample_type =
            sample_types.map(|(name, unit)| builder.value_type(name, unit)).to_vec();
        builder.profile.period_type = Some(builder.value_type("space", "bytes"));
        builder.profile.default_sample_type = builder.text(default_type);
        builder
    }

    /// Enters the modules of `table`. All places that follow are of the same table.
    pub fn enter_modules(&mut self, table: &AddressTable) {
        for (index, module) in table.modules().iter().enumerate() {
            let here = table.places().iter().filter(|place| place.module == Some(index as u32));
            let highest = here.map(|place| place.offset).max();
            let mapping = Mapping {
                id: index as u64 + 1,
                memory_start: 0,
                memory_limit: highest.unwrap_or(0).saturating_add(1),
                filename: self.text(&module.path),
                build_id: self.text(&module.build_id),
                has_functions: true,
                has_filenames: module.has_debug_information,
                has_line_numbers: module.has_debug_information,
                has_inline_frames: module.has_debug_information,
            };
            self.profile.mapping.push(mapping);
        }
    }

    /// Enters a sample of the stack `places` (indices into `table`, innermost first).
    pub fn enter_sample<const N: usize>(
        &mut self,
        table: &AddressTable,
        places: impl IntoIterator<Item = u32>,
        value: [i64; N],
    ) {
        let location_id = places.into_iter().map(|place| self.location(table, place)).collect();
        self.profile.sample.push(Sample { location_id, value: value.to_vec() });
    }

    /// The profile.
    pub fn finish(mut self) -> Profile {
        self.profile.string_table = self.texts;
        self.profile
    }

    fn location(&mut self, table: &AddressTable, place_index: u32) -> u64 {
        if let Some(&id) = self.locations.get(&place_index) {
            return id;
        }
        let place = &table.places()[place_index as usize];
        let mut line = Vec::with_capacity(place.frames.len());
        for (index, frame) in place.frames.iter().enumerate() {
            let function_id = self.function(table.label(place, index), frame.file.to_string());
            line.push(Line { function_id, line: i64::from(frame.line) });
        }
        let id = self.profile.location.len() as u64 + 1;
        let mapping_id = place.module.map_or(0, |module| u64::from(module) + 1);
        self.profile.location.push(Location { id, mapping_id, address: place.offset, line });
        self.locations.insert(place_index, id);
        id
    }

    fn function(&mut self, name: String, file: String) -> u64 {
        let key = (name, file);
        if let Some(&id) = self.functions.get(&key) {
            return id;
        }
        let id = self.profile.function.len() as u64 + 1;
        let (name, filename) = (self.text(&key.0), self.text(&key.1));
        self.profile.function.push(Function { id, name, system_name: name, filename });
        self.functions.insert(key, id);
        id
    }

    fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.text(name), unit: self.text(unit) }
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(&number) = self.text_numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as i64;
        self.texts.push(text.to_owned());
        self.text_numbers.insert(text.to_owned(), number);
        number
    }
}

//! The profile as pprof reads it: allocated, live, and pinned memory by stack.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use heapwright_advise::pprof::{Function, Line, Location, Mapping, Profile, Sample, ValueType};
use heapwright_symbols::Place;

use crate::blame::Named;
use crate::raw_profile::RawProfile;

/// What each sample's values are.
const SAMPLE_TYPES: [(&str, &str); 6] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
    ("pinned_space", "bytes"),
    ("releasable_space", "bytes"),
];

#[derive(Default)]
struct Texts {
    table: Vec<String>,
    numbers: HashMap<String, i64>,
}

impl Texts {
    fn number(&mut self, text: &str) -> i64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

/// `profile` as pprof reads it; `debug_roots` as for [`crate::Blame::new`]. Values are estimates
/// of all blocks, rounded; the default is `inuse_space`.
pub fn pprof(profile: &RawProfile, debug_roots: Option<Vec<PathBuf>>) -> Profile {
    let named = Named::new(profile, debug_roots);
    let mut texts = Texts::default();
    texts.number("");
    let mut values = vec![[0.0; SAMPLE_TYPES.len()]; profile.stacks.len()];
    for site in &profile.sites {
        let count = site.taken as f64 / site.probability();
        values[site.stack][0] += count;
        values[site.stack][1] += count * site.usable_bytes as f64;
    }
    for sample in &profile.live {
        let site = &profile.sites[sample.site];
        let weight = 1.0 / site.probability();
        let sums = &mut values[site.stack];
        sums[2] += weight;
        sums[3] += weight * site.usable_bytes as f64;
        sums[4] += weight * sample.pinned_bytes;
        sums[5] += weight * sample.sole_bytes as f64;
    }
    let written = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let rate = profile.sites.iter().map(|site| site.rate_bytes).max().unwrap_or(1);
    let value_type = |texts: &mut Texts, (name, unit): (&str, &str)| ValueType {
        r#type: texts.number(name),
        unit: texts.number(unit),
    };
    let mut result = Profile {
        sample_type: SAMPLE_TYPES.map(|kind| value_type(&mut texts, kind)).to_vec(),
        time_nanos: written.as_nanos() as i64,
        duration_nanos: profile.duration_ns as i64,
        period_type: Some(value_type(&mut texts, ("space", "bytes"))),
        period: rate as i64,
        default_sample_type: texts.number("inuse_space"),
        ..Profile::default()
    };
    enter_modules(&mut result, &named, &mut texts);
    let mut locations: HashMap<u32, u64> = HashMap::new();
    let mut functions: HashMap<(String, String), u64> = HashMap::new();
    for (stack, value) in named.stacks.iter().zip(&values) {
        if value.iter().all(|value| *value == 0.0) {
            continue;
        }
        let mut location_id = Vec::new();
        for input in stack {
            let index = named.table.place_index(*input);
            let id = match locations.get(&index) {
                Some(id) => *id,
                None => {
                    let place = named.table.place(*input);
                    let id = enter_location(&mut result, &named, place, &mut functions, &mut texts);
                    locations.insert(index, id);
                    id
                }
            };
            location_id.push(id);
        }
        let value = value.iter().map(|value| value.round() as i64).collect();
        result.sample.push(Sample { location_id, value });
    }
    result.string_table = texts.table;
    result
}

fn enter_modules(result: &mut Profile, named: &Named, texts: &mut Texts) {
    for (index, module) in named.table.modules().iter().enumerate() {
        let here = named.table.places().iter().filter(|place| place.module == Some(index as u32));
        let highest = here.map(|place| place.offset).max();
        result.mapping.push(Mapping {
            id: index as u64 + 1,
            memory_start: 0,
            memory_limit: highest.unwrap_or(0).saturating_add(1),
            filename: texts.number(&module.path),
            build_id: texts.number(&module.build_id),
            has_functions: true,
            has_filenames: module.has_debug_information,
            has_line_numbers: module.has_debug_information,
            has_inline_frames: module.has_debug_information,
        });
    }
}

fn enter_location(
    result: &mut Profile,
    named: &Named,
    place: &Place,
    functions: &mut HashMap<(String, String), u64>,
    texts: &mut Texts,
) -> u64 {
    let mut line = Vec::new();
    for (index, frame) in place.frames.iter().enumerate() {
        let key = (named.table.label(place, index), frame.file.to_string());
        let function_id = *functions.entry(key).or_insert_with_key(|(name, file)| {
            let id = result.function.len() as u64 + 1;
            let name = texts.number(name);
            let filename = texts.number(file);
            result.function.push(Function { id, name, system_name: name, filename });
            id
        });
        line.push(Line { function_id, line: i64::from(frame.line) });
    }
    let id = result.location.len() as u64 + 1;
    let mapping_id = place.module.map_or(0, |module| u64::from(module) + 1);
    result.location.push(Location { id, mapping_id, address: place.offset, line });
    id
}

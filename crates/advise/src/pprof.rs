//! Export as a profile for pprof and everything that reads it.
//!
//! The messages are those of `perftools.profiles.Profile` (profile.proto of the pprof project),
//! as far as a heap profile needs them.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use heapwright_format::stacks::StackId;
use prost::Message;

use crate::analysis::Analysis;
use crate::pprof_builder::ProfileBuilder;

/// A profile: samples over locations over functions.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// What the values of each sample mean.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// One a stack.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Modules.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Addresses.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All texts; others refer to them by position. The first is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Seconds since 1970, in nanoseconds.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// Length of the recording in nanoseconds.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// Unit of the sampling period.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// Mean bytes between samples; 1 when all is recorded.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// The sample type to show first, as a text.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// Meaning and unit of a value, as texts.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ValueType {
    /// Meaning.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack and its values.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// Locations, innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One a sample type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
}

/// A module.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Mapping {
    /// Number, from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// Last address + 1.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// File, as a text.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Build id in hex, as a text.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Functions have been looked up.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Files have been looked up.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Lines have been looked up.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Inlined functions have been looked up.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// An address with its functions.
#[derive(Clone, PartialEq, Message)]
pub struct Location {
    /// Number, from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Module; 0 for none.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// Address, as the module's file has it.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// Functions, innermost (inlined) first.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A function at an address.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Line {
    /// Function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// Source line.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Function {
    /// Number, from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Name, as a text.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// The same.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Source file, as a text.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}

/// What a sample's values are: pprof's own names for heap profiles, and the peak.
const SAMPLE_TYPES: [(&str, &str); 6] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("peak_objects", "count"),
    ("peak_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

/// Facts about the recording that a profile states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileTimes {
    /// Seconds since 1970 at the start.
    pub started_unix_s: u64,
    /// Mean bytes between samples; 0 when all is recorded.
    pub sample_bytes: u64,
}

impl Profile {
    /// The profile of `analysis`: allocations, live at the peak and live at the end (`inuse`),
    /// each as blocks and bytes, by stack.
    pub fn new(analysis: &Analysis, times: ProfileTimes) -> Self {
        let table = &analysis.stacks.table;
        let mut builder = ProfileBuilder::new(SAMPLE_TYPES, "alloc_space");
        builder.profile.time_nanos = times.started_unix_s.saturating_mul(1_000_000_000) as i64;
        builder.profile.duration_nanos = (analysis.info.duration_s * 1e9) as i64;
        builder.profile.period = times.sample_bytes.max(1) as i64;
        builder.enter_modules(table);
        for (index, totals) in analysis.stack_totals.iter().enumerate() {
            if totals.allocs == 0 {
                continue;
            }
            let value = [
                totals.allocs,
                totals.bytes,
                totals.peak_blocks,
                totals.peak_bytes,
                totals.end_blocks,
                totals.end_bytes,
            ];
            let places = analysis.stacks.place_indices(StackId(index as u32));
            builder.enter_sample(table, places, value.map(|value| value as i64));
        }
        builder.finish()
    }

    /// Writes the profile as pprof reads it: encoded, compressed by gzip.
    ///
    /// # Errors
    /// What writing gives.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut encoder = GzEncoder::new(out, Compression::default());
        encoder.write_all(&self.encode_to_vec())?;
        encoder.finish()?.flush()
    }
}

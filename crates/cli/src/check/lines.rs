//! The lines that the object writes: raw addresses, and the modules they lie in.

use crate::failure::Failure;
use heapwright_format::merge::Module;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// A finding with raw addresses.
#[derive(Debug, Deserialize)]
pub(crate) struct RawFinding {
    pub kind: String,
    pub pid: u32,
    pub thread: u32,
    pub address: u64,
    pub bytes: u64,
    pub access: Option<String>,
    #[serde(default)]
    pub via: String,
    #[serde(default)]
    pub told: u64,
    #[serde(default)]
    pub leaked_bytes: u64,
    #[serde(default)]
    pub indirect: bool,
    #[serde(default)]
    pub signal: i32,
    pub filler: Option<u8>,
    pub fatal: bool,
    pub stack: Vec<u64>,
    pub block: Option<RawBlock>,
    pub exe: String,
    pub modules: Vec<RawModule>,
}

/// A block with raw stacks.
#[derive(Debug, Deserialize)]
pub(crate) struct RawBlock {
    pub start: u64,
    pub bytes: u64,
    pub state: String,
    pub watch: String,
    pub allocator: String,
    pub deallocator: String,
    pub alloc_thread: u32,
    pub free_thread: u32,
    pub alloc_stack: Vec<u64>,
    #[serde(default)]
    pub free_stack: Vec<u64>,
}

/// A module.
#[derive(Debug, Deserialize)]
pub(crate) struct RawModule {
    start: u64,
    end: u64,
    bias: u64,
    path: String,
    build_id: String,
}

/// The stack of a call site.
#[derive(Debug, Deserialize)]
pub(crate) struct RawSite {
    pub pid: u32,
    pub exe: String,
    pub stack: Vec<u64>,
    pub modules: Vec<RawModule>,
}

/// What a process counted, told at its end.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Counts {
    pub pid: u32,
    pub exe: String,
    pub blocks: u64,
    pub guarded: u64,
    pub packed: u64,
    /// Blocks that were to have guard pages and could not.
    pub unguardable: u64,
    /// Blocks that were served without any check.
    pub unchecked: u64,
    /// Times that addresses were used again.
    pub wraps: u64,
    /// Whether guards cost no mappings.
    pub markers: bool,
    /// What became of the search for leaks.
    pub leaks: String,
}

/// A line.
pub(crate) enum Line {
    Found(Box<RawFinding>),
    Counts(Counts),
    Site(RawSite),
    Sites(Vec<u64>),
}

impl RawModule {
    /// The module as the symbolizer takes it.
    pub(crate) fn module(&self) -> Module {
        let digits = self.build_id.as_bytes().chunks(2);
        let byte = |pair: &[u8]| {
            str::from_utf8(pair).ok().and_then(|text| u8::from_str_radix(text, 16).ok())
        };
        Module {
            start: self.start,
            end: self.end,
            bias: self.bias,
            build_id: digits.filter_map(byte).collect(),
            path: self.path.clone(),
            time: 0,
        }
    }
}

/// Reads a report file as it grows.
pub(crate) struct Reader {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0, rest: Vec::new() }
    }

    /// The whole lines that came since the last time.
    pub(crate) fn lines(&mut self) -> Result<Vec<Line>, Failure> {
        let mut file = File::open(&self.path).map_err(Failure::ours)?;
        file.seek(SeekFrom::Start(self.offset)).map_err(Failure::ours)?;
        let read = file.read_to_end(&mut self.rest).map_err(Failure::ours)?;
        self.offset += read as u64;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        // A line that was cut, since it is too long or its process was killed, is left out.
        Ok(whole.split(|byte| *byte == b'\n').filter_map(parse).collect())
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let value: Value = serde_json::from_slice(line).ok()?;
    match value["kind"].as_str()? {
        "end" => serde_json::from_value(value).ok().map(Line::Counts),
        "site" => serde_json::from_value(value).ok().map(Line::Site),
        "sites" => {
            let sites = value["sites"].as_array()?.iter();
            let numbers = sites.filter_map(|site| u64::from_str_radix(site.as_str()?, 16).ok());
            Some(Line::Sites(numbers.collect()))
        }
        _ => serde_json::from_value(value).ok().map(|raw| Line::Found(Box::new(raw))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, parse};

    #[test]
    fn lines_are_told_apart_and_broken_ones_left_out() {
        let sites = br#"{"v":1,"kind":"sites","pid":1,"sites":["1f","ff"]}"#;
        assert!(matches!(parse(sites), Some(Line::Sites(found)) if found == [0x1f, 0xff]));
        assert!(parse(br#"{"v":1,"kind":"overflow","pid":1,"#).is_none());
        let leak = br#"{"v":1,"kind":"leak","pid":7,"thread":0,"address":16,"bytes":0,"told":2,
            "leaked_bytes":64,"indirect":false,"fatal":false,"stack":[],"exe":"/a","modules":[]}"#;
        assert!(matches!(parse(leak), Some(Line::Found(raw)) if raw.leaked_bytes == 64));
    }
}

//! Opening a recording: what is whole is read, what is not is named.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::columns::join;
use super::info::{EndInfo, ProcessEndInfo, ProcessInfo, SessionInfo};
use super::pack::unpack;
use super::section::{
    Codec, EventsHead, FILE_HEAD_BYTES, FILE_MAGIC, FILE_VERSION, SECTION_HEAD_BYTES, SectionHead,
    SectionKind,
};
use crate::chunk::COLUMN_COUNT;

/// Most bytes a section may claim: far above a chunk, far below what hurts.
const SECTION_BYTES_MAX: u32 = 64 << 20;

/// Why a file cannot be read as a recording at all.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened or read.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is empty.
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file does not begin as a recording does.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A recording of another version.
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A head of another length than this version has: damaged.
    Head {
        /// The file.
        path: PathBuf,
        /// The length that it claims, in bytes.
        claimed: u32,
    },
    /// A recording cut off before it says what it is about.
    Headless {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        offset: u64,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            Self::Empty { path } => write!(
                f,
                "{} is empty: the recording was never started; record it again",
                path.display()
            ),
            Self::Foreign { path } => write!(
                f,
                "{} is not a Heapwright recording (its first bytes at offset 0 differ); \
                 make one with: heapwright record -o FILE -- CMD",
                path.display()
            ),
            Self::Version { path, found } => write!(
                f,
                "{} is a recording of version {found}, this heapwright reads version \
                 {FILE_VERSION}; record it again or use the heapwright that made it",
                path.display()
            ),
            Self::Head { path, claimed } => write!(
                f,
                "{} is damaged at offset 12: its head claims {claimed} bytes instead of \
                 {FILE_HEAD_BYTES}; copy it again, or record it again",
                path.display()
            ),
            Self::Headless { path, offset } => write!(
                f,
                "{} is cut off at offset {offset}, before any event; record it again",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// A part of the file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file.
    pub offset: u64,
    /// What, in plain words.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at offset {}: {}", self.offset, self.text)
    }
}

#[derive(Clone, Copy, Debug)]
struct EventsSection {
    payload_offset: u64,
    head: SectionHead,
}

/// One process of a recording.
#[derive(Clone, Debug)]
pub struct ProcessRecord {
    /// What it said of itself.
    pub info: ProcessInfo,
    /// How it ended; none when the recording was cut off before.
    pub end: Option<ProcessEndInfo>,
    /// Events in readable sections.
    pub events: u64,
    sections: Vec<EventsSection>,
}

impl ProcessRecord {
    /// Number of sections with events.
    pub fn section_count(&self) -> usize {
        self.sections.len()
    }

    /// The head of section `index`.
    pub fn section_head(&self, index: usize) -> EventsHead {
        self.sections[index].head.events
    }
}

/// An opened recording: its facts, and an index of its events.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    file: File,
    file_bytes: u64,
    session: SessionInfo,
    end: Option<EndInfo>,
    processes: Vec<ProcessRecord>,
    problems: Vec<Problem>,
}

impl Recording {
    /// Reads the heads of all sections of the file at `path`.
    ///
    /// O(sections); events are read later. A torn file opens; [`Self::problems`] tells what is
    /// missing.
    ///
    /// # Errors
    /// [`OpenError`] when not even the facts about the session can be read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io_error = |error| OpenError::Io { path: path.to_owned(), error };
        let file = File::open(path).map_err(io_error)?;
        let metadata = file.metadata().map_err(io_error)?;
        if metadata.is_dir() {
            return Err(io_error(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        if metadata.len() == 0 {
            return Err(OpenError::Empty { path: path.to_owned() });
        }
        let mut head = [0; FILE_HEAD_BYTES];
        let head_bytes = (metadata.len() as usize).min(FILE_HEAD_BYTES);
        file.read_exact_at(&mut head[..head_bytes], 0).map_err(io_error)?;
        if head[..8] != FILE_MAGIC {
            return Err(OpenError::Foreign { path: path.to_owned() });
        }
        let version = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
        if version != FILE_VERSION {
            return Err(OpenError::Version { path: path.to_owned(), found: version });
        }
        let claimed = u32::from_le_bytes(head[12..16].try_into().expect("four bytes"));
        if head_bytes == FILE_HEAD_BYTES && claimed as usize != FILE_HEAD_BYTES {
            return Err(OpenError::Head { path: path.to_owned(), claimed });
        }
        let mut recording = Self {
            path: path.to_owned(),
            file,
            file_bytes: metadata.len(),
            session: SessionInfo::default(),
            end: None,
            processes: Vec::new(),
            problems: Vec::new(),
        };
        recording.index()?;
        Ok(recording)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// How the recording was made.
    pub fn session(&self) -> &SessionInfo {
        &self.session
    }

    /// How it ended; none when it was cut off.
    pub fn end(&self) -> Option<&EndInfo> {
        self.end.as_ref()
    }

    /// Time units a second: the better of the two measurements.
    pub fn units_per_second(&self) -> f64 {
        let measured = self.end.as_ref().map(|end| end.units_per_second).filter(|&rate| rate > 0.0);
        measured.unwrap_or(self.session.units_per_second).max(1.0)
    }

    /// All processes, in the order they were seen.
    pub fn processes(&self) -> &[ProcessRecord] {
        &self.processes
    }

    /// The process with the most events; none when there is no process at all.
    pub fn main_process(&self) -> Option<usize> {
        (0..self.processes.len())
            .max_by_key(|&index| (self.processes[index].events, std::cmp::Reverse(index)))
    }

    /// What could not be read.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The bytes of section `index` of process `process`, unpacked into `out`.
    ///
    /// # Errors
    /// The [`Problem`] that makes the section unreadable.
    pub fn section_events(
        &self,
        process: usize,
        index: usize,
        out: &mut Vec<u8>,
    ) -> Result<EventsHead, Problem> {
        let section = &self.processes[process].sections[index];
        self.payload(section.payload_offset, &section.head, out)?;
        Ok(section.head.events)
    }

    fn payload(&self, offset: u64, head: &SectionHead, out: &mut Vec<u8>) -> Result<(), Problem> {
        let problem = |text: String| Problem { offset, text };
        let mut stored = vec![0; head.stored_bytes as usize];
        self.file
            .read_exact_at(&mut stored, offset)
            .map_err(|error| problem(format!("the section cannot be read: {error}")))?;
        if crc32fast::hash(&stored) != head.payload_crc {
            return Err(problem("the section's checksum is wrong; its events are lost".into()));
        }
        let unpacked = match head.codec {
            Codec::Raw => Some(stored),
            Codec::Zstd => zstd::bulk::decompress(&stored, head.raw_bytes as usize).ok(),
            Codec::Columns => unpack_columns(&stored),
        };
        *out = unpacked.ok_or(problem("the section cannot be unpacked".into()))?;
        Ok(())
    }

    fn index(&mut self) -> Result<(), OpenError> {
        let mut offset = FILE_HEAD_BYTES as u64;
        let mut has_session = false;
        while offset < self.file_bytes {
            let Some(head) = self.section_head_at(offset) else { break };
            let payload_offset = offset + SECTION_HEAD_BYTES as u64;
            let next = payload_offset + u64::from(head.stored_bytes);
            if next > self.file_bytes {
                let missing = next - self.file_bytes;
                let text = format!("the last section is cut off, {missing} bytes are missing");
                self.problems.push(Problem { offset, text });
                break;
            }
            match self.enter(payload_offset, &head) {
                Ok(()) => has_session |= head.kind == SectionKind::Session,
                Err(problem) => self.problems.push(problem),
            }
            offset = next;
        }
        if !has_session {
            return Err(OpenError::Headless { path: self.path.clone(), offset });
        }
        if self.end.is_none() {
            let text = "the recording was cut off here; everything before is read".into();
            self.problems.push(Problem { offset: offset.min(self.file_bytes), text });
        }
        Ok(())
    }

    fn section_head_at(&mut self, offset: u64) -> Option<SectionHead> {
        let mut bytes = [0; SECTION_HEAD_BYTES];
        let text = if self.file.read_exact_at(&mut bytes, offset).is_err() {
            "the head of a section is cut off"
        } else {
            match SectionHead::from_bytes(&bytes) {
                Some(head) if head.raw_bytes.max(head.stored_bytes) <= SECTION_BYTES_MAX => {
                    return Some(head);
                }
                _ => "this is not the head of a section; nothing after it can be read",
            }
        };
        self.problems.push(Problem { offset, text: text.into() });
        None
    }

    fn enter(&mut self, payload_offset: u64, head: &SectionHead) -> Result<(), Problem> {
        match head.kind {
            SectionKind::Session => self.session = self.json(payload_offset, head)?,
            SectionKind::End => self.end = Some(self.json(payload_offset, head)?),
            SectionKind::Process => {
                let info: ProcessInfo = self.json(payload_offset, head)?;
                let process = info.process;
                self.process_mut(process).info = info;
            }
            SectionKind::ProcessEnd => {
                let end: ProcessEndInfo = self.json(payload_offset, head)?;
                let process = end.process;
                self.process_mut(process).end = Some(end);
            }
            SectionKind::Events => {
                let process = self.process_mut(head.events.process);
                process.events += u64::from(head.events.events);
                process.sections.push(EventsSection { payload_offset, head: *head });
            }
        }
        Ok(())
    }

    fn process_mut(&mut self, number: u32) -> &mut ProcessRecord {
        // Numbers are dense; a lost process section leaves a gap that is filled with a blank.
        let number = (number as usize).min(self.processes.len() + 4096);
        while self.processes.len() <= number {
            let process = self.processes.len() as u32;
            self.processes.push(ProcessRecord {
                info: ProcessInfo { process, page_bytes: 4096, ..ProcessInfo::default() },
                end: None,
                events: 0,
                sections: Vec::new(),
            });
        }
        &mut self.processes[number]
    }

    fn json<T: DeserializeOwned>(&self, offset: u64, head: &SectionHead) -> Result<T, Problem> {
        let mut text = Vec::new();
        self.payload(offset, head, &mut text)?;
        serde_json::from_slice(&text)
            .map_err(|error| Problem { offset, text: format!("unreadable facts: {error}") })
    }
}

fn unpack_columns(stored: &[u8]) -> Option<Vec<u8>> {
    let (lengths, mut packed) = stored.split_at_checked(COLUMN_COUNT * 8)?;
    let mut columns: [Vec<u8>; COLUMN_COUNT] = Default::default();
    for (column, length) in columns.iter_mut().zip(lengths.chunks_exact(8)) {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let (bytes, packed_bytes) = (word(&length[..4]) as usize, word(&length[4..]) as usize);
        if bytes > SECTION_BYTES_MAX as usize {
            return None;
        }
        let (part, rest) = packed.split_at_checked(packed_bytes)?;
        *column = unpack(part, bytes)?;
        packed = rest;
    }
    join(&columns.each_ref().map(Vec::as_slice))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{OpenError, Recording};
    use crate::file::{EndInfo, EventsHead, FileWriter, ProcessInfo, SessionInfo};

    fn sample() -> Vec<u8> {
        let session = SessionInfo { command: vec!["true".into()], ..SessionInfo::default() };
        let mut writer = FileWriter::new(Vec::new(), 1, &session).expect("memory");
        let process = ProcessInfo { pid: 7, ..ProcessInfo::default() };
        writer.process(&process).expect("memory");
        for thread in 0..3 {
            let head = EventsHead { thread, events: 10, ..EventsHead::default() };
            writer
                .events(head, &[&[0x1b, thread as u8].repeat(500), &[], &[], &[], &[]])
                .expect("memory");
        }
        writer.finish(&EndInfo::default()).expect("memory")
    }

    fn open(bytes: &[u8]) -> (tempfile::TempDir, Result<Recording, OpenError>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path: PathBuf = folder.path().join("test.hwr");
        std::fs::write(&path, bytes).expect("write");
        let result = Recording::open(&path);
        (folder, result)
    }

    #[test]
    fn a_whole_file_has_no_problems() {
        let (_folder, recording) = open(&sample());
        let recording = recording.expect("whole");
        assert_eq!(recording.problems(), []);
        assert_eq!(recording.processes()[0].events, 30);
        assert_eq!(recording.processes()[0].info.pid, 7);
        let mut events = Vec::new();
        let head = recording.section_events(0, 2, &mut events).expect("readable");
        assert_eq!((head.thread, events), (2, [0x1b, 2].repeat(500)));
    }

    #[test]
    fn every_cut_is_named_with_its_offset_and_keeps_what_is_before() {
        let bytes = sample();
        let mut kept = 0;
        for cut in 0..bytes.len() {
            match open(&bytes[..cut]).1 {
                Ok(recording) => {
                    let problem = recording.problems().last().expect("a cut is a problem");
                    assert!(problem.offset <= cut as u64);
                    let events = recording.processes().first().map_or(0, |process| process.events);
                    assert!(events >= kept, "a longer file never holds less");
                    kept = events;
                }
                Err(OpenError::Empty { .. }) => assert_eq!(cut, 0),
                Err(OpenError::Foreign { .. }) => assert!(cut < 8),
                Err(OpenError::Version { .. }) => assert!(cut < 16),
                Err(OpenError::Headless { .. }) => assert_eq!(kept, 0),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(kept, 30);
    }

    #[test]
    fn a_head_of_another_length_is_damage() {
        for index in 12..16 {
            let mut bytes = sample();
            bytes[index] ^= 0x40;
            let error = open(&bytes).1.expect_err("it is refused");
            assert!(error.to_string().contains("damaged at offset 12"), "{error}");
        }
    }

    #[test]
    fn a_flipped_byte_loses_one_section_at_most() {
        let bytes = sample();
        for index in 16..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[index] ^= 0x40;
            let (_folder, recording) = open(&bytes);
            let Ok(recording) = recording else { continue };
            let mut unreadable = recording.problems().len();
            for process in 0..recording.processes().len() {
                for section in 0..recording.processes()[process].section_count() {
                    let result = recording.section_events(process, section, &mut Vec::new());
                    unreadable += usize::from(result.is_err());
                }
            }
            assert!(unreadable > 0, "the flip at {index} went unseen");
        }
    }

    #[test]
    fn foreign_older_and_newer_files_are_told_apart() {
        assert!(matches!(open(b"#!/bin/sh\n").1, Err(OpenError::Foreign { .. })));
        for version in [1, 2, 9] {
            let mut other = sample();
            other[8] = version;
            let error = open(&other).1.expect_err("it is refused");
            assert!(
                matches!(error, OpenError::Version { found, .. } if found == u32::from(version))
            );
            let text = error.to_string();
            assert!(text.contains(&format!("a recording of version {version}, ")), "{text}");
            assert!(text.contains("reads version 3; record it again"), "{text}");
        }
    }
}

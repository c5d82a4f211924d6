//! The collector's side of the file.

use std::io::{self, Write};

use serde::Serialize;
use zstd::bulk::Compressor;

use super::info::{EndInfo, ProcessEndInfo, ProcessInfo, SessionInfo};
use super::section::{
    EventsHead, FILE_HEAD_BYTES, FILE_MAGIC, FILE_VERSION, SECTION_HEAD_BYTES, SectionHead,
    SectionKind,
};

/// Writes a recording, section by section.
pub struct FileWriter<W: Write> {
    out: W,
    compressor: Compressor<'static>,
    buffer: Vec<u8>,
    bytes: u64,
}

impl<W: Write> FileWriter<W> {
    /// Writes the file's head and the session's facts. `level` is zstd's, 1 (fast) to 19.
    ///
    /// # Errors
    /// What writing to `out` gives.
    pub fn new(mut out: W, level: i32, session: &SessionInfo) -> io::Result<Self> {
        out.write_all(&FILE_MAGIC)?;
        out.write_all(&FILE_VERSION.to_le_bytes())?;
        out.write_all(&(FILE_HEAD_BYTES as u32).to_le_bytes())?;
        let compressor = Compressor::new(level)?;
        let buffer = Vec::new();
        let mut writer = Self { out, compressor, buffer, bytes: FILE_HEAD_BYTES as u64 };
        writer.json(SectionKind::Session, session)?;
        Ok(writer)
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A process has been seen.
    ///
    /// # Errors
    /// What writing gives.
    pub fn process(&mut self, info: &ProcessInfo) -> io::Result<()> {
        self.json(SectionKind::Process, info)
    }

    /// A chunk of events as the recorder wrote it.
    ///
    /// # Errors
    /// What writing gives; the file then ends with a torn section, which readers skip.
    pub fn events(&mut self, head: EventsHead, chunk: &[u8]) -> io::Result<()> {
        self.section(SectionKind::Events, head, chunk)
    }

    /// A process has gone.
    ///
    /// # Errors
    /// What writing gives.
    pub fn process_end(&mut self, info: &ProcessEndInfo) -> io::Result<()> {
        self.json(SectionKind::ProcessEnd, info)
    }

    /// Ends the recording; gives the inner writer back, flushed.
    ///
    /// # Errors
    /// What writing gives.
    pub fn finish(mut self, info: &EndInfo) -> io::Result<W> {
        self.json(SectionKind::End, info)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn json(&mut self, kind: SectionKind, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(value)?;
        self.section(kind, EventsHead::default(), &text)
    }

    fn section(&mut self, kind: SectionKind, events: EventsHead, raw: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.resize(SECTION_HEAD_BYTES + zstd::zstd_safe::compress_bound(raw.len()), 0);
        let packed =
            self.compressor.compress_to_buffer(raw, &mut self.buffer[SECTION_HEAD_BYTES..])?;
        let compressed = packed < raw.len();
        let stored_bytes = if compressed { packed } else { raw.len() };
        self.buffer.truncate(SECTION_HEAD_BYTES + stored_bytes);
        if !compressed {
            self.buffer[SECTION_HEAD_BYTES..].copy_from_slice(raw);
        }
        let head = SectionHead {
            kind,
            compressed,
            raw_bytes: raw.len() as u32,
            stored_bytes: stored_bytes as u32,
            payload_crc: crc32fast::hash(&self.buffer[SECTION_HEAD_BYTES..]),
            events,
        };
        self.buffer[..SECTION_HEAD_BYTES].copy_from_slice(&head.to_bytes());
        self.out.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        Ok(())
    }
}

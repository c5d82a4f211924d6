//! The collector's side of the file.

use std::io::{self, Write};

use serde::Serialize;

use super::info::{EndInfo, ProcessEndInfo, ProcessInfo, SessionInfo};
use super::pack::Packer;
use super::section::{
    Codec, EventsHead, FILE_HEAD_BYTES, FILE_MAGIC, FILE_VERSION, SECTION_HEAD_BYTES, SectionHead,
    SectionKind,
};
use crate::chunk::{COLUMN_COUNT, Columns};

/// Writes a recording, section by section.
pub struct FileWriter<W: Write> {
    out: W,
    packer: Packer,
    buffer: Vec<u8>,
    bytes: u64,
}

impl<W: Write> FileWriter<W> {
    /// Writes the file's head and the session's facts. `level` is zstd's: below 0 (fastest) to 19.
    ///
    /// # Errors
    /// What writing to `out` gives.
    pub fn new(mut out: W, level: i32, session: &SessionInfo) -> io::Result<Self> {
        out.write_all(&FILE_MAGIC)?;
        out.write_all(&FILE_VERSION.to_le_bytes())?;
        out.write_all(&(FILE_HEAD_BYTES as u32).to_le_bytes())?;
        let packer = Packer::new(level)?;
        let buffer = Vec::new();
        let mut writer = Self { out, packer, buffer, bytes: FILE_HEAD_BYTES as u64 };
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

    /// A chunk of events as the recorder wrote it: [`crate::chunk::columns`].
    ///
    /// # Errors
    /// What writing gives; the file then ends with a torn section, which readers skip.
    pub fn events(&mut self, head: EventsHead, columns: &Columns<'_>) -> io::Result<()> {
        self.begin_section();
        let lengths = self.buffer.len();
        self.buffer.resize(lengths + COLUMN_COUNT * 8, 0);
        let thread = head.process.wrapping_mul(5).wrapping_add(head.thread) as usize;
        for (index, column) in columns.iter().enumerate() {
            let start = self.buffer.len();
            self.packer.column((thread, index), column, &mut self.buffer)?;
            let (raw, packed) = (column.len() as u32, (self.buffer.len() - start) as u32);
            let place = lengths + 8 * index;
            self.buffer[place..place + 4].copy_from_slice(&raw.to_le_bytes());
            self.buffer[place + 4..place + 8].copy_from_slice(&packed.to_le_bytes());
        }
        let raw_bytes = columns.iter().map(|column| column.len()).sum();
        self.end_section(SectionKind::Events, Codec::Columns, raw_bytes, head)
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
        self.begin_section();
        let mut codec = Codec::Zstd;
        self.packer.frame(&text, &mut self.buffer)?;
        if self.buffer.len() - SECTION_HEAD_BYTES >= text.len() {
            codec = Codec::Raw;
            self.begin_section();
            self.buffer.extend_from_slice(&text);
        }
        self.end_section(kind, codec, text.len(), EventsHead::default())
    }

    /// Room for a section's head, and nothing behind it.
    fn begin_section(&mut self) {
        self.buffer.clear();
        self.buffer.resize(SECTION_HEAD_BYTES, 0);
    }

    /// Writes the section whose payload stands in the buffer.
    fn end_section(
        &mut self,
        kind: SectionKind,
        codec: Codec,
        raw_bytes: usize,
        events: EventsHead,
    ) -> io::Result<()> {
        let head = SectionHead {
            kind,
            codec,
            raw_bytes: raw_bytes as u32,
            stored_bytes: (self.buffer.len() - SECTION_HEAD_BYTES) as u32,
            payload_crc: crc32fast::hash(&self.buffer[SECTION_HEAD_BYTES..]),
            events,
        };
        self.buffer[..SECTION_HEAD_BYTES].copy_from_slice(&head.to_bytes());
        self.out.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        Ok(())
    }
}

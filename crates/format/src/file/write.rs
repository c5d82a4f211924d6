//! The collector's side of the file.

use std::io::{self, Write};

use serde::Serialize;
use zstd::bulk::Compressor;

use super::columns::{COLUMN_COUNT, Columns};
use super::info::{EndInfo, ProcessEndInfo, ProcessInfo, SessionInfo};
use super::section::{
    Codec, EventsHead, FILE_HEAD_BYTES, FILE_MAGIC, FILE_VERSION, SECTION_HEAD_BYTES, SectionHead,
    SectionKind,
};

/// Writes a recording, section by section.
pub struct FileWriter<W: Write> {
    out: W,
    compressor: Compressor<'static>,
    buffer: Vec<u8>,
    columns: Columns,
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
        let columns = Columns::default();
        let mut writer = Self { out, compressor, buffer, columns, bytes: FILE_HEAD_BYTES as u64 };
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
        self.buffer.resize(SECTION_HEAD_BYTES, 0);
        let in_columns = kind == SectionKind::Events && self.pack_columns(raw)?;
        let codec = if in_columns {
            Codec::Columns
        } else {
            self.buffer.truncate(SECTION_HEAD_BYTES);
            self.pack(raw)?;
            Codec::Zstd
        };
        let codec = if self.buffer.len() < SECTION_HEAD_BYTES + raw.len() {
            codec
        } else {
            self.buffer.truncate(SECTION_HEAD_BYTES);
            self.buffer.extend_from_slice(raw);
            Codec::Raw
        };
        let head = SectionHead {
            kind,
            codec,
            raw_bytes: raw.len() as u32,
            stored_bytes: (self.buffer.len() - SECTION_HEAD_BYTES) as u32,
            payload_crc: crc32fast::hash(&self.buffer[SECTION_HEAD_BYTES..]),
            events,
        };
        self.buffer[..SECTION_HEAD_BYTES].copy_from_slice(&head.to_bytes());
        self.out.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        Ok(())
    }

    /// Appends `raw`, packed, to the buffer.
    fn pack(&mut self, raw: &[u8]) -> io::Result<usize> {
        let start = self.buffer.len();
        self.buffer.resize(start + zstd::zstd_safe::compress_bound(raw.len()), 0);
        let packed = self.compressor.compress_to_buffer(raw, &mut self.buffer[start..])?;
        self.buffer.truncate(start + packed);
        Ok(packed)
    }

    /// Appends the chunk `raw` in columns; false when it is not a chunk as we know them.
    fn pack_columns(&mut self, raw: &[u8]) -> io::Result<bool> {
        let mut columns = std::mem::take(&mut self.columns);
        let is_chunk = columns.split(raw);
        if is_chunk {
            let lengths = self.buffer.len();
            self.buffer.resize(lengths + COLUMN_COUNT * 8, 0);
            for (index, column) in columns.get().into_iter().enumerate() {
                let packed = self.pack(column)?;
                let place = lengths + 8 * index;
                self.buffer[place..place + 4].copy_from_slice(&(column.len() as u32).to_le_bytes());
                self.buffer[place + 4..place + 8].copy_from_slice(&(packed as u32).to_le_bytes());
            }
        }
        self.columns = columns;
        Ok(is_chunk)
    }
}

//! A chunk taken apart into columns: heads, times, addresses, sizes, nodes, and the rest. Each
//! compresses by itself to three quarters of what the mixed bytes do.
//!
//! # Invariants
//! - I1: [`join`] of what [`Columns::split`] made is the chunk; heads tell the lengths of all fields.

use crate::wire::{ADDRESS_BYTES, FIELD_BYTES, NODE_BYTES, OP_ALLOC, OP_FREE};

/// Number of columns.
pub(super) const COLUMN_COUNT: usize = 6;

const HEADS: usize = 0;
const TIMES: usize = 1;
const ADDRESSES: usize = 2;
const SIZES: usize = 3;
const NODES: usize = 4;
/// Whole events of other operations, one after another.
const OTHERS: usize = 5;

/// Length of a field in a column.
type Field = (usize, usize);

/// The fields of an allocation, in order, by its two heads.
fn alloc_fields(head: u8, codes: u8) -> [Field; 4] {
    [
        (TIMES, FIELD_BYTES[usize::from(head >> 4 & 3)]),
        (ADDRESSES, ADDRESS_BYTES[usize::from(head >> 6)]),
        (SIZES, FIELD_BYTES[usize::from(codes & 3)]),
        (NODES, NODE_BYTES[usize::from(codes >> 2 & 3)]),
    ]
}

/// The fields of a plain free, in order, by its head.
fn free_fields(head: u8) -> [Field; 2] {
    let [time, address, ..] = alloc_fields(head, 0);
    [time, address]
}

/// The columns of one chunk after another: as long as the longest chunk so far and some more, since
/// fields are copied as whole words.
#[derive(Default)]
pub(super) struct Columns {
    bytes: [Vec<u8>; COLUMN_COUNT],
    used: [usize; COLUMN_COUNT],
}

/// Fields are copied by words of this many bytes.
const WORD_BYTES: usize = 8;

/// Bytes of the longest allocation, and of the word that its last field is copied by.
const EVENT_ROOM: usize = 2 + 8 + 8 + 8 + 4 + WORD_BYTES;

impl Columns {
    /// The columns, in order.
    pub(super) fn get(&self) -> [&[u8]; COLUMN_COUNT] {
        std::array::from_fn(|index| &self.bytes[index][..self.used[index]])
    }

    fn begin(&mut self, chunk_bytes: usize) {
        self.used = [0; COLUMN_COUNT];
        for column in &mut self.bytes {
            // A mark of three bytes stands for a run of two at least, and a plain event of three
            // or more, which is one byte here, follows it: so no column is more than a mark
            // longer than the chunk.
            let room = chunk_bytes + 2 * WORD_BYTES;
            if column.len() < room {
                column.resize(room, 0);
            }
        }
    }

    /// Appends the first `bytes` of `word`.
    #[inline(always)]
    fn put(&mut self, column: usize, word: [u8; WORD_BYTES], bytes: usize) {
        let used = self.used[column];
        self.bytes[column][used..used + WORD_BYTES].copy_from_slice(&word);
        self.used[column] = used + bytes;
    }

    fn put_slice(&mut self, column: usize, slice: &[u8]) {
        let used = self.used[column];
        self.bytes[column][used..used + slice.len()].copy_from_slice(slice);
        self.used[column] = used + slice.len();
    }

    /// Takes `chunk` apart. Runs of other operations stand in the last column as they are; a
    /// head of zero and the length of the run (two bytes) mark them among the heads. False when
    /// it does not end with an event.
    pub(super) fn split(&mut self, chunk: &[u8]) -> bool {
        self.begin(chunk.len());
        let mut offset = 0;
        while offset + EVENT_ROOM <= chunk.len() {
            let head = chunk[offset];
            offset = match head & 15 {
                OP_ALLOC => {
                    let codes = chunk[offset + 1];
                    self.put(HEADS, u64::from(head).to_le_bytes(), 1);
                    self.put(HEADS, u64::from(codes).to_le_bytes(), 1);
                    self.take(chunk, offset + 2, &alloc_fields(head, codes))
                }
                OP_FREE => {
                    self.put(HEADS, u64::from(head).to_le_bytes(), 1);
                    self.take(chunk, offset + 1, &free_fields(head))
                }
                _ => match self.take_others(chunk, offset) {
                    Some(next) => next,
                    None => return false,
                },
            };
        }
        self.split_end(chunk, offset).is_some()
    }

    #[inline(always)]
    fn take(&mut self, chunk: &[u8], mut offset: usize, fields: &[Field]) -> usize {
        for &(column, bytes) in fields {
            let mut word = [0; WORD_BYTES];
            word.copy_from_slice(&chunk[offset..offset + WORD_BYTES]);
            self.put(column, word, bytes);
            offset += bytes;
        }
        offset
    }

    fn take_others(&mut self, chunk: &[u8], offset: usize) -> Option<usize> {
        let bytes = other_bytes(&chunk[offset..])?;
        let mark = u64::from(u16::try_from(bytes).ok()?) << 8;
        self.put(HEADS, mark.to_le_bytes(), 3);
        self.put_slice(OTHERS, &chunk[offset..offset + bytes]);
        Some(offset + bytes)
    }

    /// The rest of the chunk, where a word may reach over its end.
    fn split_end(&mut self, chunk: &[u8], mut offset: usize) -> Option<()> {
        while offset < chunk.len() {
            let head = chunk[offset];
            let fields: &[Field] = match head & 15 {
                OP_ALLOC => {
                    let codes = *chunk.get(offset + 1)?;
                    self.put_slice(HEADS, &[head, codes]);
                    offset += 2;
                    &alloc_fields(head, codes)
                }
                OP_FREE => {
                    self.put_slice(HEADS, &[head]);
                    offset += 1;
                    &free_fields(head)
                }
                _ => {
                    offset = self.take_others(chunk, offset)?;
                    continue;
                }
            };
            for &(column, bytes) in fields {
                self.put_slice(column, chunk.get(offset..offset + bytes)?);
                offset += bytes;
            }
        }
        Some(())
    }
}

/// Bytes from the start of `chunk` to the next allocation or plain free.
fn other_bytes(chunk: &[u8]) -> Option<usize> {
    let mut end = 0;
    while end < chunk.len() && !matches!(chunk[end] & 15, OP_ALLOC | OP_FREE) {
        let next = end + crate::decode::event_bytes(&chunk[end..])?;
        if next > usize::from(u16::MAX) {
            break;
        }
        end = next;
    }
    (end != 0).then_some(end)
}

/// Puts a chunk of `bytes` bytes together again; none when the columns do not fit each other.
pub(super) fn join(columns: &[&[u8]; COLUMN_COUNT], bytes: usize) -> Option<Vec<u8>> {
    let mut chunk = Vec::with_capacity(bytes);
    let mut offsets = [0; COLUMN_COUNT];
    let mut put = |chunk: &mut Vec<u8>, (column, bytes): Field| {
        let end = offsets[column] + bytes;
        chunk.extend_from_slice(columns[column].get(offsets[column]..end)?);
        offsets[column] = end;
        Some(())
    };
    while chunk.len() < bytes {
        let start = chunk.len();
        put(&mut chunk, (HEADS, 1))?;
        let head = chunk[start];
        match head & 15 {
            OP_ALLOC => {
                put(&mut chunk, (HEADS, 1))?;
                let codes = chunk[start + 1];
                alloc_fields(head, codes)
                    .into_iter()
                    .try_for_each(|field| put(&mut chunk, field))?;
            }
            OP_FREE => {
                free_fields(head).into_iter().try_for_each(|field| put(&mut chunk, field))?;
            }
            _ => {
                put(&mut chunk, (HEADS, 2))?;
                let run = u16::from_le_bytes([chunk[start + 1], chunk[start + 2]]);
                chunk.truncate(start);
                put(&mut chunk, (OTHERS, usize::from(run)))?;
                if run == 0 {
                    return None;
                }
            }
        }
    }
    (chunk.len() == bytes).then_some(chunk)
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;

    use super::{COLUMN_COUNT, Columns, join};
    use crate::encode::{ChunkCursor, Encoder, TouchReport};
    use crate::kind::FreeKind;

    fn chunk() -> Vec<u8> {
        let mut bytes = vec![0u8; 60_000];
        let start = NonNull::new(bytes.as_mut_ptr()).expect("a vector");
        // SAFETY: the vector's own memory, written by this cursor alone.
        let mut cursor = unsafe { ChunkCursor::new(start, bytes.len()) };
        let mut encoder = Encoder::new(0);
        let mut seed = 7u64;
        for round in 0..3000u32 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (time, address) = (u64::from(round) * 900, seed >> 20 & !15);
            match seed >> 60 {
                0..6 => encoder.alloc(&mut cursor, time, address, seed >> 50, round % 700),
                6..10 => encoder.free(&mut cursor, time, address, FreeKind::Free),
                10 => encoder.free(&mut cursor, time, address, FreeKind::DeleteSized),
                11 => encoder.realloc(&mut cursor, time, time + 5, address, address + 16, 9, 4),
                12 => encoder.node_definition(&mut cursor, round + 1, round / 2, seed >> 17),
                13 => {
                    let runs = &[(3, 4), (1, 1000)];
                    let report = TouchReport { address, resident_pages: 5, page_count: 2000, runs };
                    encoder.touch(&mut cursor, time, report);
                }
                14 => encoder.module(&mut cursor, [1, 2, 3], &[9; 20], b"/lib/libc.so.6"),
                _ => encoder.unmap(&mut cursor, time, address, 4096),
            }
        }
        let used = cursor.position().addr().get() - start.addr().get();
        bytes.truncate(used);
        bytes
    }

    #[test]
    fn a_chunk_comes_back_from_its_columns() {
        let chunk = chunk();
        let mut columns = Columns::default();
        assert!(columns.split(&chunk));
        assert!(join(&columns.get(), chunk.len()).is_some_and(|joined| joined == chunk));
        // A shorter one afterwards has nothing of the longer one in it.
        let mut bytes = 0;
        while bytes < 5000 {
            bytes += crate::decode::event_bytes(&chunk[bytes..]).expect("well-formed");
        }
        assert!(columns.split(&chunk[..bytes]));
        assert!(join(&columns.get(), bytes).is_some_and(|joined| joined == chunk[..bytes]));
    }

    #[test]
    fn every_end_of_a_chunk_is_whole_or_refused() {
        let chunk = chunk();
        let mut columns = Columns::default();
        let mut end = 0;
        for bytes in 0..3000 {
            if end < bytes {
                end += crate::decode::event_bytes(&chunk[end..]).expect("well-formed");
            }
            assert_eq!(columns.split(&chunk[..bytes]), end == bytes, "{bytes}");
        }
    }

    #[test]
    fn torn_columns_are_refused() {
        let chunk = chunk();
        let mut columns = Columns::default();
        assert!(columns.split(&chunk));
        for index in 0..COLUMN_COUNT {
            let mut shorter = columns.get();
            let (_, rest) = shorter[index].split_last().expect("all are there");
            shorter[index] = rest;
            assert_eq!(join(&shorter, chunk.len()), None);
        }
    }
}

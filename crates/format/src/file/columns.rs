//! A chunk taken apart into columns: heads, times, addresses, sizes, nodes, and the rest. Each
//! compresses by itself to three quarters of what the mixed bytes do.
//!
//! # Invariants
//! - I1: [`join`] of what [`split`] made is the chunk; heads tell the lengths of all fields.

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

/// Takes `chunk` apart. Runs of other operations stand in the last column as they are; a head
/// of zero and the length of the run (two bytes) mark them among the heads.
pub(super) fn split(chunk: &[u8], columns: &mut [Vec<u8>; COLUMN_COUNT]) -> Option<()> {
    columns.iter_mut().for_each(Vec::clear);
    let mut offset = 0;
    while offset < chunk.len() {
        let head = chunk[offset];
        match head & 15 {
            OP_ALLOC => {
                let codes = *chunk.get(offset + 1)?;
                columns[HEADS].extend_from_slice(&[head, codes]);
                offset = take(chunk, offset + 2, &alloc_fields(head, codes), columns)?;
            }
            OP_FREE => {
                columns[HEADS].push(head);
                offset = take(chunk, offset + 1, &free_fields(head), columns)?;
            }
            _ => {
                let bytes = other_bytes(&chunk[offset..])?;
                columns[HEADS].push(0);
                columns[HEADS].extend_from_slice(&u16::try_from(bytes).ok()?.to_le_bytes());
                columns[OTHERS].extend_from_slice(&chunk[offset..offset + bytes]);
                offset += bytes;
            }
        }
    }
    Some(())
}

fn take(
    chunk: &[u8],
    mut offset: usize,
    fields: &[Field],
    columns: &mut [Vec<u8>; COLUMN_COUNT],
) -> Option<usize> {
    for &(column, bytes) in fields {
        columns[column].extend_from_slice(chunk.get(offset..offset + bytes)?);
        offset += bytes;
    }
    Some(offset)
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

    use super::{COLUMN_COUNT, join, split};
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
        let mut columns: [Vec<u8>; COLUMN_COUNT] = Default::default();
        split(&chunk, &mut columns).expect("well-formed");
        let columns = columns.each_ref().map(Vec::as_slice);
        assert!(join(&columns, chunk.len()).is_some_and(|joined| joined == chunk));
    }

    #[test]
    fn torn_chunks_and_columns_are_refused() {
        let chunk = chunk();
        let mut columns: [Vec<u8>; COLUMN_COUNT] = Default::default();
        let refused = (1..300).filter(|&cut| split(&chunk[..cut], &mut columns).is_none()).count();
        assert!(refused > 100, "most cuts are inside an event");
        split(&chunk, &mut columns).expect("well-formed");
        for index in 0..COLUMN_COUNT {
            let mut shorter = columns.clone();
            shorter[index].pop();
            assert_eq!(join(&shorter.each_ref().map(Vec::as_slice), chunk.len()), None);
        }
    }
}

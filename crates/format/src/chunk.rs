//! A chunk: columns side by side, which the recorder fills and the collector packs one by one.
//!
//! Allocations, frees and resizings have their heads, times, addresses, sizes and nodes in a column
//! each; other events stand whole among the heads. Like with like compresses to three quarters of
//! what mixed bytes do, and nobody has to take events apart for it.
//!
//! # Invariants
//! - I1: behind each column of a [`ChunkCursor`] there is memory of the chunk for a word, and for
//!   `room` plain events besides.
//! - I2: heads tell the lengths of all other columns (`layout`): what a killed program has written
//!   up to some head is whole.

use core::ptr::NonNull;

/// Bytes of a chunk. Large enough that a wake-up of the collector costs nothing per event, and
/// small enough that an idle thread's first chunk is cheap.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Number of columns.
pub const COLUMN_COUNT: usize = 5;

/// Heads of events, and the events that have no columns.
pub(crate) const HEADS: usize = 0;
pub(crate) const TIMES: usize = 1;
pub(crate) const ADDRESSES: usize = 2;
pub(crate) const SIZES: usize = 3;
pub(crate) const NODES: usize = 4;

/// Bytes of each column: as programs fill them, so that none is full much before the others.
const COLUMN_BYTES: [usize; COLUMN_COUNT] = [24 << 10, 10 << 10, 17 << 10, 13 << 9, 13 << 9];

/// Where the columns begin, and the chunk's end.
const COLUMN_STARTS: [usize; COLUMN_COUNT + 1] = {
    let mut starts = [0; COLUMN_COUNT + 1];
    let mut column = 0;
    while column < COLUMN_COUNT {
        starts[column + 1] = starts[column] + COLUMN_BYTES[column];
        column += 1;
    }
    starts
};

const _: () = assert!(COLUMN_STARTS[COLUMN_COUNT] == CHUNK_BYTES);

/// Fields are stored as words of this many bytes.
const WORD_BYTES: usize = 8;

/// Most bytes that a plain event adds to each column. A resizing is two plain events.
const PLAIN_BYTES: [usize; COLUMN_COUNT] = [2, 8, 8, 8, 4];

/// The columns of a chunk, in order: heads, times, addresses, sizes, nodes.
pub type Columns<'a> = [&'a [u8]; COLUMN_COUNT];

/// Where the next bytes of a chunk go.
#[derive(Debug)]
#[repr(C)]
pub struct ChunkCursor {
    next: [NonNull<u8>; COLUMN_COUNT],
    start: NonNull<u8>,
    /// Plain events that surely fit.
    room: u32,
}

impl ChunkCursor {
    /// A cursor at `start` of a chunk.
    ///
    /// # Safety
    /// - [`CHUNK_BYTES`] from `start` are writable memory that only this cursor writes for as long
    ///   as it is used.
    pub unsafe fn new(start: NonNull<u8>) -> Self {
        // SAFETY: the columns begin inside the caller's memory.
        let next = core::array::from_fn(|column| unsafe { start.add(COLUMN_STARTS[column]) });
        Self { next, start, room: 0 }
    }

    /// Takes room for `count` plain events (allocations and frees; a resizing is two). False when
    /// the chunk is full.
    #[inline(always)]
    pub fn has_room(&mut self, count: u32) -> bool {
        if self.room < count {
            self.room = self.plain_events();
            if self.room < count {
                return false;
            }
        }
        self.room -= count;
        true
    }

    /// Takes room for another event, which has at most `bytes` less 8 (fields are stored as whole
    /// words). False when there is none.
    pub fn has_room_for(&mut self, bytes: usize) -> bool {
        self.room = self.room.saturating_sub(bytes.div_ceil(PLAIN_BYTES[HEADS]) as u32);
        COLUMN_BYTES[HEADS] - self.length(HEADS) >= bytes
    }

    /// Plain events that fit whatever they are.
    #[cold]
    #[inline(never)]
    fn plain_events(&self) -> u32 {
        let events = |column: usize| {
            let left = COLUMN_BYTES[column] - self.length(column);
            left.saturating_sub(WORD_BYTES) / PLAIN_BYTES[column]
        };
        (0..COLUMN_COUNT).map(events).min().unwrap_or(0) as u32
    }

    #[inline(always)]
    fn length(&self, column: usize) -> usize {
        self.next[column].addr().get() - self.start.addr().get() - COLUMN_STARTS[column]
    }

    /// Bytes among the heads: what says how much of the chunk is whole.
    #[inline(always)]
    pub fn head_bytes(&self) -> usize {
        self.length(HEADS)
    }

    /// Bytes in each column.
    pub fn lengths(&self) -> [usize; COLUMN_COUNT] {
        core::array::from_fn(|column| self.length(column))
    }

    /// Stores `value` at the end of a column, which grows by `bytes` (0 to 8).
    #[inline(always)]
    pub(crate) fn put<const COLUMN: usize>(&mut self, value: u64, bytes: usize) {
        debug_assert!(self.length(COLUMN) + WORD_BYTES <= COLUMN_BYTES[COLUMN], "I1");
        let next = self.next[COLUMN];
        // SAFETY: I1, a word is left, and nobody else writes it.
        unsafe { next.cast::<u64>().write_unaligned(value.to_le()) };
        // SAFETY: I1, `bytes` is at most the eight just written.
        self.next[COLUMN] = unsafe { next.add(bytes) };
    }

    pub(crate) fn put_bytes(&mut self, text: &[u8]) {
        debug_assert!(self.head_bytes() + text.len() <= COLUMN_BYTES[HEADS], "I1");
        let next = self.next[HEADS];
        // SAFETY: I1, the room is there; `text` is not inside the chunk, which only we write.
        unsafe { next.copy_from_nonoverlapping(NonNull::from(text).cast(), text.len()) };
        // SAFETY: I1, the bytes just written are inside.
        self.next[HEADS] = unsafe { next.add(text.len()) };
    }
}

/// The columns of the chunk at `start`, as far as `lengths` say; none when a column cannot be that
/// long.
///
/// # Safety
/// - [`CHUNK_BYTES`] from `start` are readable, and nobody writes the bytes that the lengths cover
///   for as long as the result is used.
pub unsafe fn columns<'a>(
    start: NonNull<u8>,
    lengths: [usize; COLUMN_COUNT],
) -> Option<Columns<'a>> {
    let mut columns: Columns<'a> = [&[]; COLUMN_COUNT];
    for (column, slice) in columns.iter_mut().enumerate() {
        if lengths[column] > COLUMN_BYTES[column] {
            return None;
        }
        // SAFETY: inside the caller's chunk.
        let first = unsafe { start.add(COLUMN_STARTS[column]) };
        // SAFETY: inside the chunk, checked above; the caller sees to it that nobody writes there.
        *slice = unsafe { core::slice::from_raw_parts(first.as_ptr(), lengths[column]) };
    }
    Some(columns)
}

/// A chunk with memory of its own, for recordings that are made up.
#[cfg(feature = "std")]
pub struct ChunkBuffer {
    memory: NonNull<u8>,
    cursor: ChunkCursor,
}

#[cfg(feature = "std")]
impl ChunkBuffer {
    /// An empty chunk.
    pub fn new() -> Self {
        let bytes: Box<[u8]> = vec![0; CHUNK_BYTES].into_boxed_slice();
        let memory = NonNull::from(Box::leak(bytes)).cast();
        // SAFETY: memory of this value alone, until it is dropped.
        let cursor = unsafe { ChunkCursor::new(memory) };
        Self { memory, cursor }
    }

    /// Where the next event goes.
    pub fn cursor(&mut self) -> &mut ChunkCursor {
        &mut self.cursor
    }

    /// What was written so far.
    pub fn columns(&self) -> Columns<'_> {
        // SAFETY: this value's memory, which only its cursor writes, and that is borrowed by
        // nobody now.
        let columns = unsafe { columns(self.memory, self.cursor.lengths()) };
        columns.expect("a cursor stays inside its columns")
    }
}

#[cfg(feature = "std")]
impl Default for ChunkBuffer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "std")]
impl Drop for ChunkBuffer {
    fn drop(&mut self) {
        let bytes = NonNull::slice_from_raw_parts(self.memory, CHUNK_BYTES);
        // SAFETY: the box that `new` leaked.
        drop(unsafe { Box::from_raw(bytes.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::{COLUMN_BYTES, COLUMN_COUNT, ChunkBuffer, ChunkCursor, columns};
    use crate::encode::Encoder;
    use crate::wire::EVENT_BYTES_MAX;

    fn filled(write: impl FnOnce(&mut Encoder, &mut ChunkCursor)) -> ChunkBuffer {
        let mut chunk = ChunkBuffer::new();
        write(&mut Encoder::new(0), chunk.cursor());
        chunk
    }

    #[test]
    fn a_chunk_takes_the_longest_events_until_it_says_full() {
        let mut chunk = filled(|encoder, cursor| {
            let mut turn = 0u64;
            loop {
                let far = u64::MAX >> 1 ^ turn << 40 | 1;
                let has_room = match turn % 3 {
                    0 if cursor.has_room(1) => {
                        encoder.alloc(cursor, turn << 33, far, u64::MAX, 1 << 20 | turn as u32);
                        true
                    }
                    1 if cursor.has_room(2) => {
                        encoder.realloc(cursor, turn << 33, turn << 34, far, far ^ 7, u64::MAX, 9);
                        true
                    }
                    2 if cursor.has_room_for(EVENT_BYTES_MAX) => {
                        encoder.unmap(cursor, turn << 34, far, 1);
                        true
                    }
                    _ => false,
                };
                if !has_room {
                    break;
                }
                turn += 1;
            }
            assert!(turn > 500);
        });
        for (length, bytes) in chunk.cursor().lengths().into_iter().zip(COLUMN_BYTES) {
            assert!(length <= bytes);
        }
    }

    #[test]
    fn a_column_is_not_longer_than_its_part() {
        let chunk = ChunkBuffer::new();
        let mut too_long = [0; COLUMN_COUNT];
        too_long[3] = COLUMN_BYTES[3] + 1;
        // SAFETY: a whole chunk, which nobody writes any more.
        assert!(unsafe { columns(chunk.memory, too_long) }.is_none());
    }
}

//! Bytes to events: the mirror of `encode`, over untrusted bytes.

use core::fmt;

use crate::kind::FreeKind;
use crate::wire::{
    ADDRESS_BYTES, ADDRESS_CACHED, ADDRESS_WHOLE, DeltaState, FIELD_BYTES, NODE_BYTES, NODE_CACHED,
    NODE_WHOLE, NodeId, OP_ALLOC, OP_FAILED, OP_FREE, OP_FREE_KIND, OP_MODULE, OP_MODULES_GONE,
    OP_NODE, OP_REALLOC, OP_SKIPPED, OP_THREAD_END, OP_TOUCH, OP_UNMAP, PARENT_BYTES, PARENT_WHOLE,
    TIME_BYTES, TOUCH_RUNS_MAX, address_slot, node_slot,
};

/// Runs of resident pages of a block, still in wire form (checked when the event was read).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TouchRuns<'a> {
    encoded: &'a [u8],
}

impl<'a> TouchRuns<'a> {
    /// Whether only the count of resident pages is known.
    pub fn is_empty(self) -> bool {
        self.encoded.is_empty()
    }

    /// Pairs of (pages not resident, pages resident) from the first page on.
    pub fn iter(self) -> impl Iterator<Item = (u32, u32)> + 'a {
        let mut fields = Fields { bytes: self.encoded, start: 0, offset: 0 };
        core::iter::from_fn(move || {
            let gap = fields.leb128().ok()?;
            Some((gap, fields.leb128().ok()?))
        })
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A block was allocated (the time is after the allocation).
    Alloc {
        /// First byte.
        address: u64,
        /// Bytes requested.
        size: u64,
        /// Stack.
        node: NodeId,
    },
    /// A block is about to be freed (the time is before the free).
    Free {
        /// First byte.
        address: u64,
        /// Operation.
        kind: FreeKind,
    },
    /// A block changed size and perhaps place; the event's time is its end.
    Realloc {
        /// When it began (the old block ended then).
        start_time: u64,
        /// First byte before.
        old: u64,
        /// First byte after.
        new: u64,
        /// Bytes requested.
        size: u64,
        /// Stack.
        node: NodeId,
    },
    /// An allocation failed.
    Failed {
        /// Bytes requested.
        size: u64,
        /// Stack.
        node: NodeId,
    },
    /// The program unmapped memory that it had mapped itself.
    Unmap {
        /// First byte.
        address: u64,
        /// Length.
        bytes: u64,
    },
    /// Which pages of a large block are resident.
    Touch {
        /// The block.
        address: u64,
        /// Pages resident.
        resident_pages: u32,
        /// Pages in all.
        page_count: u32,
        /// Which, when few runs tell it; else empty.
        runs: TouchRuns<'a>,
    },
    /// The thread's next node.
    Node {
        /// The frame outside.
        parent: NodeId,
        /// Return address or packed [`crate::LeafKind`].
        word: u64,
    },
    /// A module of the process.
    Module {
        /// First address.
        start: u64,
        /// Last address + 1.
        end: u64,
        /// Address in the process minus the address that the file gives.
        bias: u64,
        /// GNU build id; empty when the file has none.
        build_id: &'a [u8],
        /// The file.
        path: &'a [u8],
    },
    /// All modules named so far are void.
    ModulesGone,
    /// The thread ended.
    ThreadEnd,
    /// Events that could not be recorded.
    Skipped {
        /// How many.
        count: u32,
    },
}

/// An event and its time, in units of the recording's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed<'a> {
    /// When.
    pub time: u64,
    /// What.
    pub event: Event<'a>,
}

/// A chunk is not what a recorder writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The chunk ends inside the event at `offset`.
    Short {
        /// Offset in the chunk.
        offset: usize,
    },
    /// The event at `offset` has an operation that this version does not know.
    Operation {
        /// Offset in the chunk.
        offset: usize,
        /// Its code.
        code: u8,
    },
    /// A field of the event at `offset` is out of range.
    Field {
        /// Offset in the chunk.
        offset: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { offset } => write!(f, "the chunk ends inside the event at {offset}"),
            Self::Operation { offset, code } => {
                write!(f, "unknown operation {code} at offset {offset} of the chunk")
            }
            Self::Field { offset } => {
                write!(f, "a field of the event at offset {offset} of the chunk is out of range")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Reads the events of one chunk.
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    state: DeltaState,
    offset: usize,
    next_node: NodeId,
}

impl ChunkDecoder {
    /// A decoder for a chunk whose head says `time` and `first_node`.
    pub fn new(time: u64, first_node: NodeId) -> Self {
        Self { state: DeltaState::new(time), offset: 0, next_node: first_node }
    }

    /// The next event of `bytes` (the same slice at every call); none at the end.
    ///
    /// # Errors
    /// [`DecodeError`]; what follows in the chunk cannot be read then.
    #[inline]
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Timed<'a>>, DecodeError> {
        if self.offset >= bytes.len() {
            return Ok(None);
        }
        let mut fields = Fields { bytes, start: self.offset, offset: self.offset };
        let event = self.event(&mut fields)?;
        self.offset = fields.offset;
        Ok(Some(Timed { time: self.state.time, event }))
    }

    fn event<'a>(&mut self, fields: &mut Fields<'a>) -> Result<Event<'a>, DecodeError> {
        let head = fields.take(1)? as u8;
        let (operation, low, high) = (head & 15, head >> 4 & 3, head >> 6);
        Ok(match operation {
            OP_ALLOC => {
                let codes = fields.take(1)? as u8;
                self.time(fields, low)?;
                let address = self.address(fields, high)?;
                let size = fields.take(FIELD_BYTES[usize::from(codes & 3)])?;
                let node = self.node(fields, codes >> 2 & 3)?;
                Event::Alloc { address, size, node }
            }
            OP_FREE | OP_FREE_KIND => {
                self.time(fields, low)?;
                let address = self.address(fields, high)?;
                let kind = if operation == OP_FREE { 0 } else { fields.take(1)? as u8 };
                let kind = FreeKind::from_number(kind).ok_or(fields.out_of_range())?;
                Event::Free { address, kind }
            }
            OP_REALLOC => {
                let codes = fields.take(1)? as u8;
                self.time(fields, low)?;
                let start_time = self.state.time;
                let old = self.address(fields, high)?;
                self.time(fields, codes & 3)?;
                let new = self.address(fields, codes >> 2 & 3)?;
                let size = fields.take(FIELD_BYTES[usize::from(codes >> 4 & 3)])?;
                let node = self.node(fields, codes >> 6)?;
                Event::Realloc { start_time, old, new, size, node }
            }
            OP_NODE => {
                let zigzag = fields.take(FIELD_BYTES[usize::from(low)])?;
                let id = self.next_node;
                let value = match PARENT_BYTES[usize::from(high)] {
                    0 => 1,
                    bytes => fields.take(bytes)? as NodeId,
                };
                let parent = if high == PARENT_WHOLE { Some(value) } else { id.checked_sub(value) };
                let parent = parent.filter(|&parent| parent < id).ok_or(fields.out_of_range())?;
                self.next_node = id.checked_add(1).ok_or(fields.out_of_range())?;
                let difference = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                let word = self.state.return_address.wrapping_add(difference as u64);
                self.state.return_address = word;
                Event::Node { parent, word }
            }
            OP_FAILED => {
                self.time(fields, low)?;
                Event::Failed { size: fields.take(8)?, node: fields.take(4)? as NodeId }
            }
            OP_UNMAP => {
                self.time(fields, low)?;
                Event::Unmap { address: fields.take(8)?, bytes: fields.take(8)? }
            }
            OP_TOUCH => {
                self.time(fields, low)?;
                self.touch(fields)?
            }
            OP_MODULE => {
                let (start, end) = (fields.take(8)?, fields.take(8)?);
                let bias = fields.take(8)?;
                let build_id_bytes = fields.take(1)? as usize;
                let build_id = fields.slice(build_id_bytes)?;
                let path_bytes = fields.take(2)? as usize;
                Event::Module { start, end, bias, build_id, path: fields.slice(path_bytes)? }
            }
            OP_MODULES_GONE => {
                self.time(fields, low)?;
                Event::ModulesGone
            }
            OP_THREAD_END => {
                self.time(fields, low)?;
                Event::ThreadEnd
            }
            OP_SKIPPED => Event::Skipped { count: fields.take(4)? as u32 },
            code => return Err(DecodeError::Operation { offset: fields.start, code }),
        })
    }

    fn touch<'a>(&mut self, fields: &mut Fields<'a>) -> Result<Event<'a>, DecodeError> {
        let address = fields.take(8)?;
        let resident_pages = fields.take(4)? as u32;
        let page_count = fields.take(4)? as u32;
        let count = fields.take(1)? as u8;
        if usize::from(count) > TOUCH_RUNS_MAX {
            return Err(fields.out_of_range());
        }
        let runs_start = fields.offset;
        for _ in 0..2 * count {
            fields.leb128()?;
        }
        let runs = TouchRuns { encoded: &fields.bytes[runs_start..fields.offset] };
        Ok(Event::Touch { address, resident_pages, page_count, runs })
    }

    #[inline]
    fn time(&mut self, fields: &mut Fields<'_>, code: u8) -> Result<(), DecodeError> {
        let bytes = TIME_BYTES[usize::from(code)];
        if bytes == 0 {
            return Ok(());
        }
        let delta = fields.take(bytes)?;
        self.state.time = self.state.time.wrapping_add(delta);
        Ok(())
    }

    #[inline]
    fn address(&mut self, fields: &mut Fields<'_>, code: u8) -> Result<u64, DecodeError> {
        let bytes = ADDRESS_BYTES[usize::from(code)];
        let value = fields.take(bytes)?;
        let address = match code {
            ADDRESS_CACHED => self.state.addresses[value as usize],
            ADDRESS_WHOLE => value,
            _ => {
                let unused = 64 - 8 * bytes as u32;
                let units = (value << unused) as i64 >> unused;
                self.state.address.wrapping_add((units << 4) as u64)
            }
        };
        self.state.addresses[address_slot(address)] = address;
        self.state.address = address;
        Ok(address)
    }

    #[inline]
    fn node(&mut self, fields: &mut Fields<'_>, code: u8) -> Result<NodeId, DecodeError> {
        let bytes = NODE_BYTES[usize::from(code)];
        let value = fields.take(bytes)?;
        let node = match code {
            NODE_CACHED => self.state.nodes[value as usize],
            NODE_WHOLE => value as NodeId,
            _ => {
                let unused = 64 - 8 * bytes as u32;
                let difference = (value << unused) as i64 >> unused;
                self.state.node.wrapping_add(difference as NodeId)
            }
        };
        self.state.node = node;
        self.state.nodes[node_slot(node)] = node;
        Ok(node)
    }
}

/// Length of the event at the start of `bytes`; none when it is cut off or unknown.
#[cfg(feature = "std")]
pub(crate) fn event_bytes(bytes: &[u8]) -> Option<usize> {
    if let Some(layout) = crate::layout::layout(bytes) {
        let fields: usize = layout.fields.iter().map(|(_, length)| length).sum();
        return (layout.heads + fields <= bytes.len()).then_some(layout.heads + fields);
    }
    let head = *bytes.first()?;
    let (low, high) = (usize::from(head >> 4 & 3), usize::from(head >> 6));
    let time = TIME_BYTES[low];
    let fixed = match head & 15 {
        OP_NODE => 1 + FIELD_BYTES[low] + PARENT_BYTES[high],
        OP_FAILED => 1 + time + 12,
        OP_UNMAP => 1 + time + 16,
        OP_MODULES_GONE | OP_THREAD_END => 1 + time,
        OP_SKIPPED => 5,
        // Rare operations of varying length: read them.
        OP_TOUCH | OP_MODULE => {
            let mut decoder = ChunkDecoder::new(0, 1);
            decoder.next(bytes).ok()??;
            decoder.offset
        }
        _ => return None,
    };
    (fixed <= bytes.len()).then_some(fixed)
}

struct Fields<'a> {
    bytes: &'a [u8],
    start: usize,
    offset: usize,
}

impl<'a> Fields<'a> {
    #[inline]
    fn take(&mut self, count: usize) -> Result<u64, DecodeError> {
        debug_assert!(count != 0, "a field has bytes");
        // One load where eight bytes are left; else byte by byte, at the end of the chunk.
        if let Some(word) = self.bytes.get(self.offset..self.offset + 8) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            self.offset += count;
            return Ok(word & (u64::MAX >> (64 - 8 * count)));
        }
        let field = self.slice(count)?;
        let mut word = [0; 8];
        word[..count].copy_from_slice(field);
        Ok(u64::from_le_bytes(word))
    }

    fn slice(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let field = self
            .bytes
            .get(self.offset..self.offset + count)
            .ok_or(DecodeError::Short { offset: self.start })?;
        self.offset += count;
        Ok(field)
    }

    fn leb128(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)? as u32;
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.out_of_range())
    }

    fn out_of_range(&self) -> DecodeError {
        DecodeError::Field { offset: self.start }
    }
}

#[cfg(test)]
mod tests {
    use super::{ChunkDecoder, DecodeError, Event};
    use crate::chunk::{ChunkBuffer, ChunkCursor};
    use crate::encode::{Encoder, TouchReport};
    use crate::file::join;
    use crate::kind::FreeKind;
    use crate::wire::EVENT_BYTES_MAX;

    /// A small seeded generator (xorshift64*), so that failures repeat.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }
    }

    fn chunk(write: impl FnOnce(&mut Encoder, &mut ChunkCursor)) -> Vec<u8> {
        let mut chunk = ChunkBuffer::new();
        write(&mut Encoder::new(1000), chunk.cursor());
        join(&chunk.columns()).expect("columns that fit")
    }

    #[test]
    fn random_events_come_back_as_written() {
        let mut random = Random(0x1234_5678);
        for _ in 0..20 {
            full_chunk_comes_back(&mut random);
        }
    }

    fn full_chunk_comes_back(random: &mut Random) {
        let mut expected = Vec::new();
        let mut addresses = vec![0x5555_0000_1000u64];
        let bytes = chunk(|encoder, cursor| {
            let mut time = 1000;
            let mut next_node = 1;
            while cursor.has_room(2) && cursor.has_room_for(EVENT_BYTES_MAX) {
                time += random.next() >> (8 + random.next() % 56);
                time &= u64::MAX >> 8;
                let before = expected.last().map_or(1000, |&(last, _)| last);
                time = time.max(before);
                let pick = addresses[random.next() as usize % addresses.len()];
                let address = match random.next() % 4 {
                    0 => pick,
                    1 => pick.wrapping_add((random.next() % 5000) << 4),
                    2 => pick.wrapping_add(random.next() % (1 << 30)),
                    _ => random.next(),
                };
                addresses.push(address);
                let size = random.next() >> (random.next() % 64);
                let node = (random.next() >> (32 + random.next() % 32)) as u32;
                let event = match random.next() % 5 {
                    0 | 1 => {
                        encoder.alloc(cursor, time, address, size, node);
                        Event::Alloc { address, size, node }
                    }
                    2 => {
                        let kind = FreeKind::ALL[random.next() as usize % FreeKind::ALL.len()];
                        encoder.free(cursor, time, address, kind);
                        Event::Free { address, kind }
                    }
                    3 => {
                        encoder.realloc(cursor, time, time + 7, pick, address, size, node);
                        let start_time = time;
                        time += 7;
                        Event::Realloc { start_time, old: pick, new: address, size, node }
                    }
                    _ => {
                        let parent = match random.next() % 3 {
                            0 => next_node - 1,
                            _ => (random.next() % u64::from(next_node)) as u32,
                        };
                        encoder.node_definition(cursor, next_node, parent, address);
                        next_node += 1;
                        expected.push((before, Event::Node { parent, word: address }));
                        continue;
                    }
                };
                expected.push((time, event));
            }
        });
        let mut decoder = ChunkDecoder::new(1000, 1);
        for (index, &(time, event)) in expected.iter().enumerate() {
            let timed = decoder.next(&bytes).expect("well-formed").expect("not the end");
            assert_eq!((timed.time, timed.event), (time, event), "event {index}");
        }
        assert_eq!(decoder.next(&bytes), Ok(None));
        assert!(expected.len() > 500, "a chunk holds many events");
    }

    #[test]
    fn rare_events_come_back_as_written() {
        let runs: Vec<(u32, u32)> = (0..39).map(|index| (index, index % 3 + 1)).collect();
        let bytes = chunk(|encoder, cursor| {
            let report =
                TouchReport { address: 4096, resident_pages: 9, page_count: 9999, runs: &runs };
            encoder.touch(cursor, 1001, report);
            encoder.module(cursor, [4096, 8192, 0x1000], &[7; 20], b"/usr/lib/libz.so");
            encoder.modules_gone(cursor, 1002);
            encoder.failed(cursor, 1003, 1 << 60, 17);
            encoder.unmap(cursor, 1003, 1 << 40, 1 << 21);
            encoder.skipped(cursor, 3);
            encoder.thread_end(cursor, 1004);
        });
        let mut decoder = ChunkDecoder::new(1000, 1);
        let mut next = || decoder.next(&bytes).expect("well-formed").expect("not the end");
        let Event::Touch { resident_pages: 9, page_count: 9999, runs: read, .. } = next().event
        else {
            panic!("not a touch event");
        };
        assert_eq!(read.iter().collect::<Vec<_>>(), runs);
        let path = b"/usr/lib/libz.so".as_slice();
        let (start, end, bias, build_id) = (4096, 8192, 0x1000, [7; 20].as_slice());
        let module = Event::Module { start, end, bias, build_id, path };
        assert_eq!(next().event, module);
        assert_eq!(next().event, Event::ModulesGone);
        assert_eq!(next().event, Event::Failed { size: 1 << 60, node: 17 });
        assert_eq!(next().event, Event::Unmap { address: 1 << 40, bytes: 1 << 21 });
        assert_eq!(next().event, Event::Skipped { count: 3 });
        assert_eq!((next().time, decoder.next(&bytes)), (1004, Ok(None)));
    }

    #[test]
    fn too_many_runs_leave_only_the_count() {
        let runs = [(1_000_000, 2_000_000); 40];
        let bytes = chunk(|encoder, cursor| {
            let report = TouchReport {
                address: 0,
                resident_pages: 80_000_000,
                page_count: u32::MAX,
                runs: &runs,
            };
            encoder.touch(cursor, 1000, report);
        });
        let timed =
            ChunkDecoder::new(1000, 1).next(&bytes).expect("well-formed").expect("one event");
        let Event::Touch { resident_pages, runs, .. } = timed.event else {
            panic!("not a touch event");
        };
        assert_eq!((resident_pages, runs.is_empty()), (80_000_000, true));
    }

    #[test]
    fn torn_and_random_bytes_are_errors_not_panics() {
        let bytes = chunk(|encoder, cursor| encoder.alloc(cursor, 5000, 1 << 45, 1 << 20, 70_000));
        for cut in 1..bytes.len() {
            let result = ChunkDecoder::new(0, 1).next(&bytes[..cut]);
            assert_eq!(result, Err(DecodeError::Short { offset: 0 }), "cut at {cut}");
        }
        let mut random = Random(99);
        for _ in 0..2000 {
            let noise: Vec<u8> = (0..200).map(|_| random.next() as u8).collect();
            let mut decoder = ChunkDecoder::new(0, 1);
            let mut events = 0;
            while let Ok(Some(_)) = decoder.next(&noise) {
                events += 1;
            }
            assert!(events <= noise.len(), "every event takes at least a byte");
        }
    }
}

//! Recordings of programs that never ran: every event is put down by the test, so the test
//! knows order, threads, live blocks and peak.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use heapwright_format::chunk::ChunkBuffer;
use heapwright_format::file::{EndInfo, EventsHead, FileWriter, ProcessInfo, SessionInfo};
use heapwright_format::{
    AllocKind, ChunkCursor, EVENT_BYTES_MAX, Encoder, FreeKind, LeafKind, ROOT_NODE, TouchReport,
};

const PID: u32 = 4242;
const PAGE_BYTES: u64 = 4096;

/// A live block of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub address: u64,
    pub size: u64,
}

struct Thread {
    encoder: Encoder,
    chunk: ChunkBuffer,
    chunk_time: u64,
    events: u32,
    first_node: u32,
    nodes: BTreeMap<u64, u32>,
}

/// A program in the making.
pub struct Program {
    writer: FileWriter<BufWriter<File>>,
    threads: BTreeMap<u32, Thread>,
    free: BTreeMap<u64, Vec<u64>>,
    next_address: u64,
    time: u64,
    pub live_bytes: u64,
    pub live_blocks: u64,
    pub peak_bytes: u64,
    pub operations: u64,
}

impl Program {
    /// Begins a recording at `path`, of which thread 0 is the main thread.
    pub fn new(path: &Path, touch_bytes_min: u64) -> Self {
        Self::with_session(path, SessionInfo { touch_bytes_min, ..SessionInfo::default() })
    }

    /// The same with other facts.
    pub fn with_session(path: &Path, session: SessionInfo) -> Self {
        let session = SessionInfo { units_per_second: 1e6, ..session };
        let file = BufWriter::new(File::create(path).expect("a new file"));
        let mut writer = FileWriter::new(file, 1, &session).expect("a writer");
        let process = ProcessInfo {
            pid: PID,
            exe: "/synthetic".into(),
            page_bytes: PAGE_BYTES as u32,
            ..ProcessInfo::default()
        };
        writer.process(&process).expect("write");
        Self {
            writer,
            threads: BTreeMap::new(),
            free: BTreeMap::new(),
            next_address: 0x7000_0000_0000,
            time: 1000,
            live_bytes: 0,
            live_blocks: 0,
            peak_bytes: 0,
            operations: 0,
        }
    }

    pub fn malloc(&mut self, thread: u32, size: u64) -> Block {
        self.alloc(thread, size, AllocKind::Malloc, 0)
    }

    pub fn alloc(&mut self, thread: u32, size: u64, kind: AllocKind, align_log2: u8) -> Block {
        let address = self.place(size);
        self.event(thread, kind, align_log2, |encoder, cursor, time, node| {
            encoder.alloc(cursor, time, address, size, node);
        });
        if kind != AllocKind::Mmap {
            self.live_blocks += 1;
            self.grow(size);
        }
        Block { address, size }
    }

    pub fn free(&mut self, thread: u32, block: Block) {
        self.free.entry(block.size).or_default().push(block.address);
        self.event(thread, AllocKind::Malloc, 0, |encoder, cursor, time, _| {
            encoder.free(cursor, time, block.address, FreeKind::Free);
        });
        self.live_blocks -= 1;
        self.live_bytes -= block.size;
        self.operations += 1;
    }

    pub fn realloc(&mut self, thread: u32, block: Block, size: u64) -> Block {
        let address = if size == block.size { block.address } else { self.place(size) };
        self.event(thread, AllocKind::Realloc, 0, |encoder, cursor, time, node| {
            encoder.realloc(cursor, time, time, block.address, address, size, node);
        });
        if address != block.address {
            self.free.entry(block.size).or_default().push(block.address);
        }
        self.live_bytes -= block.size;
        self.grow(size);
        Block { address, size }
    }

    pub fn unmap(&mut self, thread: u32, address: u64, bytes: u64) {
        self.event(thread, AllocKind::Malloc, 0, |encoder, cursor, time, _| {
            encoder.unmap(cursor, time, address, bytes);
        });
    }

    /// Nothing happens for so long.
    pub fn pause(&mut self, time: Duration) {
        self.time += time.as_micros() as u64;
    }

    /// The recorder looked at the pages of `block`.
    pub fn touch(&mut self, thread: u32, block: Block, runs: &[(u32, u32)]) {
        let report = TouchReport {
            address: block.address,
            resident_pages: runs.iter().map(|run| run.1).sum(),
            page_count: block.size.div_ceil(PAGE_BYTES) as u32,
            runs,
        };
        self.event(thread, AllocKind::Malloc, 0, |encoder, cursor, time, _| {
            encoder.touch(cursor, time, report);
        });
    }

    /// An allocation that the program asked for and did not get.
    pub fn fail(&mut self, thread: u32, size: u64) {
        self.event(thread, AllocKind::Malloc, 0, |encoder, cursor, time, node| {
            encoder.failed(cursor, time, size, node);
        });
    }

    pub fn end_thread(&mut self, thread: u32) {
        self.event(thread, AllocKind::Malloc, 0, |encoder, cursor, time, _| {
            encoder.thread_end(cursor, time);
        });
        self.flush(thread);
        self.threads.remove(&thread);
    }

    /// Completes the file.
    pub fn finish(mut self) {
        let numbers: Vec<u32> = self.threads.keys().copied().collect();
        for number in numbers {
            self.flush(number);
        }
        self.writer.finish(&EndInfo { end_time: self.time, ..EndInfo::default() }).expect("write");
    }

    fn grow(&mut self, size: u64) {
        self.live_bytes += size;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
        self.operations += 1;
    }

    /// An address: one freed before where there is one, as allocators do.
    fn place(&mut self, size: u64) -> u64 {
        if let Some(address) = self.free.get_mut(&size).and_then(Vec::pop) {
            return address;
        }
        let address = self.next_address;
        self.next_address += size.max(1).next_multiple_of(PAGE_BYTES.min(16.max(size)));
        self.next_address = self.next_address.next_multiple_of(16);
        address
    }

    fn event(
        &mut self,
        number: u32,
        kind: AllocKind,
        align_log2: u8,
        write: impl FnOnce(&mut Encoder, &mut ChunkCursor, u64, u32),
    ) {
        self.time += 1;
        let time = self.time;
        let is_full = self.threads.get_mut(&number).is_some_and(|thread| {
            !thread.chunk.cursor().has_room_for(2 * EVENT_BYTES_MAX)
                || !thread.chunk.cursor().has_room(2)
        });
        if is_full {
            self.flush(number);
        }
        let thread = self.threads.entry(number).or_insert_with(|| Thread::new(time));
        let leaf = LeafKind { kind, align_log2, truncated: false };
        let node = if leaf.is_default() { ROOT_NODE } else { thread.node(leaf) };
        write(&mut thread.encoder, thread.chunk.cursor(), time, node);
        thread.events += 1;
    }

    fn flush(&mut self, number: u32) {
        let Some(thread) = self.threads.get_mut(&number) else { return };
        let head = EventsHead {
            process: 0,
            thread: number,
            thread_id: PID + number,
            events: thread.events,
            first_node: thread.first_node,
            time: thread.chunk_time,
        };
        self.writer.events(head, &thread.chunk.columns()).expect("write");
        let nodes = std::mem::take(&mut thread.nodes);
        let mut next = Thread::new(self.time);
        next.first_node = nodes.len() as u32 + 1;
        next.nodes = nodes;
        self.threads.insert(number, next);
    }
}

impl Thread {
    fn new(time: u64) -> Self {
        Self {
            encoder: Encoder::new(time),
            chunk: ChunkBuffer::new(),
            chunk_time: time,
            events: 0,
            first_node: 1,
            nodes: BTreeMap::new(),
        }
    }

    fn node(&mut self, leaf: LeafKind) -> u32 {
        if let Some(&node) = self.nodes.get(&leaf.pack()) {
            return node;
        }
        let node = self.nodes.len() as u32 + 1;
        self.nodes.insert(leaf.pack(), node);
        self.encoder.node_definition(self.chunk.cursor(), node, ROOT_NODE, leaf.pack());
        node
    }
}

/// A small seeded generator (xorshift64*), so that failures repeat.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A size as programs ask for: mostly small.
pub fn size(random: &mut Random) -> u64 {
    match random.below(100) {
        0..60 => 8 + random.below(120),
        60..90 => 16 + random.below(1000),
        90..99 => 1000 + random.below(16_000),
        _ => 20_000 + random.below(300_000),
    }
}

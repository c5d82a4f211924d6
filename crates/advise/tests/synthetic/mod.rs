//! Recordings made up event by event, as a recorder would write them.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use heapwright_format::chunk::ChunkBuffer;
use heapwright_format::file::{
    EndInfo, EventsHead, FileWriter, ProcessEndInfo, ProcessInfo, Recording, SessionInfo,
};
use heapwright_format::{
    AllocKind, ChunkCursor, Encoder, FreeKind, LeafKind, MODULE_EVENT_BYTES_MAX, NodeId, ROOT_NODE,
};

/// Room that any event but a module leaves untouched.
const ROOM_BYTES: usize = 512;

/// A block of the made-up program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block(pub u64);

struct Thread {
    encoder: Encoder,
    chunk: ChunkBuffer,
    events: u32,
    start_time: u64,
    first_node: u32,
    nodes: HashMap<(NodeId, u64), NodeId>,
    node_count: u32,
}

/// A process being made up: one clock, any number of threads.
pub struct Synthetic {
    session: SessionInfo,
    writer: Option<FileWriter<Vec<u8>>>,
    threads: Vec<Thread>,
    time: u64,
    next_address: u64,
    free_addresses: Vec<u64>,
    events: u64,
    exe: String,
}

impl Synthetic {
    pub fn new() -> Self {
        Self::with_session(SessionInfo::default())
    }

    /// `sample_bytes` and the command of `session` are kept.
    pub fn with_session(session: SessionInfo) -> Self {
        Self {
            session: SessionInfo { units_per_second: 1000.0, ..session },
            writer: None,
            threads: Vec::new(),
            time: 1,
            next_address: 0x10000,
            free_addresses: Vec::new(),
            events: 0,
            exe: "/usr/bin/synthetic".into(),
        }
    }

    pub fn set_exe(&mut self, exe: &str) {
        self.exe = exe.into();
    }

    /// Lets `units` pass (1000 are a second).
    pub fn wait(&mut self, units: u64) {
        self.time += units;
    }

    /// `malloc(size)` called by `stack`, innermost return address first.
    pub fn malloc(&mut self, thread: usize, size: u64, stack: &[u64]) -> Block {
        self.alloc(thread, size, stack, LeafKind::default())
    }

    pub fn alloc(&mut self, thread: usize, size: u64, stack: &[u64], leaf: LeafKind) -> Block {
        let address = self.address(size);
        self.alloc_at(thread, address, size, stack, leaf)
    }

    pub fn alloc_at(
        &mut self,
        thread: usize,
        address: u64,
        size: u64,
        stack: &[u64],
        leaf: LeafKind,
    ) -> Block {
        let node = self.node(thread, stack, leaf);
        let time = self.tick();
        self.event(thread, |encoder, cursor| encoder.alloc(cursor, time, address, size, node));
        Block(address)
    }

    pub fn free(&mut self, thread: usize, block: Block) {
        self.free_as(thread, block, FreeKind::Free);
    }

    pub fn free_as(&mut self, thread: usize, block: Block, kind: FreeKind) {
        let time = self.tick();
        self.event(thread, |encoder, cursor| encoder.free(cursor, time, block.0, kind));
        self.free_addresses.push(block.0);
    }

    /// `realloc`; the block moves.
    pub fn realloc(&mut self, thread: usize, block: Block, size: u64, stack: &[u64]) -> Block {
        let leaf = LeafKind { kind: AllocKind::Realloc, ..LeafKind::default() };
        let node = self.node(thread, stack, leaf);
        let new = self.address(size);
        let (start, end) = (self.tick(), self.tick());
        self.event(thread, |encoder, cursor| {
            encoder.realloc(cursor, start, end, block.0, new, size, node);
        });
        self.free_addresses.push(block.0);
        Block(new)
    }

    pub fn failed(&mut self, thread: usize, size: u64, stack: &[u64]) {
        let node = self.node(thread, stack, LeafKind::default());
        let time = self.tick();
        self.event(thread, |encoder, cursor| encoder.failed(cursor, time, size, node));
    }

    pub fn unmap(&mut self, thread: usize, block: Block, bytes: u64) {
        let time = self.tick();
        self.event(thread, |encoder, cursor| encoder.unmap(cursor, time, block.0, bytes));
    }

    /// Code of the file `path` lies at `bias`, `bytes` long.
    pub fn module(&mut self, thread: usize, bias: u64, bytes: u64, path: &str) {
        self.thread(thread);
        self.flush_below(thread, MODULE_EVENT_BYTES_MAX + ROOM_BYTES);
        let range = [bias, bias + bytes, bias];
        self.write(thread, |encoder, cursor| encoder.module(cursor, range, &[], path.as_bytes()));
    }

    /// Ends the process; the recording lies in the folder that comes back with it.
    pub fn finish(mut self) -> (tempfile::TempDir, Recording) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("test.hwr");
        self.write_to(&path);
        let recording = Recording::open(&path).expect("just written");
        assert_eq!(recording.problems(), []);
        (folder, recording)
    }

    /// Ends the process and writes the recording to `path`.
    pub fn write_to(&mut self, path: &Path) -> PathBuf {
        for thread in 0..self.threads.len() {
            self.flush(thread);
        }
        self.writer();
        let mut writer = self.writer.take().expect("just made");
        let (events, threads) = (self.events, self.threads.len() as u32);
        let end = ProcessEndInfo { events, threads, ..ProcessEndInfo::default() };
        writer.process_end(&end).expect("memory");
        let end = EndInfo { reason: "exit".into(), exit_status: Some(0), ..EndInfo::default() };
        let bytes = writer.finish(&end).expect("memory");
        std::fs::write(path, bytes).expect("write");
        path.to_owned()
    }

    fn address(&mut self, size: u64) -> u64 {
        // Reused last in, first out, as allocators do; sizes do not matter to the reader.
        self.free_addresses.pop().unwrap_or_else(|| {
            let address = self.next_address;
            self.next_address += size.next_multiple_of(16).max(16);
            address
        })
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    fn writer(&mut self) -> &mut FileWriter<Vec<u8>> {
        self.writer.get_or_insert_with(|| {
            let mut writer = FileWriter::new(Vec::new(), 1, &self.session).expect("memory");
            let (exe, pid) = (self.exe.clone(), 42);
            let info = ProcessInfo { exe, pid, page_bytes: 4096, ..ProcessInfo::default() };
            writer.process(&info).expect("memory");
            writer
        })
    }

    fn thread(&mut self, thread: usize) -> &mut Thread {
        while self.threads.len() <= thread {
            self.threads.push(Thread {
                encoder: Encoder::new(self.time),
                chunk: ChunkBuffer::new(),
                events: 0,
                start_time: self.time,
                first_node: 1,
                nodes: HashMap::new(),
                node_count: 1,
            });
        }
        &mut self.threads[thread]
    }

    fn node(&mut self, thread: usize, stack: &[u64], leaf: LeafKind) -> NodeId {
        self.thread(thread);
        let leaf_word = (!leaf.is_default()).then(|| leaf.pack());
        let mut node = ROOT_NODE;
        for word in stack.iter().rev().copied().chain(leaf_word) {
            let known = self.threads[thread].nodes.get(&(node, word)).copied();
            node = known.unwrap_or_else(|| {
                self.flush_below(thread, ROOM_BYTES);
                let id = self.threads[thread].node_count;
                self.write(thread, |encoder, cursor| {
                    encoder.node_definition(cursor, id, node, word);
                });
                let state = &mut self.threads[thread];
                state.node_count += 1;
                state.nodes.insert((node, word), id);
                id
            });
        }
        node
    }

    fn event(&mut self, thread: usize, write: impl FnOnce(&mut Encoder, &mut ChunkCursor)) {
        self.thread(thread);
        self.flush_below(thread, ROOM_BYTES);
        self.write(thread, write);
        self.threads[thread].events += 1;
        self.events += 1;
    }

    fn write(&mut self, thread: usize, write: impl FnOnce(&mut Encoder, &mut ChunkCursor)) {
        let state = &mut self.threads[thread];
        write(&mut state.encoder, state.chunk.cursor());
    }

    fn flush_below(&mut self, thread: usize, room: usize) {
        let cursor = self.threads[thread].chunk.cursor();
        if !(cursor.has_room(2) && cursor.has_room_for(room)) {
            self.flush(thread);
        }
    }

    fn flush(&mut self, thread: usize) {
        self.writer();
        let time = self.time;
        let state = &mut self.threads[thread];
        let head = EventsHead {
            process: 0,
            thread: thread as u32,
            thread_id: 100 + thread as u32,
            events: state.events,
            first_node: state.first_node,
            time: state.start_time,
        };
        let columns = state.chunk.columns();
        self.writer.as_mut().expect("just made").events(head, &columns).expect("memory");
        state.chunk = ChunkBuffer::new();
        state.events = 0;
        state.first_node = state.node_count;
        state.start_time = time;
        state.encoder.restart(time);
    }
}

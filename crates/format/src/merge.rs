//! The events of a process in one order: the threads' streams merged by time.
//!
//! Within a thread the order is the thread's own. Between threads it is that of the clock: a
//! free is stamped before it happens and an allocation after, so whoever gets an address
//! later has the later time, up to the clock's unit. What the unit leaves open is settled by
//! [`crate::objects`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use crate::decode::{ChunkDecoder, Event};
use crate::file::{EventsHead, Problem, Recording};
use crate::kind::FreeKind;
use crate::stacks::{StackId, StackTree};
use crate::wire::{NodeId, ROOT_NODE};

/// A module of the process: code mapped from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// First address.
    pub start: u64,
    /// Last address + 1.
    pub end: u64,
    /// Address in the process minus the address that the file gives: what symbol tables and
    /// debug information are about is `address - bias`.
    pub bias: u64,
    /// GNU build id, as bytes; empty when the file has none.
    pub build_id: Vec<u8>,
    /// The file.
    pub path: String,
    /// Time of its definition; it holds until the next module over the same addresses.
    pub time: u64,
}

/// What happened, with stacks of the whole process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A block was allocated.
    Alloc {
        /// First byte.
        address: u64,
        /// Bytes requested.
        size: u64,
        /// Its stack.
        stack: StackId,
    },
    /// A block was freed.
    Free {
        /// First byte.
        address: u64,
        /// Operation.
        kind: FreeKind,
    },
    /// A block begins to be resized; its address may be reused from here on.
    ResizeStart {
        /// First byte before.
        old: u64,
    },
    /// The block of this thread's last [`What::ResizeStart`] has its new place and size.
    ResizeEnd {
        /// First byte before.
        old: u64,
        /// First byte after.
        new: u64,
        /// Bytes requested.
        size: u64,
        /// Stack of the resizing call.
        stack: StackId,
    },
    /// An allocation failed.
    Failed {
        /// Bytes requested.
        size: u64,
        /// Its stack.
        stack: StackId,
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
        /// Pairs of (pages not resident, pages resident); empty when only the count is known.
        runs: Vec<(u32, u32)>,
    },
    /// The thread ended.
    ThreadEnd,
}

/// An event of some thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Time, in units.
    pub time: u64,
    /// Number of the thread in the process.
    pub thread: u32,
    /// What.
    pub what: What,
}

/// A thread of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadSummary {
    /// Kernel's thread id.
    pub thread_id: u32,
    /// Time of its first event.
    pub first_time: u64,
    /// Time of its last event so far.
    pub last_time: u64,
    /// Events so far.
    pub events: u64,
}

struct ThreadStream {
    thread: u32,
    sections: Vec<usize>,
    next_section: usize,
    bytes: Vec<u8>,
    decoder: ChunkDecoder,
    head: EventsHead,
    nodes: Vec<StackId>,
    pending: Option<Merged>,
    resize_end: Option<Merged>,
}

/// Reads a process's events in order of time. Lost sections are skipped and noted.
pub struct MergedEvents<'r> {
    recording: &'r Recording,
    process: usize,
    threads: Vec<ThreadStream>,
    summaries: Vec<ThreadSummary>,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    current: Option<usize>,
    stacks: StackTree,
    modules: Vec<Module>,
    problems: Vec<Problem>,
    skipped: u64,
}

impl<'r> MergedEvents<'r> {
    /// Starts at the first event of process number `process` of `recording`.
    pub fn new(recording: &'r Recording, process: usize) -> Self {
        let record = &recording.processes()[process];
        let mut by_thread: FxHashMap<u32, usize> = FxHashMap::default();
        let mut threads: Vec<ThreadStream> = Vec::new();
        for index in 0..record.section_count() {
            let head = record.section_head(index);
            let place = *by_thread.entry(head.thread).or_insert_with(|| {
                threads.push(ThreadStream::new(head));
                threads.len() - 1
            });
            threads[place].sections.push(index);
        }
        threads.sort_by_key(|stream| stream.thread);
        let summaries = threads
            .iter()
            .map(|stream| ThreadSummary {
                thread_id: stream.head.thread_id,
                first_time: stream.head.time,
                last_time: stream.head.time,
                events: 0,
            })
            .collect();
        let mut events = Self {
            recording,
            process,
            threads,
            summaries,
            queue: BinaryHeap::new(),
            current: None,
            stacks: StackTree::default(),
            modules: Vec::new(),
            problems: Vec::new(),
            skipped: 0,
        };
        for place in 0..events.threads.len() {
            events.advance(place);
            events.enqueue(place);
        }
        events
    }

    /// The stacks met so far: complete at the end.
    pub fn stacks(&self) -> &StackTree {
        &self.stacks
    }

    /// The modules met so far: complete at the end.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The threads, by position (`Merged::thread` is the number a thread gave itself; threads
    /// without events are not here).
    pub fn threads(&self) -> &[ThreadSummary] {
        &self.summaries
    }

    /// Sections that could not be read.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Events that the recorder itself had to skip, so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Gives stacks, modules and threads away at the end.
    pub fn into_parts(self) -> (StackTree, Vec<Module>, Vec<ThreadSummary>) {
        (self.stacks, self.modules, self.summaries)
    }

    fn enqueue(&mut self, place: usize) {
        if let Some(pending) = &self.threads[place].pending {
            self.queue.push(Reverse((pending.time, place)));
        }
    }

    /// Reads on in thread `place` up to the next event that consumers see.
    fn advance(&mut self, place: usize) {
        loop {
            let stream = &mut self.threads[place];
            if let Some(end) = stream.resize_end.take() {
                stream.pending = Some(end);
                return;
            }
            match stream.decoder.next(&stream.bytes) {
                Ok(Some(timed)) => {
                    let (time, thread) = (timed.time, stream.thread);
                    let what = match timed.event {
                        Event::Node { parent, word } => {
                            let parent = stack_of(&stream.nodes, parent);
                            let id = self.stacks.child(parent, word, time);
                            stream.nodes.push(id);
                            continue;
                        }
                        Event::Module { start, end, bias, build_id, path } => {
                            let path = String::from_utf8_lossy(path).into_owned();
                            let build_id = build_id.to_vec();
                            self.modules.push(Module { start, end, bias, build_id, path, time });
                            continue;
                        }
                        Event::ModulesGone => continue,
                        Event::Skipped { count } => {
                            self.skipped += u64::from(count);
                            continue;
                        }
                        Event::Alloc { address, size, node } => {
                            What::Alloc { address, size, stack: stack_of(&stream.nodes, node) }
                        }
                        Event::Free { address, kind } => What::Free { address, kind },
                        Event::Realloc { start_time, old, new, size, node } => {
                            let stack = stack_of(&stream.nodes, node);
                            let what = What::ResizeEnd { old, new, size, stack };
                            stream.resize_end = Some(Merged { time, thread, what });
                            let what = What::ResizeStart { old };
                            stream.pending = Some(Merged { time: start_time, thread, what });
                            return;
                        }
                        Event::Failed { size, node } => {
                            What::Failed { size, stack: stack_of(&stream.nodes, node) }
                        }
                        Event::Unmap { address, bytes } => What::Unmap { address, bytes },
                        Event::Touch { address, resident_pages, page_count, runs } => {
                            let runs = runs.iter().collect();
                            What::Touch { address, resident_pages, page_count, runs }
                        }
                        Event::ThreadEnd => What::ThreadEnd,
                    };
                    stream.pending = Some(Merged { time, thread, what });
                    return;
                }
                Ok(None) => {
                    if !self.open_section(place) {
                        return;
                    }
                }
                Err(error) => {
                    let text = format!("events of thread {} are damaged: {error}", stream.thread);
                    self.problems.push(Problem { offset: 0, text });
                    stream.bytes.clear();
                }
            }
        }
    }

    /// Opens the next readable section of thread `place`; false at the end.
    fn open_section(&mut self, place: usize) -> bool {
        let stream = &mut self.threads[place];
        stream.pending = None;
        while let Some(&index) = stream.sections.get(stream.next_section) {
            stream.next_section += 1;
            match self.recording.section_events(self.process, index, &mut stream.bytes) {
                Ok(head) => {
                    stream.head = head;
                    stream.decoder = ChunkDecoder::new(head.time, head.first_node);
                    // Nodes defined in lost sections are unknown stacks; node 0 is the root.
                    let known = (head.first_node as usize).max(1);
                    stream.nodes.resize(known, StackId::UNKNOWN);
                    stream.nodes[ROOT_NODE as usize] = StackId::ROOT;
                    return true;
                }
                Err(problem) => self.problems.push(problem),
            }
        }
        stream.bytes.clear();
        false
    }
}

impl Iterator for MergedEvents<'_> {
    type Item = Merged;

    fn next(&mut self) -> Option<Merged> {
        // Stay with a thread for as long as it is the earliest: no queue work for runs.
        if let Some(place) = self.current.take() {
            let time = self.threads[place].pending.as_ref().map(|pending| pending.time);
            match (time, self.queue.peek()) {
                (Some(time), Some(&Reverse(first))) if (time, place) > first => {
                    self.enqueue(place);
                }
                (Some(_), _) => self.current = Some(place),
                (None, _) => {}
            }
        }
        let place = match self.current {
            Some(place) => place,
            None => self.queue.pop()?.0.1,
        };
        let merged = self.threads[place].pending.take()?;
        let summary = &mut self.summaries[place];
        summary.last_time = merged.time;
        summary.events += 1;
        self.advance(place);
        self.current = Some(place);
        Some(merged)
    }
}

impl ThreadStream {
    fn new(head: EventsHead) -> Self {
        Self {
            thread: head.thread,
            sections: Vec::new(),
            next_section: 0,
            bytes: Vec::new(),
            decoder: ChunkDecoder::new(head.time, head.first_node),
            head,
            nodes: vec![StackId::ROOT],
            pending: None,
            resize_end: None,
        }
    }
}

fn stack_of(nodes: &[StackId], node: NodeId) -> StackId {
    nodes.get(node as usize).copied().unwrap_or(StackId::UNKNOWN)
}

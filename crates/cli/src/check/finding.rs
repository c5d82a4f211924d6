//! A finding with the names of its places.

use super::lines::{RawBlock, RawFinding, RawModule};
use heapwright_format::merge::Module;
use heapwright_symbols::Symbolizer;
use serde::Serialize;

/// A frame of a stack; functions that were inlined are frames of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Frame {
    pub function: String,
    pub file: String,
    /// From 1; 0 when unknown.
    pub line: u32,
    pub module: String,
    /// The address in the module's file.
    pub offset: u64,
}

/// A block.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Block {
    pub start: u64,
    pub bytes: u64,
    /// `live` or `freed`.
    pub state: String,
    /// `guarded`, `packed` or `unguarded`.
    pub watch: String,
    pub allocator: String,
    pub deallocator: String,
    pub alloc_thread: u32,
    pub free_thread: u32,
    pub alloc_stack: Vec<Frame>,
    pub free_stack: Vec<Frame>,
}

/// A finding.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub kind: String,
    pub process: u32,
    pub exe: String,
    pub thread: u32,
    pub address: u64,
    /// Bytes accessed from there on; 0 when unknown.
    pub bytes: u64,
    /// `read` or `write`; empty when neither.
    pub access: String,
    /// The library function in which it happened.
    pub via: String,
    pub stack: Vec<Frame>,
    pub block: Option<Block>,
    /// A size or alignment that was given; blocks of a group of leaks.
    pub told: u64,
    pub leaked_bytes: u64,
    pub indirect: bool,
    pub signal: i32,
    pub filler: Option<u8>,
    /// Whether the program ended by it.
    pub fatal: bool,
}

impl Finding {
    /// Finds the names.
    pub(crate) fn name(raw: RawFinding, symbolizer: &mut Symbolizer) -> Self {
        let modules: Vec<_> = raw.modules.iter().map(RawModule::module).collect();
        let mut frames = |stack: &[u64]| frames(stack, &modules, symbolizer);
        let stack = frames(&raw.stack);
        let block = raw.block.as_ref().map(|block: &RawBlock| Block {
            start: block.start,
            bytes: block.bytes,
            state: block.state.clone(),
            watch: block.watch.clone(),
            allocator: block.allocator.clone(),
            deallocator: block.deallocator.clone(),
            alloc_thread: block.alloc_thread,
            free_thread: block.free_thread,
            alloc_stack: frames(&block.alloc_stack),
            free_stack: frames(&block.free_stack),
        });
        Self {
            kind: raw.kind,
            process: raw.pid,
            exe: raw.exe,
            thread: raw.thread,
            address: raw.address,
            bytes: raw.bytes,
            access: raw.access.unwrap_or_default(),
            via: raw.via,
            stack,
            block,
            told: raw.told,
            leaked_bytes: raw.leaked_bytes,
            indirect: raw.indirect,
            signal: raw.signal,
            filler: raw.filler,
            fatal: raw.fatal,
        }
    }

    /// Whether another run told the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        fn alloc(finding: &Finding) -> Option<&[Frame]> {
            finding.block.as_ref().map(|block| block.alloc_stack.as_slice())
        }
        self.kind == other.kind
            && self.exe == other.exe
            && self.stack == other.stack
            && alloc(self) == alloc(other)
    }
}

/// The names of a stack's frames, innermost first.
pub(crate) fn frames(stack: &[u64], modules: &[Module], symbolizer: &mut Symbolizer) -> Vec<Frame> {
    let table = symbolizer.resolve(modules, stack.iter().map(|address| (*address, 0)));
    let mut frames = Vec::new();
    for input in 0..table.len() {
        let place = table.place(input);
        let module = table.module_of(place).map_or(String::new(), |facts| facts.name.to_string());
        for (index, frame) in place.frames.iter().enumerate() {
            frames.push(Frame {
                function: table.label(place, index),
                file: frame.file.to_string(),
                line: frame.line,
                module: module.clone(),
                offset: place.offset,
            });
        }
    }
    frames
}

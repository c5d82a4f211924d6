//! Events of one thread into its ring: stacks to nodes, touched pages, module lists.
//!
//! # Invariants
//! - I1: before each event the ring has room for it.

use heapwright_format::spool::SessionHeader;
use heapwright_format::{
    AllocKind, ChunkCursor, EVENT_BYTES_MAX, Encoder, FreeKind, LeafKind, MODULE_EVENT_BYTES_MAX,
    NodeId, ROOT_NODE, TouchReport,
};
use heapwright_sync::atomic::{AtomicU32, Ordering};
use heapwright_unwind::{
    Frame, Memo, PathHash, Registers, StackEnd, Trails, Truncation, module_generation,
    visit_modules,
};

use crate::clock::Clock;
use crate::large::Touched;
use crate::module_watch::may_look_for_modules;
use crate::nodes::Nodes;
use crate::process::Process;
use crate::ring::Ring;
use crate::sample::{SampledSet, Sampler};
use crate::thread::{ATTENTION_OVER, Block, Resize};

/// Room for most lists of modules.
const MODULE_LIST_BYTES: usize = 4 * MODULE_EVENT_BYTES_MAX;

/// The state behind a thread's stream: first what every event reads, which so lies on three cache
/// lines, then the tables, each behind its own counters.
#[repr(C)]
pub(crate) struct Writer {
    pub(crate) session: &'static SessionHeader,
    pub(crate) process: &'static Process,
    pub(crate) clock: Clock,
    /// Generation of the module list that this thread knows to be written.
    modules_seen: u32,
    pub(crate) sampler: Sampler,
    pub(crate) touch_bytes_min: usize,
    pub(crate) time: u64,
    pub(crate) ring: Ring,
    /// Whole stacks of allocations: what every allocation asks.
    pub(crate) stacks: Nodes,
    /// All paths: their numbers are those of the stream's definitions.
    pub(crate) nodes: Nodes,
    pub(crate) encoder: Encoder,
    pub(crate) memo: Memo,
    /// Where the thread's recorder is told that its session is over.
    pub(crate) attention: &'static AtomicU32,
    pub(crate) trails: Trails,
}

impl Writer {
    /// Sets a writer up in place (it is too large for small stacks).
    ///
    /// # Safety
    /// - `place` is zeroed memory for a writer that nobody else uses.
    pub(crate) unsafe fn begin(
        place: *mut Self,
        session: &'static SessionHeader,
        process: &'static Process,
        mut ring: Ring,
        thread_id: u32,
        attention: &'static AtomicU32,
    ) {
        let sample_bytes = session.sample_bytes.load(Ordering::Relaxed);
        let thread = ring.slot().thread.load(Ordering::Relaxed);
        let clock = Clock::of(session, thread, sample_bytes != 0);
        let time = clock.fresh();
        ring.begin_chunk(time, ROOT_NODE + 1);
        let seed = time ^ u64::from(thread_id).rotate_left(32);
        let touch_bytes_min = session.touch_bytes_min.load(Ordering::Relaxed).max(1) as usize;
        macro_rules! set {
            ($($field:ident = $value:expr;)*) => {$(
                // SAFETY: a field of the caller's memory.
                let field = unsafe { &raw mut (*place).$field };
                // SAFETY: as above; nothing is there yet that would need dropping.
                unsafe { field.write($value) };
            )*};
        }
        // All-zero memo, trails and encoder state are valid and empty: left as they are.
        set! {
            session = session;
            process = process;
            clock = clock;
            modules_seen = 0;
            touch_bytes_min = touch_bytes_min;
            time = time;
            sampler = Sampler::new(sample_bytes, seed);
            ring = ring;
            nodes = Nodes::new();
            stacks = Nodes::new();
            attention = attention;
        }
        // SAFETY: every field is valid now: written above, or zero where zero is valid.
        let writer = unsafe { &mut *place };
        writer.encoder.restart(time);
    }

    /// Whether a block of `size` bytes is to be recorded.
    #[inline(always)]
    pub(crate) fn wants(&mut self, size: usize) -> bool {
        !self.is_over() && (self.sampler.is_off() || self.sampler.takes(size))
    }

    /// Whether nothing more is to be recorded.
    #[inline(always)]
    fn is_over(&self) -> bool {
        let is_over = self.session.stop.load(Ordering::Relaxed) != 0;
        if is_over {
            self.call_attention();
        }
        is_over
    }

    #[cold]
    fn call_attention(&self) {
        self.attention.fetch_or(ATTENTION_OVER, Ordering::Relaxed);
    }

    /// Writes an event as long as `count` plain ones, if anything can still be recorded.
    #[inline(always)]
    pub(crate) fn write(&mut self, count: u32, event: impl FnOnce(&mut Encoder, &mut ChunkCursor)) {
        if self.is_over() {
            return;
        }
        while !self.ring.cursor().has_room(count) {
            if !self.next_chunk(self.nodes.next_id()) {
                return;
            }
        }
        event(&mut self.encoder, self.ring.cursor());
        self.ring.commit(1);
    }

    /// Writes a rare event, which stands among the heads, if anything can still be recorded.
    pub(crate) fn write_rare(&mut self, event: impl FnOnce(&mut Encoder, &mut ChunkCursor)) {
        if !self.is_over() && self.has_room_for(EVENT_BYTES_MAX, self.nodes.next_id()) {
            event(&mut self.encoder, self.ring.cursor());
            self.ring.commit(1);
        }
    }

    /// Takes room for an event among the heads, in the next chunk if it has to be; its first node
    /// is then `first_node`. False when nothing can be recorded any more.
    fn has_room_for(&mut self, bytes: usize, first_node: NodeId) -> bool {
        while !self.ring.cursor().has_room_for(bytes) {
            if !self.next_chunk(first_node) {
                return false;
            }
        }
        true
    }

    #[inline(always)]
    pub(crate) unsafe fn alloc(&mut self, block: Block, caller: Registers) {
        let address = block.address as u64;
        if !self.sampler.is_off() && !SampledSet::insert(address) {
            return;
        }
        let leaf = LeafKind { kind: block.kind, align_log2: block.align_log2, truncated: false };
        // SAFETY: the caller's promise.
        let node = unsafe { self.stack(leaf, caller) };
        let time = self.clock.now(&self.process.order);
        let size = block.size as u64;
        self.write(1, |encoder, cursor| encoder.alloc(cursor, time, address, size, node));
        self.time = time;
        if block.size >= self.touch_bytes_min {
            if block.kind == AllocKind::Mmap {
                // What was mapped there is gone (`MAP_FIXED`).
                self.cut_large(address, size);
            }
            self.process.large.insert(address, size);
        }
    }

    #[inline(always)]
    pub(crate) fn free(&mut self, address: u64, kind: FreeKind) {
        self.report_if_large(address);
        let time = self.clock.now(&self.process.order);
        self.free_at(time, address, kind);
    }

    #[inline(always)]
    pub(crate) fn free_at(&mut self, time: u64, address: u64, kind: FreeKind) {
        self.write(1, |encoder, cursor| encoder.free(cursor, time, address, kind));
        self.time = time;
    }

    pub(crate) unsafe fn resized(&mut self, resize: Resize, block: Block, caller: Registers) {
        let Resize { old, start_time, .. } = resize;
        let leaf = LeafKind { kind: block.kind, align_log2: block.align_log2, truncated: false };
        // SAFETY: the caller's promise.
        let node = unsafe { self.stack(leaf, caller) };
        let time = self.clock.now(&self.process.order);
        let (new, size) = (block.address as u64, block.size as u64);
        self.write(2, |encoder, cursor| {
            encoder.realloc(cursor, start_time, time, old, new, size, node);
        });
        self.time = time;
        if block.size >= self.touch_bytes_min {
            self.process.large.insert(new, size);
        }
    }

    /// The node of the stack from `caller` outward, ended by `leaf`.
    #[inline(always)]
    pub(crate) unsafe fn stack(&mut self, leaf: LeafKind, caller: Registers) -> NodeId {
        // SAFETY: the caller's promise: a running function's state.
        let (mut path, mut end) = unsafe { self.memo.capture_path(&mut self.trails, caller) };
        if end == StackEnd::Truncated(Truncation::NoRule) && may_look_for_modules() {
            self.memo.forget();
            // SAFETY: as above.
            (path, end) = unsafe { self.memo.capture_path(&mut self.trails, caller) };
        }
        if module_generation() != self.modules_seen {
            self.write_modules();
        }
        let leaf = LeafKind { truncated: end != StackEnd::Complete, ..leaf };
        let whole = if leaf.is_default() { path } else { path.child(leaf.pack()) };
        match self.stacks.get(whole) {
            Some(node) => node,
            None => {
                // Its frames are needed now.
                // SAFETY: as above.
                unsafe { self.memo.capture(caller) };
                let node = self.new_stack(leaf);
                if node != ROOT_NODE {
                    // Without memory it is found frame by frame again next time.
                    self.stacks.insert(whole, node);
                }
                node
            }
        }
    }

    /// Defines what is new of the stack in the memo, outermost first. Without memory for it the
    /// stack is cut to what there is a number for, and says so.
    #[cold]
    #[inline(never)]
    pub(crate) fn new_stack(&mut self, leaf: LeafKind) -> NodeId {
        let depth = self.memo.frames().len();
        let known = |index: &usize| self.nodes.get(self.path_of(*index)).is_some();
        let mut depth_known = (1..=depth).rev().find(known).unwrap_or(0);
        let mut node = match depth_known {
            0 => ROOT_NODE,
            _ => self.nodes.get(self.path_of(depth_known)).unwrap_or(ROOT_NODE),
        };
        while depth_known < depth {
            let word = self.memo.frames()[depth_known].return_address() as u64;
            let Some(id) = self.nodes.insert_next(self.path_of(depth_known + 1)) else {
                let cut = LeafKind { truncated: true, ..leaf };
                let path = self.path_of(depth_known);
                return self.nodes.get(path.child(cut.pack())).unwrap_or(ROOT_NODE);
            };
            self.define(node, word, id);
            node = id;
            depth_known += 1;
        }
        if leaf.is_default() {
            return node;
        }
        let path = self.path_of(depth).child(leaf.pack());
        if let Some(known) = self.nodes.get(path) {
            return known;
        }
        let Some(id) = self.nodes.insert_next(path) else { return ROOT_NODE };
        self.define(node, leaf.pack(), id);
        id
    }

    /// The path of the outermost `depth` frames of the memo.
    fn path_of(&self, depth: usize) -> PathHash {
        let last = depth.checked_sub(1).and_then(|last| self.memo.frames().get(last));
        last.map_or(PathHash::ROOT, Frame::path)
    }

    #[inline(never)]
    pub(crate) fn define(&mut self, parent: NodeId, word: u64, id: NodeId) {
        // A chunk that begins now begins with this very definition.
        if self.has_room_for(EVENT_BYTES_MAX, id) {
            self.encoder.node_definition(self.ring.cursor(), id, parent, word);
            self.ring.commit(0);
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn next_chunk(&mut self, first_node: NodeId) -> bool {
        if !self.ring.next_chunk() {
            return false;
        }
        self.encoder.restart(self.time);
        self.ring.begin_chunk(self.time, first_node);
        self.look(false);
        true
    }

    /// Writes touched pages of large blocks, if it is time or `now`.
    pub(crate) fn look(&mut self, now: bool) {
        let process = self.process;
        process.large.look(now, |touched| self.write_touched(touched));
    }

    /// Ends the watch on `address`; the block's length if it was watched, else 0.
    #[inline(always)]
    pub(crate) fn report_if_large(&mut self, address: u64) -> u64 {
        if self.process.large.may_hold(address) { self.report_large(address) } else { 0 }
    }

    #[cold]
    pub(crate) fn report_large(&mut self, address: u64) -> u64 {
        let Some((bytes, touched)) = self.process.large.remove(address) else { return 0 };
        if let Some(touched) = touched {
            self.write_touched(&touched);
        }
        bytes
    }

    #[cold]
    pub(crate) fn cut_large(&mut self, address: u64, bytes: u64) {
        let process = self.process;
        process.large.cut(address, bytes, |touched| self.write_touched(touched));
    }

    #[cold]
    pub(crate) fn write_touched(&mut self, touched: &Touched) {
        let time = self.clock.fresh();
        if !self.ring.cursor().has_room_for(EVENT_BYTES_MAX) {
            // Not through `next_chunk`: it may look at the blocks, which is where we come from.
            if !self.ring.next_chunk() {
                return;
            }
            self.encoder.restart(self.time);
            self.ring.begin_chunk(self.time, self.nodes.next_id());
        }
        let report = TouchReport {
            address: touched.address,
            resident_pages: touched.resident_pages,
            page_count: touched.page_count,
            runs: touched.runs(),
        };
        self.encoder.touch(self.ring.cursor(), time, report);
        self.time = time;
        self.ring.commit(1);
    }

    /// Writes the list of modules, once a change for the whole process.
    #[cold]
    #[inline(never)]
    pub(crate) fn write_modules(&mut self) {
        let generation = module_generation();
        self.modules_seen = generation;
        let written = self.process.modules_written.swap(generation, Ordering::AcqRel);
        if written == generation {
            return;
        }
        // Room first: waiting for the collector with the list locked would hold up all threads.
        if !self.has_room_for(MODULE_LIST_BYTES, self.nodes.next_id()) {
            return;
        }
        let visited = visit_modules(|module| {
            if self.has_room_for(MODULE_EVENT_BYTES_MAX, self.nodes.next_id()) {
                let range = [module.start as u64, module.end as u64, module.bias as u64];
                let cursor = self.ring.cursor();
                self.encoder.module(cursor, range, module.build_id, module.path);
                self.ring.commit(0);
            }
        });
        if visited.is_none() {
            // The list could not be had; the next stack tries again.
            self.modules_seen = written;
            self.process.modules_written.store(written, Ordering::Release);
        }
    }

    pub(crate) fn finish(&mut self) {
        let time = self.clock.fresh();
        self.write_rare(|encoder, cursor| encoder.thread_end(cursor, time));
        self.process.end_slot(self.ring.slot_index());
        self.ring.call_collector();
    }
}

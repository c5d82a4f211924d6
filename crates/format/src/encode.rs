//! Events to bytes: the writer in the hot path of the recorded program. It never allocates and
//! never fails; the caller sees to it that a chunk has room before each event.
//!
//! # Invariants
//! - I1: encoder and decoder pass through the same [`DeltaState`]s: each method here has its
//!   mirror in `decode`, and changes the state by the same assignments.

use core::hint::select_unpredictable;

use crate::chunk::{ADDRESSES, ChunkCursor, HEADS, NODES, SIZES, TIMES};
use crate::kind::FreeKind;
use crate::wire::{
    ADDRESS_BYTES, ADDRESS_CACHED, ADDRESS_DELTA_2, ADDRESS_DELTA_3, ADDRESS_WHOLE, DeltaState,
    EVENT_BYTES_MAX, FIELD_BYTES, MODULE_BUILD_ID_BYTES_MAX, MODULE_PATH_BYTES_MAX, NODE_BYTES,
    NODE_CACHED, NODE_DELTA_1, NODE_DELTA_2, NODE_WHOLE, NodeId, OP_ALLOC, OP_FAILED, OP_FREE,
    OP_FREE_KIND, OP_MODULE, OP_MODULES_GONE, OP_NODE, OP_REALLOC, OP_SKIPPED, OP_THREAD_END,
    OP_TOUCH, OP_UNMAP, PARENT_BACK_1, PARENT_BACK_2, PARENT_BYTES, PARENT_LAST, PARENT_WHOLE,
    TIME_BYTES, TOUCH_RUNS_MAX, address_slot, length_code, node_slot, time_code,
};

/// Which OS pages of a block are resident.
#[derive(Clone, Copy, Debug)]
pub struct TouchReport<'a> {
    /// The block.
    pub address: u64,
    /// Pages resident.
    pub resident_pages: u32,
    /// Pages in all.
    pub page_count: u32,
    /// Pairs of (pages not resident, pages resident) from the first page on; empty when there
    /// are more than [`TOUCH_RUNS_MAX`] and only the count is known.
    pub runs: &'a [(u32, u32)],
}

/// Writes events into a chunk, as differences to the events before.
#[derive(Debug)]
pub struct Encoder {
    state: DeltaState,
}

impl Encoder {
    /// An encoder for a chunk whose head says `time` (in units of the recording's clock).
    pub const fn new(time: u64) -> Self {
        Self { state: DeltaState::new(time) }
    }

    /// Starts a new chunk.
    pub fn restart(&mut self, time: u64) {
        self.state = DeltaState::new(time);
    }

    /// A block was allocated: a plain event.
    #[inline(always)]
    pub fn alloc(
        &mut self,
        cursor: &mut ChunkCursor,
        time: u64,
        address: u64,
        size: u64,
        node: NodeId,
    ) {
        let (delta, time_code) = self.time(time);
        let (address_value, address_code) = self.address(address);
        let size_code = length_code(size);
        let (node_value, node_code) = self.node(node);
        let head = u64::from(OP_ALLOC | time_code << 4 | address_code << 6)
            | u64::from(size_code | node_code << 2) << 8;
        cursor.put::<HEADS>(head, 2);
        cursor.put::<TIMES>(delta, TIME_BYTES[time_code as usize]);
        cursor.put::<ADDRESSES>(address_value, ADDRESS_BYTES[address_code as usize]);
        cursor.put::<SIZES>(size, FIELD_BYTES[size_code as usize]);
        cursor.put::<NODES>(node_value, NODE_BYTES[node_code as usize]);
    }

    /// The block at `address` is about to be freed: a plain event.
    #[inline(always)]
    pub fn free(&mut self, cursor: &mut ChunkCursor, time: u64, address: u64, kind: FreeKind) {
        let (delta, time_code) = self.time(time);
        let (address_value, address_code) = self.address(address);
        let (operation, heads) = if kind as u8 == 0 { (OP_FREE, 1) } else { (OP_FREE_KIND, 2) };
        let head = u64::from(operation | time_code << 4 | address_code << 6);
        cursor.put::<HEADS>(head | (kind as u64) << 8, heads);
        cursor.put::<TIMES>(delta, TIME_BYTES[time_code as usize]);
        cursor.put::<ADDRESSES>(address_value, ADDRESS_BYTES[address_code as usize]);
    }

    /// The block `old` became `new` with `size` bytes; the operation began at `start_time` and
    /// ended at `time`. `old == new` when it grew or shrank in place. As two
    /// plain events.
    #[allow(clippy::too_many_arguments, reason = "the fields of one event")]
    #[inline]
    pub fn realloc(
        &mut self,
        cursor: &mut ChunkCursor,
        start_time: u64,
        time: u64,
        old: u64,
        new: u64,
        size: u64,
        node: NodeId,
    ) {
        let (delta, time_code) = self.time(start_time);
        let (old_value, old_code) = self.address(old);
        let (duration, duration_code) = self.time(time);
        let (new_value, new_code) = self.address(new);
        let size_code = length_code(size);
        let (node_value, node_code) = self.node(node);
        let head = u64::from(OP_REALLOC | time_code << 4 | old_code << 6);
        let codes = u64::from(duration_code | new_code << 2 | size_code << 4 | node_code << 6);
        cursor.put::<HEADS>(head | codes << 8, 2);
        cursor.put::<TIMES>(delta, TIME_BYTES[time_code as usize]);
        cursor.put::<ADDRESSES>(old_value, ADDRESS_BYTES[old_code as usize]);
        cursor.put::<TIMES>(duration, TIME_BYTES[duration_code as usize]);
        cursor.put::<ADDRESSES>(new_value, ADDRESS_BYTES[new_code as usize]);
        cursor.put::<SIZES>(size, FIELD_BYTES[size_code as usize]);
        cursor.put::<NODES>(node_value, NODE_BYTES[node_code as usize]);
    }

    /// An allocation of `size` bytes failed.
    pub fn failed(&mut self, cursor: &mut ChunkCursor, time: u64, size: u64, node: NodeId) {
        let (delta, time_code) = self.time(time);
        cursor.put::<HEADS>(u64::from(OP_FAILED | time_code << 4), 1);
        cursor.put::<HEADS>(delta, TIME_BYTES[time_code as usize]);
        cursor.put::<HEADS>(size, 8);
        cursor.put::<HEADS>(u64::from(node), 4);
    }

    /// `bytes` from `address` were unmapped by the program.
    pub fn unmap(&mut self, cursor: &mut ChunkCursor, time: u64, address: u64, bytes: u64) {
        let (delta, time_code) = self.time(time);
        cursor.put::<HEADS>(u64::from(OP_UNMAP | time_code << 4), 1);
        cursor.put::<HEADS>(delta, TIME_BYTES[time_code as usize]);
        cursor.put::<HEADS>(address, 8);
        cursor.put::<HEADS>(bytes, 8);
    }

    /// Which pages of a large block are resident now.
    pub fn touch(&mut self, cursor: &mut ChunkCursor, time: u64, report: TouchReport<'_>) {
        let (delta, time_code) = self.time(time);
        cursor.put::<HEADS>(u64::from(OP_TOUCH | time_code << 4), 1);
        cursor.put::<HEADS>(delta, TIME_BYTES[time_code as usize]);
        cursor.put::<HEADS>(report.address, 8);
        cursor.put::<HEADS>(u64::from(report.resident_pages), 4);
        cursor.put::<HEADS>(u64::from(report.page_count), 4);
        let bytes: usize =
            report.runs.iter().map(|run| leb128_bytes(run.0) + leb128_bytes(run.1)).sum();
        let fits = report.runs.len() <= TOUCH_RUNS_MAX && bytes + 48 <= EVENT_BYTES_MAX;
        let runs = if fits { report.runs } else { &[] };
        cursor.put::<HEADS>(runs.len() as u64, 1);
        for &(gap, resident) in runs {
            put_leb128(cursor, gap);
            put_leb128(cursor, resident);
        }
    }

    /// Defines `id`, the thread's next node: `word` (a return address, or a packed leaf) below
    /// `parent`, which is a smaller number.
    #[inline]
    pub fn node_definition(
        &mut self,
        cursor: &mut ChunkCursor,
        id: NodeId,
        parent: NodeId,
        word: u64,
    ) {
        debug_assert!(parent < id, "a node is defined after its parent");
        let difference = word.wrapping_sub(self.state.return_address) as i64;
        let zigzag = (difference << 1 ^ difference >> 63) as u64;
        let word_code = length_code(zigzag);
        self.state.return_address = word;
        let back = id - parent;
        let (parent_value, parent_code) = match back {
            1 => (0, PARENT_LAST),
            2..0x100 => (back, PARENT_BACK_1),
            0x100..0x1_0000 => (back, PARENT_BACK_2),
            _ => (parent, PARENT_WHOLE),
        };
        cursor.put::<HEADS>(u64::from(OP_NODE | word_code << 4 | parent_code << 6), 1);
        cursor.put::<HEADS>(zigzag, FIELD_BYTES[word_code as usize]);
        cursor.put::<HEADS>(u64::from(parent_value), PARENT_BYTES[parent_code as usize]);
    }

    /// A module lies in `[start, end)`; addresses in its file are `bias` lower. Asks for
    /// [`crate::MODULE_EVENT_BYTES_MAX`] of room; longer paths and build ids are cut.
    pub fn module(
        &mut self,
        cursor: &mut ChunkCursor,
        [start, end, bias]: [u64; 3],
        build_id: &[u8],
        path: &[u8],
    ) {
        let path = &path[..path.len().min(MODULE_PATH_BYTES_MAX)];
        let build_id = &build_id[..build_id.len().min(MODULE_BUILD_ID_BYTES_MAX)];
        cursor.put::<HEADS>(u64::from(OP_MODULE), 1);
        cursor.put::<HEADS>(start, 8);
        cursor.put::<HEADS>(end, 8);
        cursor.put::<HEADS>(bias, 8);
        cursor.put::<HEADS>(build_id.len() as u64, 1);
        cursor.put_bytes(build_id);
        cursor.put::<HEADS>(path.len() as u64, 2);
        cursor.put_bytes(path);
    }

    /// From here on, only the modules named after this exist.
    pub fn modules_gone(&mut self, cursor: &mut ChunkCursor, time: u64) {
        let (delta, time_code) = self.time(time);
        cursor.put::<HEADS>(u64::from(OP_MODULES_GONE | time_code << 4), 1);
        cursor.put::<HEADS>(delta, TIME_BYTES[time_code as usize]);
    }

    /// The thread ended.
    pub fn thread_end(&mut self, cursor: &mut ChunkCursor, time: u64) {
        let (delta, time_code) = self.time(time);
        cursor.put::<HEADS>(u64::from(OP_THREAD_END | time_code << 4), 1);
        cursor.put::<HEADS>(delta, TIME_BYTES[time_code as usize]);
    }

    /// `count` events of this thread could not be recorded here.
    pub fn skipped(&mut self, cursor: &mut ChunkCursor, count: u32) {
        cursor.put::<HEADS>(u64::from(OP_SKIPPED), 1);
        cursor.put::<HEADS>(u64::from(count), 4);
    }

    #[inline(always)]
    fn time(&mut self, time: u64) -> (u64, u8) {
        let delta = time.saturating_sub(self.state.time);
        self.state.time += delta;
        (delta, time_code(delta))
    }

    #[inline(always)]
    fn address(&mut self, address: u64) -> (u64, u8) {
        let slot = address_slot(address);
        let previous = core::mem::replace(&mut self.state.address, address);
        let is_cached = core::mem::replace(&mut self.state.addresses[slot], address) == address;
        let difference = address.wrapping_sub(previous) as i64;
        let units = difference >> 4;
        let (is_even, is_near) = (difference & 15 == 0, i64::from(units as i16) == units);
        let is_within = is_even & (units << 40 >> 40 == units);
        // Without a jump: which of the four it is follows no pattern that a CPU could learn.
        let code = ADDRESS_WHOLE - u8::from(is_within) - u8::from(is_within & is_near);
        let value = select_unpredictable(is_within, units as u64, address);
        let value = select_unpredictable(is_cached, slot as u64, value);
        (value, select_unpredictable(is_cached, ADDRESS_CACHED, code))
    }

    #[inline(always)]
    fn node(&mut self, node: NodeId) -> (u64, u8) {
        let slot = node_slot(node);
        let previous = core::mem::replace(&mut self.state.node, node);
        if self.state.nodes[slot] == node {
            return (slot as u64, NODE_CACHED);
        }
        self.state.nodes[slot] = node;
        let difference = node.wrapping_sub(previous) as i32;
        if i32::from(difference as i8) == difference {
            (difference as u64, NODE_DELTA_1)
        } else if i32::from(difference as i16) == difference {
            (difference as u64, NODE_DELTA_2)
        } else {
            (u64::from(node), NODE_WHOLE)
        }
    }
}

const _: () = assert!(ADDRESS_DELTA_3 == ADDRESS_WHOLE - 1 && ADDRESS_DELTA_2 == ADDRESS_WHOLE - 2);

fn leb128_bytes(value: u32) -> usize {
    (32 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_leb128(cursor: &mut ChunkCursor, mut value: u32) {
    while value >= 0x80 {
        cursor.put::<HEADS>(u64::from(value & 0x7f | 0x80), 1);
        value >>= 7;
    }
    cursor.put::<HEADS>(u64::from(value), 1);
}

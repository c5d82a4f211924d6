//! The bytes of an event: operation codes, field lengths, the address cache.
//!
//! An event is a head byte, for some operations a second one, then fields whose lengths the
//! heads tell: `operation | time length << 4 | address length << 6`. Fields are little-endian.
//! Nothing crosses a chunk: every chunk starts with fresh state.

/// Number of a stack node within its thread: position of its definition, from 1.
pub type NodeId = u32;

/// The node without frames: the bottom of every stack.
pub const ROOT_NODE: NodeId = 0;

/// Most bytes an event takes, module events apart.
pub const EVENT_BYTES_MAX: usize = 256;

/// Most bytes of a module's path that are kept.
pub(crate) const MODULE_PATH_BYTES_MAX: usize = 4096;

/// Most bytes of a build id that are kept (20 is usual).
pub(crate) const MODULE_BUILD_ID_BYTES_MAX: usize = 64;

/// Most bytes a module event takes: head, three words, lengths, build id, path, and the word
/// that fields are stored by.
pub const MODULE_EVENT_BYTES_MAX: usize = 40 + MODULE_BUILD_ID_BYTES_MAX + MODULE_PATH_BYTES_MAX;

/// Most runs of resident pages that a touch event lists; above it only the count is kept.
pub const TOUCH_RUNS_MAX: usize = 40;

pub(crate) const OP_ALLOC: u8 = 1;
pub(crate) const OP_FREE: u8 = 2;
pub(crate) const OP_FREE_KIND: u8 = 3;
pub(crate) const OP_REALLOC: u8 = 4;
pub(crate) const OP_NODE: u8 = 5;
pub(crate) const OP_UNMAP: u8 = 6;
pub(crate) const OP_TOUCH: u8 = 7;
pub(crate) const OP_FAILED: u8 = 8;
pub(crate) const OP_MODULE: u8 = 9;
pub(crate) const OP_MODULES_GONE: u8 = 10;
pub(crate) const OP_THREAD_END: u8 = 11;
pub(crate) const OP_SKIPPED: u8 = 12;

/// Lengths in bytes of size fields, and of the word of a node, by their two-bit code.
pub(crate) const FIELD_BYTES: [usize; 4] = [1, 2, 4, 8];

/// Lengths in bytes of times. Most events have the time of the one before, where a thread is alone
/// (the recorder reads the clock for a run of events).
pub(crate) const TIME_BYTES: [usize; 4] = [0, 1, 2, 8];

/// Address field: an index into the cache, a delta of 2 or 3 bytes in 16-byte units, or whole.
pub(crate) const ADDRESS_CACHED: u8 = 0;
pub(crate) const ADDRESS_DELTA_2: u8 = 1;
pub(crate) const ADDRESS_DELTA_3: u8 = 2;
pub(crate) const ADDRESS_WHOLE: u8 = 3;
pub(crate) const ADDRESS_BYTES: [usize; 4] = [1, 2, 3, 8];

/// Node field: an index into the cache, a signed difference to the last node in 1 or 2 bytes,
/// or the number in 4.
pub(crate) const NODE_CACHED: u8 = 0;
pub(crate) const NODE_DELTA_2: u8 = 1;
pub(crate) const NODE_WHOLE: u8 = 2;
pub(crate) const NODE_DELTA_1: u8 = 3;
pub(crate) const NODE_BYTES: [usize; 4] = [1, 2, 4, 1];

/// Parent field of a definition: the node defined just before, how far back from the new node in
/// 1 or 2 bytes, or the number in 4.
pub(crate) const PARENT_LAST: u8 = 0;
pub(crate) const PARENT_BACK_2: u8 = 1;
pub(crate) const PARENT_WHOLE: u8 = 2;
pub(crate) const PARENT_BACK_1: u8 = 3;
pub(crate) const PARENT_BYTES: [usize; 4] = [0, 2, 4, 1];

pub(crate) const CACHE_SLOTS: usize = 256;

/// Slot of `address` in the cache of recent addresses. Blocks are at least 16 bytes apart; the
/// second term spreads blocks at equal offsets of different OS pages.
#[inline(always)]
pub(crate) fn address_slot(address: u64) -> usize {
    ((address >> 4) ^ (address >> 12)) as usize & (CACHE_SLOTS - 1)
}

/// Slot of `node` in the cache of recent nodes.
#[inline(always)]
pub(crate) fn node_slot(node: NodeId) -> usize {
    node as usize & (CACHE_SLOTS - 1)
}

/// Two-bit length code of an unsigned field.
#[inline(always)]
pub(crate) fn length_code(value: u64) -> u8 {
    match value {
        0..0x100 => 0,
        0x100..0x1_0000 => 1,
        0x1_0000..0x1_0000_0000 => 2,
        _ => 3,
    }
}

/// Two-bit length code of a time.
#[inline(always)]
pub(crate) fn time_code(delta: u64) -> u8 {
    match delta {
        0 => 0,
        1..0x100 => 1,
        0x100..0x1_0000 => 2,
        _ => 3,
    }
}

/// The state that encoder and decoder build up alike within a chunk.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct DeltaState {
    pub(crate) time: u64,
    pub(crate) address: u64,
    pub(crate) return_address: u64,
    pub(crate) node: NodeId,
    pub(crate) nodes: [NodeId; CACHE_SLOTS],
    pub(crate) addresses: [u64; CACHE_SLOTS],
}

impl DeltaState {
    pub(crate) const fn new(time: u64) -> Self {
        Self {
            time,
            address: 0,
            return_address: 0,
            node: ROOT_NODE,
            nodes: [ROOT_NODE; CACHE_SLOTS],
            addresses: [0; CACHE_SLOTS],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FIELD_BYTES, TIME_BYTES, length_code, time_code};

    #[test]
    fn a_length_code_names_enough_bytes() {
        for value in [0, 1, 255, 256, 65535, 65536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let bytes = FIELD_BYTES[length_code(value) as usize];
            assert!(bytes == 8 || value >> (8 * bytes) == 0, "{value} in {bytes} bytes");
            let bytes = TIME_BYTES[time_code(value) as usize];
            assert!(bytes == 8 || value >> (8 * bytes) == 0, "a time {value} in {bytes} bytes");
        }
    }
}

//! How events lie in the columns of a chunk, by their heads.

use crate::chunk::{ADDRESSES, COLUMN_COUNT, HEADS, NODES, SIZES, TIMES};
use crate::wire::{
    ADDRESS_BYTES, FIELD_BYTES, NODE_BYTES, OP_ALLOC, OP_FREE, OP_FREE_KIND, OP_REALLOC, TIME_BYTES,
};

/// Column and bytes of a field.
pub(crate) type Field = (usize, usize);

/// How an event with columns is laid out.
pub(crate) struct Layout {
    /// Bytes among the heads.
    pub(crate) heads: usize,
    /// Fields in the other columns, in order; those of 0 bytes are not there.
    pub(crate) fields: [Field; 6],
}

/// The layout that the first bytes of `heads` tell; none for an event that stands among them, or
/// that is cut off.
#[inline(always)]
pub(crate) fn layout(heads: &[u8]) -> Option<Layout> {
    const NONE: Field = (TIMES, 0);
    let head = *heads.first()?;
    let time = (TIMES, TIME_BYTES[usize::from(head >> 4 & 3)]);
    let address = (ADDRESSES, ADDRESS_BYTES[usize::from(head >> 6)]);
    let codes = || heads.get(1).map(|&codes| usize::from(codes));
    let layout = match head & 15 {
        OP_ALLOC => {
            let codes = codes()?;
            let size = (SIZES, FIELD_BYTES[codes & 3]);
            let node = (NODES, NODE_BYTES[codes >> 2 & 3]);
            Layout { heads: 2, fields: [time, address, size, node, NONE, NONE] }
        }
        OP_FREE => Layout { heads: 1, fields: [time, address, NONE, NONE, NONE, NONE] },
        OP_FREE_KIND => {
            codes()?;
            Layout { heads: 2, fields: [time, address, NONE, NONE, NONE, NONE] }
        }
        OP_REALLOC => {
            let codes = codes()?;
            let duration = (TIMES, TIME_BYTES[codes & 3]);
            let new = (ADDRESSES, ADDRESS_BYTES[codes >> 2 & 3]);
            let size = (SIZES, FIELD_BYTES[codes >> 4 & 3]);
            let node = (NODES, NODE_BYTES[codes >> 6]);
            Layout { heads: 2, fields: [time, address, duration, new, size, node] }
        }
        _ => return None,
    };
    Some(layout)
}

/// The lengths of all columns, by heads that end with a whole event (I2); none when they do not.
pub fn lengths_by_heads(heads: &[u8]) -> Option<[usize; COLUMN_COUNT]> {
    let mut lengths = [0; COLUMN_COUNT];
    while lengths[HEADS] < heads.len() {
        let rest = &heads[lengths[HEADS]..];
        match layout(rest) {
            Some(layout) => {
                lengths[HEADS] += layout.heads;
                for (column, bytes) in layout.fields {
                    lengths[column] += bytes;
                }
            }
            None => lengths[HEADS] += crate::decode::event_bytes(rest)?,
        }
    }
    Some(lengths)
}

#[cfg(test)]
mod tests {
    use super::lengths_by_heads;
    use crate::chunk::ChunkBuffer;
    use crate::encode::Encoder;
    use crate::kind::FreeKind;

    #[test]
    fn lengths_follow_from_the_heads_after_every_event() {
        let (mut chunk, mut encoder, mut ends) = (ChunkBuffer::new(), Encoder::new(0), Vec::new());
        let mut seed = 7u64;
        for round in 0..2000u32 {
            let cursor = chunk.cursor();
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (time, address) = (u64::from(round) * 900, seed >> 20 & !15);
            match seed >> 61 {
                0..3 => encoder.alloc(cursor, time, address, seed >> 50, round % 700),
                3 => encoder.realloc(cursor, time, time + 5, address, address + 16, 9, 4),
                4 => encoder.free(cursor, time, address, FreeKind::DeleteSized),
                5 => encoder.node_definition(cursor, round + 1, round / 2, seed >> 17),
                _ => encoder.free(cursor, time, address, FreeKind::Free),
            }
            ends.push(cursor.lengths());
        }
        let heads = chunk.columns()[0];
        for end in ends {
            assert_eq!(lengths_by_heads(&heads[..end[0]]), Some(end));
        }
    }
}

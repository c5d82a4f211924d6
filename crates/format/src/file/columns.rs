//! The columns of a chunk put together: the events one after another, as the decoder reads them.

use crate::chunk::{COLUMN_COUNT, Columns, HEADS};
use crate::layout::layout;
use crate::wire::OP_FREE_KIND;

/// The events of a chunk in order, each with its fields behind its head; none when the columns do
/// not fit each other.
pub(crate) fn join(columns: &Columns<'_>) -> Option<Vec<u8>> {
    let mut chunk = Vec::with_capacity(columns.iter().map(|column| column.len()).sum());
    let mut offsets = [0; COLUMN_COUNT];
    while offsets[HEADS] < columns[HEADS].len() {
        let heads = &columns[HEADS][offsets[HEADS]..];
        let Some(layout) = layout(heads) else {
            let bytes = crate::decode::event_bytes(heads)?;
            chunk.extend_from_slice(&heads[..bytes]);
            offsets[HEADS] += bytes;
            continue;
        };
        // The kind of a free stands behind its fields.
        let is_free_kind = heads[0] & 15 == OP_FREE_KIND;
        let heads_first = if is_free_kind { 1 } else { layout.heads };
        chunk.extend_from_slice(&heads[..heads_first]);
        for (column, bytes) in layout.fields {
            let end = offsets[column] + bytes;
            chunk.extend_from_slice(columns[column].get(offsets[column]..end)?);
            offsets[column] = end;
        }
        chunk.extend_from_slice(&heads[heads_first..layout.heads]);
        offsets[HEADS] += layout.heads;
    }
    let lengths: [usize; COLUMN_COUNT] = columns.map(<[u8]>::len);
    (offsets == lengths).then_some(chunk)
}

#[cfg(test)]
mod tests {
    use super::join;
    use crate::chunk::{COLUMN_COUNT, Columns};
    use crate::decode::event_bytes;

    /// An allocation, a free by `operator delete`, a resizing, a free at the same time, the end of
    /// the thread.
    const COLUMNS: Columns<'static> = [
        &[0x11, 0x0c, 0x13, 0x02, 0x54, 0xc1, 0x02, 0x1b, 14],
        &[10, 11, 12, 13],
        &[20, 21, 22, 23, 24, 25],
        &[30, 31],
        &[40, 41],
    ];

    #[test]
    fn events_stand_in_order_with_their_fields() {
        let chunk = join(&COLUMNS).expect("they fit");
        let expected = [
            &[0x11, 0x0c, 10, 20, 30, 40][..],
            &[0x13, 11, 21, 0x02],
            &[0x54, 0xc1, 12, 22, 23, 13, 24, 31, 41],
            &[0x02, 25],
            &[0x1b, 14],
        ];
        assert_eq!(chunk, expected.concat());
        let mut offset = 0;
        for event in expected {
            assert_eq!(event_bytes(&chunk[offset..]), Some(event.len()));
            offset += event.len();
        }
    }

    #[test]
    fn torn_columns_are_refused() {
        for index in 0..COLUMN_COUNT {
            let mut shorter = COLUMNS;
            let (_, rest) = shorter[index].split_last().expect("all are there");
            shorter[index] = rest;
            assert_eq!(join(&shorter), None, "column {index}");
        }
    }
}

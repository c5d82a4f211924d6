//! Buffers that grow from one use to the next, and small records that outlive them.
//!
//! Question: a server keeps a constant number of sessions, each with a buffer; buffers grow slowly,
//! and each session leaves a small record behind that lives for several more. Up to which size of
//! buffer does a fixed budget hold out? Expected: in `malloc` records settle between buffers and
//! keep what is freed apart; pools and buddy have places of their own for small blocks and hold out
//! longer; slab does for records, though its spans of one size of buffer stay while one block of them
//! lives; a buddy that gives tails away does not.
//!
//! All heaps get the same requests in the same order; the first that is refused ends it. The pool
//! is told both sizes, as pools are: records, and the largest buffers that its budget has room for.

use std::alloc::Layout;
use std::ptr::NonNull;

use heapwright_testkit::Random;
use serde_json::{Value, json};

use super::fragmentation::{BUDGET_BYTES, Heap, share};

pub(crate) const SESSIONS: usize = 900;
pub(crate) const RECORD_BYTES: usize = 48;
/// So many sessions later a record dies.
pub(crate) const RECORDS: usize = 8 * SESSIONS;
const BUFFER_BYTES: usize = 2048;
/// A buffer is larger than the one before by one part in this, all sessions long.
const GROWTH: usize = 16 * SESSIONS;
/// What [`creep`] keeps of its blocks, which is not of the budget.
pub(crate) const LIST_BYTES: usize = SESSIONS * size_of::<Option<(NonNull<u8>, Layout)>>()
    + RECORDS * size_of::<Option<NonNull<u8>>>();

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 16).expect("a layout")
}

pub(crate) fn creep<H: Heap>(heap: &H) -> Value {
    let random = &mut Random::new(17);
    let mut buffers: Vec<Option<(H::Block, Layout)>> = vec![None; SESSIONS];
    let mut records: Vec<Option<H::Block>> = vec![None; RECORDS];
    let (mut count, mut live) = (0, 0);
    let request = loop {
        let wanted = BUFFER_BYTES + BUFFER_BYTES * count / GROWTH;
        let slot = if count < SESSIONS { count } else { random.below(SESSIONS as u64) as usize };
        if let Some((block, layout)) = buffers[slot].take() {
            heap.give(block, layout);
            live -= layout.size();
        }
        if let Some(block) = records[count % RECORDS].take() {
            heap.give(block, layout(RECORD_BYTES));
            live -= RECORD_BYTES;
        }
        let Some(block) = heap.take(layout(wanted)) else { break wanted };
        heap.fill(block, layout(wanted));
        buffers[slot] = Some((block, layout(wanted)));
        live += wanted;
        let Some(block) = heap.take(layout(RECORD_BYTES)) else { break RECORD_BYTES };
        heap.fill(block, layout(RECORD_BYTES));
        records[count % RECORDS] = Some(block);
        live += RECORD_BYTES;
        count += 1;
    };
    let (free, largest) = heap.free(live);
    json!({
        "budget_bytes": BUDGET_BYTES,
        "sessions": count,
        "payload_at_failure": share(live, BUDGET_BYTES),
        "failed_request_bytes": request,
        "free_bytes": free,
        "largest_free_bytes": largest,
        "warned": largest < request,
    })
}

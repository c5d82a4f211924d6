//! What an allocator holds after most blocks died.
//!
//! Question: of 64 MB of blocks with even logarithms of sizes, all written, one in sixteen stays,
//! chosen at random; what does the process hold for it, bookkeeping included, before and after
//! the allocator was asked to give memory back? Expected: all hold everything, malloc some less
//! after `malloc_trim`, the compacting heap a tenth more than is live.

use heapwright_testkit::Random;
use serde_json::{Map, Value, json};

use super::fragmentation::{Heap, draw, share};

/// Addresses for allocators that want to know.
pub(crate) const SPACE_BYTES: usize = 256 << 20;
const PEAK_BYTES: usize = 64 << 20;
const KEPT_OF: u64 = 16;

/// Anonymous memory of this process now, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

pub(crate) fn survive<H: Heap>(heap: &H) -> Value {
    let random = &mut Random::new(11);
    // Written, so that what follows is the allocator's.
    let mut blocks = Vec::with_capacity(200_000);
    blocks.resize_with(200_000, || None);
    blocks.clear();
    let before = resident_bytes();
    let mut sum = 0;
    while sum < PEAK_BYTES {
        let layout = draw(random);
        let Some(block) = heap.take(layout) else { return json!({ "error": "refused" }) };
        heap.fill(block, layout);
        sum += layout.size();
        blocks.push(Some((block, layout)));
    }
    let peak = resident_bytes().saturating_sub(before);
    let mut live = 0;
    for entry in &mut blocks {
        let Some((block, layout)) = *entry else { continue };
        if random.below(KEPT_OF) == 0 {
            live += layout.size();
        } else {
            heap.give(block, layout);
            *entry = None;
        }
    }
    let after = resident_bytes().saturating_sub(before);
    let trimmed_by = heap.trim();
    let at_end = resident_bytes().saturating_sub(before);
    let mut row = Map::new();
    row.insert("live_bytes".into(), live.into());
    row.insert("peak_x_payload".into(), share(peak, sum).into());
    row.insert("resident_x_live".into(), share(after, live).into());
    row.insert("trimmed_x_live".into(), share(at_end, live).into());
    if let Value::Object(more) = trimmed_by {
        row.extend(more);
    }
    Value::Object(row)
}

//! How long a span of each size class is, so that little is left behind its last slot.
//!
//! # Invariants
//! - I1: at least one slot fits, and what is left is at most one part in [`TAIL_SHARE_MAX`] of the
//!   span, one in 12 for slots longer than a page, or the least that any allowed length leaves.
//!
//! # Not here
//! Where spans are: the slab's business.
#![forbid(unsafe_code)]

use crate::size_class::{CLASS_COUNT, class_bytes, class_of_aligned};

/// Spans are whole pages of this many bytes.
pub const PAGE_BYTES: usize = 4096;
/// The longest span of slots, in pages.
pub const SPAN_PAGES_MAX: usize = 16;
/// One part in so many may be left behind the last slot.
pub const TAIL_SHARE_MAX: usize = 64;
/// Largest request that the tables of [`classes`] know.
pub const TABLE_BYTES_MAX: usize = 4096;
/// The grain of the tables: class sizes are multiples of it.
const UNIT_BYTES: usize = 16;
/// A thread's cache moves about so many bytes at once.
const BATCH_BYTES: usize = 8192;
/// And so many blocks at most.
const BATCH_COUNT_MAX: usize = 64;
const LINE_BYTES: usize = 64;

/// What is known of a size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a slot.
    pub slot_bytes: u32,
    /// Pages of a span.
    pub pages: u32,
    /// Blocks that go to or come from a span at once.
    pub batch: u32,
}

/// The shape of each class.
pub static SHAPES: [Shape; CLASS_COUNT] = {
    let mut shapes = [Shape { slot_bytes: 0, pages: 0, batch: 0 }; CLASS_COUNT];
    let mut class = 0;
    while class < CLASS_COUNT {
        shapes[class] = shape(class_bytes(class));
        class += 1;
    }
    shapes
};

/// The same for slots longer than a page, of which a span then has two to four: one that lives keeps
/// the others' memory, and what programs ask for in these sizes seldom fits as exactly anyway.
const TAIL_SHARE_MAX_LONG: usize = 12;

const fn shape(slot_bytes: usize) -> Shape {
    let share_max = if slot_bytes > PAGE_BYTES { TAIL_SHARE_MAX_LONG } else { TAIL_SHARE_MAX };
    let mut best = slot_bytes.div_ceil(PAGE_BYTES);
    let mut pages = best;
    while pages <= SPAN_PAGES_MAX {
        let tail = (pages * PAGE_BYTES) % slot_bytes;
        let best_tail = (best * PAGE_BYTES) % slot_bytes;
        // Cross-multiplied shares of the two spans.
        if tail * best < best_tail * pages {
            best = pages;
        }
        if tail * share_max <= pages * PAGE_BYTES {
            best = pages;
            break;
        }
        pages += 1;
    }
    let batch = BATCH_BYTES / slot_bytes;
    let batch = if batch > BATCH_COUNT_MAX { BATCH_COUNT_MAX } else { batch };
    Shape {
        slot_bytes: slot_bytes as u32,
        pages: best as u32,
        batch: if batch < 2 { 2 } else { batch as u32 },
    }
}

/// Class of each count of 16 byte units.
pub type ClassTable = [u8; TABLE_BYTES_MAX / UNIT_BYTES + 1];

/// Index into a [`ClassTable`] for a request of `bytes`, at most [`TABLE_BYTES_MAX`].
#[inline(always)]
pub const fn unit_of(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

/// The smallest class for each request up to [`TABLE_BYTES_MAX`].
pub static CLASSES: ClassTable = classes(UNIT_BYTES);
/// The smallest class whose slots are whole cache lines.
pub static LINE_CLASSES: ClassTable = classes(LINE_BYTES);

const fn classes(align_bytes: usize) -> ClassTable {
    let mut table = [0; TABLE_BYTES_MAX / UNIT_BYTES + 1];
    let mut unit = 0;
    while unit < table.len() {
        table[unit] = match class_of_aligned(unit * UNIT_BYTES, align_bytes) {
            Some(class) => class as u8,
            None => panic!("every small size has a class"),
        };
        unit += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{
        CLASSES, LINE_CLASSES, PAGE_BYTES, SHAPES, SPAN_PAGES_MAX, TABLE_BYTES_MAX, unit_of,
    };
    use crate::size_class::class_bytes;

    #[test]
    fn little_is_left_behind_the_last_slot() {
        for shape in &SHAPES {
            let span_bytes = shape.pages as usize * PAGE_BYTES;
            assert!(shape.pages as usize <= SPAN_PAGES_MAX);
            let tail_bytes = span_bytes % shape.slot_bytes as usize;
            assert!(tail_bytes < span_bytes, "I1: {shape:?}");
            let share_max = if shape.slot_bytes as usize > PAGE_BYTES { 12 } else { 40 };
            assert!(tail_bytes * share_max <= span_bytes, "I1: {shape:?} leaves {tail_bytes}");
            assert!(shape.batch >= 2);
        }
    }

    #[test]
    fn tables_hold_the_smallest_class_that_fits() {
        for bytes in 0..=TABLE_BYTES_MAX {
            let class = CLASSES[unit_of(bytes)] as usize;
            assert!(class_bytes(class) >= bytes);
            assert!(class == 0 || class_bytes(class - 1) < bytes.max(1));
            let line = class_bytes(LINE_CLASSES[unit_of(bytes)] as usize);
            assert!(line >= bytes && line.is_multiple_of(64));
        }
    }
}

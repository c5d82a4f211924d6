//! The live bytes of a passive span, window by window. The class's lock is held.

use heapwright_sync::atomic::Ordering;

use crate::merge::mask::{Mask, WINDOW_BYTES};
use crate::span::Span;

/// What of window `window` is live, in a thread's list or on its way home: everything that the
/// bitmap does not call free and that was handed out once.
pub(crate) fn live_mask(span: Span, window: usize) -> Mask {
    let geometry = span.geometry();
    let (start, end) = (window * WINDOW_BYTES, (window + 1) * WINDOW_BYTES);
    let extended = usize::from(span.head().extended_count.load(Ordering::Relaxed));
    let slot_bytes = geometry.slot_bytes as usize;
    let mut mask = Mask::EMPTY;
    let mut number = span.slot_at(start);
    while number < extended {
        let offset = span.slot_offset(number);
        if offset >= end {
            break;
        }
        if !span.is_bit_set(offset) {
            let from = offset.max(start) - start;
            let to = (offset + slot_bytes).min(end) - start;
            mask.add_bytes(from, to);
        }
        number += 1;
    }
    mask
}

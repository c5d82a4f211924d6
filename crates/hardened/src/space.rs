//! Addresses: one reservation for the blocks of all classes, one for what is known of
//! them, one for their depots.

use core::ptr::NonNull;

use crate::geometry::CLASS_COUNT;
use heapwright_os::{
    Advice, Protection, address_space_limit_bytes, advise, commit, guard, page_bytes, release,
    reserve,
};
use heapwright_sync::atomic::{AtomicUsize, Ordering};

use crate::class::{HEADS_BYTES, Layout, class, heads};
use crate::geometry::{CLASS_LOG2_MAX, CUTS, GUARD_BYTES, SPAN_BYTES, SPAN_LOG2, SPAN_SLOTS_BYTES};

/// Addresses of one class, at least.
const CLASS_LOG2_MIN: u32 = 20;
/// Metadata stays away from its neighbours by so much.
const MARGIN_BYTES: usize = 1 << 20;

/// Spans whose guard the kernel refused: counted, and told by the statistics.
pub(crate) static UNGUARDED_SPANS: AtomicUsize = AtomicUsize::new(0);

/// Reserves them; none when there are too few addresses even for the smallest.
pub(crate) fn reserve_layout() -> Option<Layout> {
    let limit_bytes = address_space_limit_bytes().unwrap_or(usize::MAX);
    (CLASS_LOG2_MIN..=CLASS_LOG2_MAX).rev().find_map(|class_log2| {
        let data_bytes = CLASS_COUNT << class_log2;
        // Where the region lies changes it by some cache lines.
        let meta_bytes = Layout::meta_bytes(0, class_log2);
        // A quarter of a limit: large blocks, stacks and the program's own mappings need the rest.
        if data_bytes + meta_bytes > limit_bytes / 4 {
            return None;
        }
        let base = reserve(data_bytes + SPAN_BYTES, Protection::None).ok()?;
        let data = base.as_ptr().map_addr(|address| address.next_multiple_of(SPAN_BYTES));
        let meta_bytes = Layout::meta_bytes(data.addr(), class_log2);
        // Readable, so that the word of any address can be asked for.
        let Ok(meta) = reserve(meta_bytes + 2 * MARGIN_BYTES, Protection::Read) else {
            // SAFETY: the mapping made above, which nobody has seen. A refusal loses addresses.
            let _ = unsafe { release(base, data_bytes + SPAN_BYTES) };
            return None;
        };
        let meta = meta.as_ptr().wrapping_add(MARGIN_BYTES);
        Some(Layout {
            base: NonNull::new(data)?,
            class_log2,
            meta: NonNull::new(meta)?,
            depots: reserve_depots()?,
        })
    })
}

/// Places for all depots, between margins.
fn reserve_depots() -> Option<NonNull<u8>> {
    let page = page_bytes();
    let bytes: usize = (0..CLASS_COUNT).map(Layout::depot_bytes).sum();
    let mapping = reserve(bytes + 4 * page, Protection::None).ok()?;
    let start = NonNull::new(mapping.as_ptr().wrapping_add(page))?;
    // SAFETY: whole pages inside the mapping made above, a page from its start and its end.
    unsafe { commit(start, bytes.next_multiple_of(page)) }.ok()?;
    Some(start)
}

/// Makes `count` spans of `class_index` from number `first` on usable, with their metadata, and
/// guards the end of each; whether the kernel agreed. A refusal may leave some of it usable.
pub(crate) fn commit_spans(class_index: usize, first: usize, count: usize) -> bool {
    let class = class(class_index);
    let number = first - class.first_span() as usize;
    let bits_bytes = count << CUTS[class_index].bits_log2;
    let (words, words_end) = (class.span_words(first).0, class.span_words(first + count - 1));
    let words_bytes = words_end.0.addr() + words_end.1 - words.addr();
    let spans = class.span_start(first);
    // The spans themselves last: a usable span has its metadata.
    let ranges = [
        (heads(number), count * HEADS_BYTES),
        (class.span_bits(first), bits_bytes),
        (words, words_bytes),
        (spans, count << SPAN_LOG2),
    ];
    if !ranges.into_iter().all(|(start, bytes)| commit_pages_of(start, bytes)) {
        return false;
    }
    if cfg!(not(heapwright_hardened_without = "guards")) {
        for number in 0..count {
            let at = spans.wrapping_add((number << SPAN_LOG2) + SPAN_SLOTS_BYTES);
            let Some(at) = NonNull::new(at) else { return false };
            // SAFETY: whole pages of the span that hold no slot.
            if unsafe { guard(at, GUARD_BYTES) }.is_err() {
                UNGUARDED_SPANS.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    true
}

/// Makes the pages of `bytes` from `start`, in the region or the metadata, usable; whether the
/// kernel agreed.
fn commit_pages_of(start: *mut u8, bytes: usize) -> bool {
    let page = page_bytes();
    let end = (start.addr() + bytes).next_multiple_of(page);
    let first = start.map_addr(|address| address / page * page);
    let Some(first) = NonNull::new(first) else { return false };
    // SAFETY: whole pages inside our reservations, which have margins; only more access is given.
    unsafe { commit(first, end - first.addr().get()) }.is_ok()
}

/// Has the kernel find memory for the whole pages of `bytes` from `start`, slots that will be used
/// soon: one call instead of a fault for each page.
pub(crate) fn populate(start: *mut u8, bytes: usize) {
    let page = page_bytes();
    let first = start.map_addr(|address| address.next_multiple_of(page));
    let end = (start.addr() + bytes) / page * page;
    if let Some(first) = NonNull::new(first)
        && first.as_ptr().addr() < end
    {
        // SAFETY: pages of a committed span; nothing is lost. A refusal means faults later.
        let _ = unsafe { advise(first, end - first.as_ptr().addr(), Advice::Populate) };
    }
}

/// Gives the memory of a span back as far as `bytes` from `start`, its first byte; it reads as zero
/// then. Whether the kernel agreed.
pub(crate) fn purge_span(start: *mut u8, bytes: usize) -> bool {
    let page = page_bytes();
    // Not over the guard: the range ends where slots end.
    let bytes = bytes.next_multiple_of(page).min(SPAN_SLOTS_BYTES);
    let Some(start) = NonNull::new(start) else { return false };
    // SAFETY: whole pages of a span without live blocks, under its class's lock.
    unsafe { advise(start, bytes, Advice::DontNeed) }.is_ok()
}

const _: () = assert!(CLASS_LOG2_MIN > SPAN_LOG2);
const _: () = assert!(SPAN_SLOTS_BYTES.is_multiple_of(GUARD_BYTES));

//! How allocators take memory of their backing as they grow: some ahead, ready before it is used.
//!
//! What is committed costs nothing until a page of it is touched, and then a fault, several times
//! what a page costs among others. So, as an allocator grows, what it takes next is brought in with
//! it, up to a quarter of what it has and 2 MiB (an arena: 256 KiB). What is used at any place of it
//! comes in huge pages from 4 MiB on, and the memory before becomes huge, too. So at most 2 MiB are
//! resident that nobody has used, and of less than 4 MiB at most a quarter.
//!
//! # Not here
//! Who does without: [`Lazy`](crate::Lazy), and each backing that has no `prepare`.

use core::alloc::Layout;

use heapwright_core::backing::{Backing, BackingError, Extent, Prepare};
use heapwright_core::bump::align_up;
use heapwright_core::region_error::AllocError;
use heapwright_core::span_shape::PAGE_BYTES;

/// What is committed at once where commit is a call of its own: 16 small pages.
const COMMIT_BYTES_MIN: usize = 64 << 10;
/// What an arena commits at once, at most: it is cleared by the kernel and written soon after, so
/// the second cache should still have it. Twice as much is no faster.
const IN_ORDER_BYTES_MAX: usize = 256 << 10;
/// An allocator commits an eighth of what it has; that is little enough to be brought in whole.
const COMMIT_SHARE_LOG2: u32 = 3;
/// A quarter of what is there is the most that is brought in beside it.
const POPULATE_SHARE_LOG2: u32 = 2;
/// A huge page of most machines: 2 MiB. Where they differ the kernel takes what it can.
const HUGE_BYTES: usize = 2 << 20;
/// From here on memory comes in huge pages: the last of them, hardly used, is a third of it all.
const HUGE_FROM_BYTES: usize = 2 * HUGE_BYTES;
/// Memory taken at once is advised from here on. It is used from one end mostly, not for certain.
const HUGE_WHOLE_BYTES: usize = 4 * HUGE_BYTES;
const _: () = assert!(HUGE_BYTES.is_power_of_two() && HUGE_FROM_BYTES >= HUGE_BYTES);

/// How an allocator uses what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// From its start to its end and not much more often than that: an arena. Small pages are
    /// enough for it, and some of those are nearly always at hand, where huge ones may have to be
    /// found first: of a virtual machine, by its host.
    InOrder,
    /// Again and again, wherever blocks are: translation of addresses is what it waits for.
    Anywhere,
    /// In blocks of more than a page, of which nobody knows how much will be written.
    Sparse,
}

impl Use {
    /// Of blocks of `bytes`.
    pub(crate) const fn of_blocks(bytes: usize) -> Self {
        if bytes > PAGE_BYTES { Self::Sparse } else { Self::Anywhere }
    }
}

/// Up to where an extent at `start`, committed up to `from`, is best committed.
fn best_end(start: usize, from: usize, usage: Use) -> usize {
    let most = if usage == Use::InOrder { IN_ORDER_BYTES_MAX } else { HUGE_BYTES };
    let ahead = (from >> COMMIT_SHARE_LOG2).clamp(COMMIT_BYTES_MIN, most);
    if usage != Use::Anywhere || from + ahead < HUGE_FROM_BYTES {
        return from + ahead;
    }
    // A huge page comes in only where all of it is committed.
    let more = start.saturating_add((from + 1).max(HUGE_FROM_BYTES));
    align_up(more, HUGE_BYTES).map_or(usize::MAX, |end| end - start)
}

/// Commits from `extent.committed_bytes` at least to `bytes`, not beyond `limit`, and makes ready
/// what is next; how far it went.
pub(crate) fn commit_to<B: Backing>(
    backing: &B,
    extent: &Extent,
    bytes: usize,
    limit: usize,
    usage: Use,
) -> Result<usize, BackingError> {
    let from = extent.committed_bytes;
    if bytes.min(limit) <= from {
        return Ok(from);
    }
    let least = align_up(bytes, extent.step_bytes).unwrap_or(usize::MAX).min(limit);
    let best = best_end(extent.start.as_ptr().addr(), from, usage);
    let most = align_up(best, extent.step_bytes).unwrap_or(usize::MAX).clamp(least, limit);
    // SAFETY: a live extent of this backing, and a range of it.
    let to = if most > least && unsafe { backing.commit(extent, from..most) }.is_ok() {
        most
    } else {
        // SAFETY: as above.
        unsafe { backing.commit(extent, from..least) }?;
        least
    };
    // Of a block of many pages nobody knows how much will be written.
    if from == 0 || bytes - from <= 2 * PAGE_BYTES {
        prepare(backing, extent, to, usage);
    }
    Ok(to)
}

/// Makes what was committed just now, from `extent.committed_bytes` up to `to`, ready for use. What
/// is refused comes in page by page as it is touched.
fn prepare<B: Backing>(backing: &B, extent: &Extent, to: usize, usage: Use) {
    let from = extent.committed_bytes;
    let ask = |from: usize, to: usize, how| {
        let range = from..to & !(extent.step_bytes - 1);
        // SAFETY: a live extent of this backing, and committed steps of it.
        !range.is_empty() && unsafe { backing.prepare(extent, range, how) }.is_ok()
    };
    if usage == Use::Sparse || !from.is_multiple_of(extent.step_bytes) {
        return;
    }
    if from == 0 {
        // Taken at once: nobody knows how much of it is wanted soon.
        if usage == Use::Anywhere && to >= HUGE_WHOLE_BYTES {
            ask(0, to, Prepare::Huge);
        }
        return;
    }
    let next = to.min(from + (from >> POPULATE_SHARE_LOG2).min(HUGE_BYTES));
    if usage == Use::InOrder || to < HUGE_FROM_BYTES {
        ask(from, next, Prepare::Populate);
    } else if from >= HUGE_FROM_BYTES {
        if !ask(from, to, Prepare::Huge) {
            ask(from, next, Prepare::Populate);
        }
    } else if !(ask(0, to, Prepare::Huge) && ask(0, next, Prepare::Collapse)) {
        ask(from, next, Prepare::Populate);
    }
}

/// An extent of `bytes`, committed, used as `usage` says.
pub(crate) fn take<B: Backing>(
    backing: &B,
    bytes: usize,
    align: usize,
    usage: Use,
) -> Result<Extent, AllocError> {
    let exhausted = BackingError::Exhausted { requested_bytes: bytes, available_bytes: 0 };
    let layout = Layout::from_size_align(bytes.max(1), align).map_err(|_| exhausted)?;
    let extent = backing.reserve(layout)?;
    let to = layout.size().next_multiple_of(extent.step_bytes).min(extent.reserved_bytes);
    match commit_to(backing, &extent, to, to, usage) {
        Ok(committed_bytes) => Ok(Extent { committed_bytes, ..extent }),
        Err(error) => {
            // SAFETY: just reserved, unused.
            unsafe { backing.release(extent) };
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMIT_BYTES_MIN, HUGE_BYTES, HUGE_FROM_BYTES, Use, best_end};

    #[test]
    fn an_extent_grows_by_an_eighth_and_then_up_to_the_end_of_each_huge_page() {
        for start in [4096, 3 * HUGE_BYTES, 7 * HUGE_BYTES + (64 << 10)] {
            let mut from = 0;
            while from < 20 * HUGE_BYTES {
                let to = best_end(start, from, Use::Anywhere);
                if to < HUGE_FROM_BYTES {
                    assert_eq!(to - from, (from / 8).max(COMMIT_BYTES_MIN));
                } else {
                    assert!((start + to).is_multiple_of(HUGE_BYTES), "{start} + {to}");
                    assert!(to - from <= HUGE_BYTES + from / 8 + COMMIT_BYTES_MIN);
                    assert!(from < HUGE_FROM_BYTES || to - from <= HUGE_BYTES);
                }
                assert!(to > from);
                from = to;
            }
        }
        assert_eq!(best_end(usize::MAX - 100, 8 << 20, Use::Anywhere), usize::MAX, "no wrap");
        for (from, ahead) in [(0, 64 << 10), (1 << 20, 128 << 10), (256 << 20, 256 << 10)] {
            assert_eq!(best_end(4096, from, Use::InOrder), from + ahead, "no huge page's end");
        }
    }
}

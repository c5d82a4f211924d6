//! One step of a merge: a window's live bytes are copied into its group's pages, which are mapped
//! in its place. Any failure leaves every byte as it was.
//!
//! The class's lock is held for the step: nothing of the span is handed out or taken back. A block
//! may still be written by whoever has it, by a system call, by a free on its way: such an access
//! waits while the window is away (`barrier`). About ten microseconds.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use heapwright_os::Errno;
use heapwright_sync::atomic::Ordering;

use crate::class_pool::{ClassPool, lock_class};
use crate::descriptor::{PASSIVE, Place};
use crate::merge::barrier::{Away, Barrier};
use crate::merge::fault;
use crate::merge::homes;
use crate::merge::live::live_mask;
use crate::merge::mask::{Mask, SLICE_WINDOWS, WINDOW_BYTES, WINDOW_PAGES};
use crate::merge::plan::Candidate;
use crate::merge::segment::Segment;
use crate::region::{SLICE_BYTES, slice_start};
use crate::span::{PAGE_UNIT_BYTES, Span};

/// What became of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It shares its group's pages.
    Merged,
    /// It shared the pages of another group before.
    MergedAgain,
    /// Its span was taken, changed or given back meanwhile.
    Changed,
    /// The kernel refused, with this reason.
    Refused(Errno),
}

/// Merges the window of `candidate` into `group` of `segment`.
pub(crate) fn merge_window(
    barrier: &Barrier,
    segment: &mut Segment,
    group: usize,
    candidate: &Candidate,
) -> Outcome {
    let class_index = usize::from(candidate.class_index);
    let mut pool = lock_class(class_index);
    let span = Span::at(candidate.slice);
    let window = usize::from(candidate.window);
    let is_right =
        if candidate.is_merged { is_merged(span, window) } else { is_open(span, window) };
    if span.class_index() != class_index || !is_right {
        return Outcome::Changed;
    }
    let mask = live_mask(span, window);
    if mask == Mask::EMPTY || !candidate.mask.contains(&mask) {
        return Outcome::Changed;
    }
    let start = slice_start(span.index()).wrapping_add(window * WINDOW_BYTES);
    let Some(start) = NonNull::new(start) else { return Outcome::Changed };
    if candidate.is_merged {
        let answer = replace_merged(barrier, segment, group, start, &mask);
        return match answer {
            Ok(()) => {
                homes::settle(span.index(), window, segment.id());
                forget_pages(span, window, &mask);
                Outcome::MergedAgain
            }
            Err(errno) => {
                if errno == Errno::EBUSY {
                    homes::note_stuck(span.index(), window);
                }
                Outcome::Refused(errno)
            }
        };
    }
    let mut answer = replace(barrier, segment, group, start, &mask);
    if answer == Err(Errno::EBUSY) {
        // Shared with a child of before, most often.
        make_own(start, &mask);
        answer = replace(barrier, segment, group, start, &mask);
    }
    match answer {
        Ok(()) => {
            freeze(&mut pool, span, window, &mask);
            homes::settle(span.index(), window, segment.id());
            Outcome::Merged
        }
        Err(errno) => Outcome::Refused(errno),
    }
}

/// Whether window `window` of `span` may be merged. The class's lock is held, or the answer is a
/// guess.
pub(crate) fn is_open(span: Span, window: usize) -> bool {
    // Acquire: pairs with the Release of whoever made it passive.
    if span.head().owner.load(Ordering::Acquire) != PASSIVE {
        return false;
    }
    match span.place() {
        Place::Merged | Place::MergedPending => {
            span.head().epoch.load(Ordering::Relaxed) >> window & 1 == 0
        }
        Place::Pending => true,
        place => place.is_bucket(),
    }
}

/// Whether window `window` of `span` is merged. The class's lock is held, or the answer is a guess.
pub(crate) fn is_merged(span: Span, window: usize) -> bool {
    // Acquire: as above.
    span.head().owner.load(Ordering::Acquire) == PASSIVE
        && span.place().is_merged()
        && span.head().epoch.load(Ordering::Relaxed) >> window & 1 == 1
}

/// Copies the live bytes of the window at `start` into the group's pages and maps those.
fn replace(
    barrier: &Barrier,
    segment: &mut Segment,
    group: usize,
    start: NonNull<u8>,
    mask: &Mask,
) -> Result<(), Errno> {
    fault::inject(fault::Step::Memory)?;
    let place = segment.place_for(group, mask)?;
    fault::inject(fault::Step::Take)?;
    // SAFETY: a window of a span that is ours under the class's lock; it is replaced or put back
    // below, and not touched before.
    let away = unsafe { barrier.take(start, mask) }?;
    // SAFETY: the stash has every page with live bytes, and nobody else knows it; the target is in
    // the segment's view, at bytes that are no other window's.
    unsafe { copy_live(barrier.stash(), place, mask) };
    map_group(barrier, segment, group, start, away)
}

/// Copies the live bytes of the merged window at `start` into the group's pages and maps those.
fn replace_merged(
    barrier: &Barrier,
    segment: &mut Segment,
    group: usize,
    start: NonNull<u8>,
    mask: &Mask,
) -> Result<(), Errno> {
    fault::inject(fault::Step::Memory)?;
    let place = segment.place_for(group, mask)?;
    fault::inject(fault::Step::Take)?;
    // SAFETY: a merged window of a span that is ours under the class's lock; it is replaced or let
    // go below, and not written before.
    let held = unsafe { barrier.hold(start, mask) }?;
    // SAFETY: the window is mapped, and who writes to it waits; the target is as above.
    unsafe { copy_live(start.as_ptr(), place, mask) };
    map_group(barrier, segment, group, start, held)
}

/// Copies the bytes of `mask` from one window to another.
///
/// # Safety
/// - Both have these bytes, and do not overlap; nobody writes the first or uses the second.
unsafe fn copy_live(from: *const u8, to: *mut u8, mask: &Mask) {
    mask.for_each_run(|start, end| {
        let (source, target) = (from.wrapping_add(start), to.wrapping_add(start));
        // SAFETY: the caller's promise.
        unsafe { source.copy_to_nonoverlapping(target, end - start) };
    });
}

/// Maps the group, which has the live bytes by now, in the place of the window at `start`, and ends
/// that this is away.
fn map_group(
    barrier: &Barrier,
    segment: &mut Segment,
    group: usize,
    start: NonNull<u8>,
    away: Away,
) -> Result<(), Errno> {
    let mapped = fault::inject(fault::Step::Map)
        // SAFETY: the window is ours, and the group has its live bytes.
        .and_then(|()| unsafe { segment.map_over(start, group) });
    match mapped {
        Ok(()) => barrier.replaced(away),
        Err(_) => barrier.put_back(away),
    }
    mapped
}

/// Writes to each page with live bytes without changing it, after which it is this process's own:
/// the kernel copies it if a child still has it.
fn make_own(start: NonNull<u8>, mask: &Mask) {
    for page in (0..WINDOW_PAGES).filter(|page| mask.has_page(*page)) {
        let word = start.as_ptr().wrapping_add(page * PAGE_UNIT_BYTES).cast::<u64>();
        // SAFETY: committed memory of the region, aligned; whoever else writes to it does so
        // before or after this one indivisible access, which changes no bit.
        unsafe { AtomicU64::from_ptr(word) }.fetch_or(0, Ordering::Relaxed);
    }
}

/// Notes that the window is merged: the span's free slots are not handed out any more, since
/// writing to one would cost a page as a new slot does, and undo the merge.
fn freeze(pool: &mut ClassPool, span: Span, window: usize, mask: &Mask) {
    let head = span.head();
    let merged = match span.place() {
        Place::Merged | Place::MergedPending => head.epoch.load(Ordering::Relaxed),
        Place::Pending => {
            span.set_place(Place::MergedPending);
            0
        }
        _ => {
            pool.remove(span);
            span.set_place(Place::Merged);
            0
        }
    };
    head.epoch.store(merged | 1 << window, Ordering::Relaxed);
    forget_pages(span, window, mask);
}

/// Notes that the pages of a merged window without live bytes are not there.
fn forget_pages(span: Span, window: usize, mask: &Mask) {
    let first = window * WINDOW_PAGES;
    let mut touched = span.touched();
    for page in (0..WINDOW_PAGES).filter(|page| !mask.has_page(*page)) {
        touched &= !(1 << (first + page));
    }
    span.set_touched(touched);
}

/// Makes a merged span without used slots ordinary memory again, all zero; whether the kernel
/// agreed. The class's lock is held. Where it does not the span must not be used any more.
#[cold]
pub(crate) fn thaw(span: Span) -> bool {
    let head = span.head();
    let Some(start) = NonNull::new(slice_start(span.index())) else { return false };
    // SAFETY: a span of one slice (only those are merged) that has no live block.
    if unsafe { heapwright_os::map_zeroed_at(start, SLICE_BYTES) }.is_err() {
        return false;
    }
    let merged = head.epoch.swap(0, Ordering::Relaxed);
    crate::merge::statistics::note_thawed(merged.count_ones() as usize);
    (0..SLICE_WINDOWS)
        .filter(|window| merged >> window & 1 == 1)
        .for_each(|window| homes::leave(span.index(), window));
    span.set_touched(0);
    span.set_place(Place::Packed);
    true
}

const _: () = assert!(SLICE_WINDOWS <= u32::BITS as usize);

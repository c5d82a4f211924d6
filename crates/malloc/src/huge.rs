//! Huge pages for memory that is dense and old, when the option `huge_pages` is on.
//!
//! Memory is never huge at birth: a program that touches a page of it would pay for 2 MiB. A round
//! looks which aligned 2 MiB are resident to fifteen sixteenths; what was so in ten rounds, two
//! seconds at least, is collapsed into a huge page (`MADV_COLLAPSE`), some a round. So a collapse
//! adds at most a sixteenth to what is resident, and nothing that a purge would have taken soon.
//!
//! A huge page of which pieces are purged is dear: the kernel splits it, and frees the pieces only
//! when it is short of memory. So pages inside spans that are more than half used are not purged
//! while they lie in one; sparser spans and free runs are, and the piece counts as young then.
//!
//! # Invariants
//! - H1: a group is collapsed only by who has set `IS_UNDER_WAY`.

use core::ptr::NonNull;

use heapwright_os::{
    Errno, NODE_COUNT_MAX, collapse, mincore, monotonic_ns, page_bytes, transparent_huge_page_bytes,
};
use heapwright_sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::descriptor::SliceIndex;
use crate::options::are_huge_pages_wanted;
use crate::pool::lock;
use crate::region::{BYTES, SLICE_BYTES, reserve_metadata, slice_start};
use crate::span::Span;

/// What a huge page is on the machines that we build for; on others nothing is done.
const HUGE_BYTES: usize = 2 << 20;
/// A group: the slices of a huge page.
const GROUP_SLICES: SliceIndex = (HUGE_BYTES / SLICE_BYTES) as SliceIndex;
/// Pages of a group at most.
const GROUP_PAGES_MAX: usize = HUGE_BYTES / 4096;
/// All pages but one in so many have to be resident.
const ABSENT_SHARE: usize = 16;
/// Rounds in a row in which a group has to be dense.
const AGE_ROUNDS: u8 = 10;
/// At least so much time between two rounds.
const ROUND_NS: u64 = 200_000_000;
/// Collapses a round: some 0.7 ms each.
const COLLAPSE_COUNT: u32 = 8;
/// The state of a group that was collapsed; below `AGE_ROUNDS` it is an age.
const COLLAPSED: u8 = u8::MAX;
/// The kernel had no huge page: not tried again before something was purged there.
const REFUSED: u8 = u8::MAX - 1;

/// States of all groups of the region, by number; null until the option is on.
static STATES: AtomicPtr<AtomicU8> = AtomicPtr::new(core::ptr::null_mut());
/// 1 while a thread makes a round.
static IS_UNDER_WAY: AtomicU32 = AtomicU32::new(0);
/// 1 when this kernel or machine cannot.
static IS_IMPOSSIBLE: AtomicU32 = AtomicU32::new(0);
static LAST_ROUND_NS: AtomicU64 = AtomicU64::new(0);

/// The state of the group that slice `index` lies in; none while there are no states.
fn state_of(index: SliceIndex) -> Option<&'static AtomicU8> {
    // Acquire: pairs with the Release in `make_states`.
    let states = STATES.load(Ordering::Acquire);
    // SAFETY: null, or a place of the table, which has one for every group of the region.
    (!states.is_null()).then(|| unsafe { &*states.wrapping_add((index / GROUP_SLICES) as usize) })
}

/// Makes the table of states; whether there is one.
fn make_states() -> bool {
    if !STATES.load(Ordering::Acquire).is_null() {
        return true;
    }
    let can = transparent_huge_page_bytes() == HUGE_BYTES && page_bytes() < HUGE_BYTES;
    let groups = BYTES.load(Ordering::Relaxed).div_ceil(HUGE_BYTES);
    let states =
        if can && groups > 0 { reserve_metadata(groups).cast() } else { core::ptr::null_mut() };
    // Release: pairs with the Acquire in `state_of`; zeroed memory is ages of 0.
    STATES.store(states, Ordering::Release);
    !states.is_null()
}

/// Whether a span lies in a huge page and is not so sparse that the huge page is to be split.
#[inline]
pub(crate) fn keeps_whole(span: Span) -> bool {
    state_of(span.index()).is_some_and(|state| {
        state.load(Ordering::Relaxed) == COLLAPSED && span.passive_used() * 2 > span.slot_count()
    })
}

/// Notes that pages of the slices were purged.
#[inline]
pub(crate) fn note_purged(index: SliceIndex, slices: SliceIndex) {
    if !STATES.load(Ordering::Relaxed).is_null() {
        note_purged_groups(index, slices);
    }
}

#[cold]
fn note_purged_groups(index: SliceIndex, slices: SliceIndex) {
    for group in index / GROUP_SLICES..=(index + slices - 1) / GROUP_SLICES {
        if let Some(state) = state_of(group * GROUP_SLICES) {
            state.store(0, Ordering::Relaxed);
        }
    }
}

/// A round, if it is time for one and the option is on; whether there is memory that may become
/// old enough. No lock is held by the caller.
#[inline]
pub(crate) fn round() -> bool {
    are_huge_pages_wanted() && round_slow()
}

#[cold]
fn round_slow() -> bool {
    if IS_IMPOSSIBLE.load(Ordering::Relaxed) == 1 {
        return false;
    }
    let now_ns = monotonic_ns();
    if now_ns.saturating_sub(LAST_ROUND_NS.load(Ordering::Relaxed)) < ROUND_NS
        || IS_UNDER_WAY.swap(1, Ordering::Acquire) == 1
    {
        return true;
    }
    LAST_ROUND_NS.store(now_ns, Ordering::Relaxed);
    let is_more = if make_states() {
        look_at_all()
    } else {
        IS_IMPOSSIBLE.store(1, Ordering::Relaxed);
        false
    };
    // Release: pairs with the Acquire above.
    IS_UNDER_WAY.store(0, Ordering::Release);
    is_more
}

/// In the child of a fork: nobody else makes a round.
pub(crate) fn forget() {
    IS_UNDER_WAY.store(0, Ordering::Relaxed);
}

fn look_at_all() -> bool {
    let mut ranges = [(0, 0); NODE_COUNT_MAX];
    for (place, range) in ranges.iter_mut().zip(lock().runs.ranges()) {
        *place = (range.start, range.end);
    }
    let (mut is_more, mut budget) = (false, COLLAPSE_COUNT);
    for (first, end) in ranges {
        let mut group = first.next_multiple_of(GROUP_SLICES);
        // A group behind the frontier is not dense.
        while group + GROUP_SLICES <= end {
            is_more |= look_at(group, &mut budget);
            group += GROUP_SLICES;
        }
    }
    is_more
}

/// Looks at the group that begins at slice `first`; whether it may be collapsed later.
fn look_at(first: SliceIndex, budget: &mut u32) -> bool {
    let Some(state) = state_of(first) else { return false };
    let age = state.load(Ordering::Relaxed);
    if age >= REFUSED {
        return false;
    }
    if !is_dense(first) {
        state.store(0, Ordering::Relaxed);
        return false;
    }
    if age < AGE_ROUNDS {
        state.store(age + 1, Ordering::Relaxed);
        return true;
    }
    if *budget == 0 {
        return true;
    }
    *budget -= 1;
    let Some(start) = NonNull::new(slice_start(first)) else { return false };
    // SAFETY: whole pages of committed slices; contents and addresses stay.
    let after = match unsafe { collapse(start, HUGE_BYTES) } {
        Ok(()) => COLLAPSED,
        Err(Errno::EINVAL) => {
            // Before Linux 6.1, or where huge pages are off.
            IS_IMPOSSIBLE.store(1, Ordering::Relaxed);
            REFUSED
        }
        Err(_) => REFUSED,
    };
    state.store(after, Ordering::Relaxed);
    false
}

/// Whether nearly all pages of the group are resident.
fn is_dense(first: SliceIndex) -> bool {
    let pages = HUGE_BYTES / page_bytes();
    let mut seen = [0; GROUP_PAGES_MAX];
    let Some(seen) = seen.get_mut(..pages) else { return false };
    if mincore(slice_start(first).addr(), seen).is_err() {
        return false;
    }
    let absent = seen.iter().filter(|page| **page & 1 == 0).count();
    absent * ABSENT_SHARE <= pages
}

//! Guarding a few blocks beside an ordinary heap, for a whole fleet: one in some thousand lies on
//! pages of its own, and what is done wrong with it is told with all three stacks.
//!
//! The ordinary heap offers a block now and then ([`replace`]) and asks about each address that
//! is not its own ([`free`], [`usable_bytes`]). A site that was seldom met is taken at each offer,
//! others at every second: so a bug of a rare path is met early. One block in four begins at its
//! room's beginning, since overflows are the commoner error.
//!
//! Memory is bounded: so many bytes of guarded blocks, so many records of freed ones, a small
//! table of sites. A block beyond stays an ordinary one.

use heapwright_core::family::Family;
use heapwright_os::{env_var, is_secure};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::heap::{HEAP, Request, Return};
use crate::options::{Flag, VARIABLE};
use crate::thread::trace;

/// Offers of a known site of which one is taken: each offer costs a walk of the stack, and as many
/// times as a site that is new is taken more often.
const KNOWN_SHARE: u32 = 2;
/// Offers after which a site is known.
const NEW_COUNT: u32 = 4;
/// Pages of guarded blocks alive, at most.
const LIVE_BYTES_MAX: usize = 128 << 10;
/// Records of freed blocks that are kept.
pub(crate) const FREED_COUNT: usize = 1024;
/// What counts as the allowance; decides nothing else than how many records are kept.
pub(crate) const KEPT_BYTES: usize = 0;
/// From this rate on stacks are walked so seldom that a small table of rules does.
const SELDOM_RATE_MIN: u32 = 200;
/// Size of a page.
const PAGE_LOG2: u32 = 12;

/// The rate asked for; 0 while there is no sampling.
static RATE: AtomicU32 = AtomicU32::new(0);

/// Whether this process samples.
#[inline]
pub(crate) fn is_on() -> bool {
    RATE.load(Ordering::Relaxed) != 0
}

/// Whether the block of a room at `home` begins there. None does when all blocks are guarded:
/// that is for those who look for one error again and again.
pub(crate) fn wants_left(home: usize) -> bool {
    // By the address: rooms follow each other.
    let turn = (home >> PAGE_LOG2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - 2);
    RATE.load(Ordering::Relaxed) > 1 && turn == 0
}

/// Begins when the variable [`VARIABLE`] has the word `sample=N` and the program has no more
/// rights than its caller. Returns how many blocks there may be between two offers to
/// [`replace`]; none when nothing is to be sampled or there is too little address space.
/// `own_address` lies in the caller's object, whose frames are left out of stacks.
#[cold]
pub fn start(own_address: usize) -> Option<u32> {
    let text = env_var(VARIABLE)?;
    if is_secure() {
        return None;
    }
    // Only when asked for: the search stops all threads and reads all memory.
    HEAP.options.set(Flag::Leaks, false);
    HEAP.options.parse(text.to_bytes());
    let rate = HEAP.options.sample();
    if rate == 0 {
        return None;
    }
    RATE.store(rate, Ordering::Relaxed);
    if rate >= SELDOM_RATE_MIN {
        heapwright_unwind::keep_few_rules();
    }
    crate::start(own_address).then_some((rate / KNOWN_SHARE).max(1))
}

/// A guarded block in place of an ordinary one, aligned as asked, zeroed; null leaves it with the
/// ordinary one.
pub fn replace(bytes: usize, align_bytes: usize) -> *mut u8 {
    replace_of(bytes, align_bytes, Family::Malloc)
}

/// [`replace`] for a block of the functions of `family`.
#[cold]
pub fn replace_of(bytes: usize, align_bytes: usize, family: Family) -> *mut u8 {
    let none = core::ptr::null_mut();
    if !HEAP.is_ready() {
        return none;
    }
    let rate = RATE.load(Ordering::Relaxed);
    let used = HEAP.counts.guarded_live_bytes.load(Ordering::Relaxed);
    if rate > 1 && used.saturating_add(bytes) > LIVE_BYTES_MAX {
        return none;
    }
    let trace = trace(&HEAP.depot);
    let (site, before) = HEAP.sites.count(trace.site, trace.stack);
    let is_due = before < NEW_COUNT || before % KNOWN_SHARE == 0 || rate < KNOWN_SHARE;
    if !is_due {
        return none;
    }
    // Zeroed: what the ordinary heap would give is no secret either, and nobody can rely on it.
    let request = Request { bytes, align_bytes, family, zeroed: true };
    HEAP.alloc_guarded(request, &trace, site).unwrap_or(none)
}

/// Notes that a block, which the program has not yet, was made by the functions of `family`; an
/// address outside the guarded region is nothing.
#[cold]
pub fn set_family(block: *mut u8, family: Family) {
    if is_on()
        && HEAP.holds(block.addr())
        && let Some((_, record)) = HEAP.block_at(block.addr())
    {
        record.set_family(family);
    }
}

/// Takes back what lies in the guarded region, checked; false for any other address.
pub fn free(block: *mut u8, how: Return) -> bool {
    let is_ours = is_on() && HEAP.holds(block.addr());
    if is_ours {
        HEAP.free(block, how);
    }
    is_ours
}

/// Tells of an address that was given back and is no block's, of no heap.
#[cold]
pub fn tell_free_of_no_block(address: *mut u8, how: Return) {
    if is_on() && !HEAP.holds(address.addr()) {
        HEAP.free(address, how);
    }
}

/// Bytes of a guarded block, as requested; none for any address outside the guarded region.
pub fn usable_bytes(block: *mut u8) -> Option<usize> {
    (is_on() && HEAP.holds(block.addr())).then(|| HEAP.usable_bytes(block))
}

//! Checks of whole ranges, for functions of the C library that are about to touch them.

use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::finding::Finding;
use crate::heap::HEAP;
use crate::record::{State, marks};
use crate::thread::trace;

/// The last range told, so that the fault which follows is not told again.
static TOLD_START: AtomicUsize = AtomicUsize::new(0);
static TOLD_END: AtomicUsize = AtomicUsize::new(0);
static TOLD_THREAD: AtomicU32 = AtomicU32::new(0);

/// How far apart a told range and a fault in it may seem: library functions read ahead by words.
const READ_AHEAD_BYTES: usize = 64;

/// Tells a finding unless `bytes` from `address` on may be read. Some 2 ns for addresses outside
/// the heap, 20 ns for others.
#[inline(always)]
pub fn check_read(address: usize, bytes: usize, via: &'static str) {
    if bytes != 0 && HEAP.holds(address) {
        check_slow(address, bytes, false, via);
    }
}

/// Tells a finding unless `bytes` from `address` on may be written.
#[inline(always)]
pub fn check_write(address: usize, bytes: usize, via: &'static str) {
    if bytes != 0 && HEAP.holds(address) {
        check_slow(address, bytes, true, via);
    }
}

#[inline(never)]
fn check_slow(address: usize, bytes: usize, is_write: bool, via: &'static str) {
    let Some(finding) = HEAP.judge(address, bytes) else { return };
    let trace = trace(&HEAP.depot);
    TOLD_START.store(finding.address, Ordering::Relaxed);
    TOLD_END.store(finding.address.saturating_add(finding.bytes), Ordering::Relaxed);
    TOLD_THREAD.store(trace.thread, Ordering::Relaxed);
    if is_write && let Some((_, record)) = HEAP.block_at(address) {
        // The canaries that it breaks are told herewith.
        record.mark(marks::TOLD);
    }
    let (stack, thread) = (trace.stack, trace.thread);
    HEAP.tell(Finding { is_write: Some(is_write), via, stack, thread, ..finding });
}

/// Whether a fault of this thread at `address` was told as a range already.
pub(crate) fn was_told(address: usize, thread: u32) -> bool {
    let start = TOLD_START.load(Ordering::Relaxed).saturating_sub(READ_AHEAD_BYTES);
    let end = TOLD_END.load(Ordering::Relaxed).saturating_add(READ_AHEAD_BYTES);
    thread == TOLD_THREAD.load(Ordering::Relaxed) && (start..end).contains(&address)
}

/// How many bytes from `address` on belong to its live block; `usize::MAX` when the address is
/// not of a live block, so that nothing can be said.
#[inline(always)]
pub fn bytes_left(address: usize) -> usize {
    if HEAP.holds(address) { bytes_left_slow(address) } else { usize::MAX }
}

#[inline(never)]
fn bytes_left_slow(address: usize) -> usize {
    match HEAP.block_at(address) {
        Some((_, record))
            if record.state() == State::Live
                && address >= record.start()
                && address <= record.end() =>
        {
            record.end() - address
        }
        _ => usize::MAX,
    }
}

//! Any global allocator, with each of its blocks checked.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt::Write;

use heapwright_os::{Fd, abort, thread_id, write_all};

/// Bytes behind each block that must stay as they are.
const BACK_BYTES: usize = 16;
/// Bytes of the head's own; the head is as long as the block's alignment when that is more.
const HEAD_BYTES: usize = 32;
const CANARY: u8 = 0xc3;
/// What fresh bytes are filled with: not zero, so that a program notices.
const FRESH: u8 = 0xa5;
/// What dead bytes are filled with.
const POISON: u8 = 0xdd;
const LIVE: usize = 0x6c69_7665_6c69_7665;
const DEAD: usize = 0x6465_6164_6465_6164;
const LINE_BYTES_MAX: usize = 240;

/// A global allocator whose misuse by unsafe code ends the program with one line on standard
/// error, by `SIGABRT`.
///
/// It finds: writes behind a block (up to 16 bytes) and before it (up to 16), at its `dealloc` or
/// `realloc`; a `dealloc` of a block that is free already, as long as its memory was not given to
/// somebody else; another layout than the block was made with; an address that is no block. Fresh
/// bytes are 0xA5 and dead ones 0xDD, so that unset and stale values show. For more, with stacks
/// and without recompiling, there is `heapwright run --mode check`.
///
/// Costs 48 bytes a block, or its alignment and 16, and the filling. Miri and AddressSanitizer see
/// the blocks of the allocator inside, as ever.
///
/// ```
/// use std::alloc::System;
///
/// #[global_allocator]
/// static GLOBAL: heapwright::Checked<System> = heapwright::Checked(System);
///
/// let numbers: Vec<u32> = (0..1000).collect();
/// assert_eq!(numbers.iter().sum::<u32>(), 499_500);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked<A>(pub A);

/// In front of a block, right before its first byte.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Head {
    tag: usize,
    bytes: usize,
    front: [u8; 16],
}

const _: () = assert!(size_of::<Head>() == HEAD_BYTES);

/// A line on the stack; what does not fit is left out.
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let count = text.len().min(LINE_BYTES_MAX - self.length);
        self.bytes[self.length..self.length + count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
        Ok(())
    }
}

/// Tells and ends the process, without allocating.
#[cold]
#[inline(never)]
fn tell(what: core::fmt::Arguments<'_>, block: *mut u8) -> ! {
    let mut line = Line { bytes: [0; LINE_BYTES_MAX], length: 0 };
    // It never fails.
    let _ = writeln!(line, "heapwright: {what}; address {block:p}, thread {}", thread_id());
    // Nobody can be told when even this fails.
    let _ = write_all(&Fd::STDERR, &line.bytes[..line.length]);
    abort()
}

/// The layout of a block with its head and canary, and how long the head is; none when that is
/// too large.
fn around(layout: Layout) -> Option<(Layout, usize)> {
    let align = layout.align().max(align_of::<Head>());
    let head_bytes = HEAD_BYTES.next_multiple_of(align);
    let bytes = layout.size().checked_add(head_bytes + BACK_BYTES)?;
    Some((Layout::from_size_align(bytes, align).ok()?, head_bytes))
}

fn head_of(block: *mut u8) -> *mut Head {
    block.wrapping_sub(HEAD_BYTES).cast()
}

/// Checks the block that is given back or changed with `layout`.
///
/// # Safety
/// - The bytes in front of `block` may be read; those of a live block are its head.
unsafe fn check(block: *mut u8, layout: Layout) {
    // SAFETY: the caller's promise; heads are aligned, since blocks are at least as strictly.
    let head = unsafe { head_of(block).read_unaligned() };
    match head.tag {
        LIVE => {}
        DEAD => tell(format_args!("double free of {} bytes", layout.size()), block),
        _ => tell(format_args!("free of what is no block, or underflow into its head"), block),
    }
    if head.bytes != layout.size() {
        let (made, given) = (head.bytes, layout.size());
        tell(format_args!("a block of {made} bytes is given back as one of {given}"), block);
    }
    if head.front.iter().any(|byte| *byte != CANARY) {
        tell(format_args!("underflow: bytes before a block of {} bytes", head.bytes), block);
    }
    for distance in 0..BACK_BYTES {
        let place = block.wrapping_add(head.bytes + distance);
        // SAFETY: a live block of so many bytes has its canary behind it.
        if unsafe { place.read() } != CANARY {
            let bytes = head.bytes;
            let what = "bytes behind the end of a block of";
            tell(format_args!("overflow: {distance} {what} {bytes} bytes"), block);
        }
    }
}

// SAFETY: blocks are inner parts of the inner allocator's, as large and as strictly aligned as
// asked for; misuse ends the process and unwinds nothing.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Checked<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        let block = unsafe { self.alloc_zeroed(layout) };
        if !block.is_null() {
            // SAFETY: the block made above.
            unsafe { block.write_bytes(FRESH, layout.size()) };
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((outer, head_bytes)) = around(layout) else { return core::ptr::null_mut() };
        // SAFETY: the layout is not empty.
        let start = unsafe { self.0.alloc_zeroed(outer) };
        if start.is_null() {
            return start;
        }
        let block = start.wrapping_add(head_bytes);
        let head = Head { tag: LIVE, bytes: layout.size(), front: [CANARY; 16] };
        // SAFETY: the last bytes before the block, of memory made above.
        unsafe { head_of(block).write_unaligned(head) };
        // SAFETY: as above, behind the block.
        unsafe { block.wrapping_add(layout.size()).write_bytes(CANARY, BACK_BYTES) };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((outer, head_bytes)) = around(layout) else { return };
        // SAFETY: the caller gives back a block of ours; if it does not, that is what is looked
        // for, and the bytes before any block of the inner allocator's are readable as a rule.
        unsafe { check(block, layout) };
        // SAFETY: a live block of ours, given up.
        unsafe { block.write_bytes(POISON, layout.size()) };
        // SAFETY: its head; the tag is the first field.
        unsafe { head_of(block).cast::<usize>().write_unaligned(DEAD) };
        // SAFETY: made by `alloc_zeroed` with this layout.
        unsafe { self.0.dealloc(block.wrapping_sub(head_bytes), outer) };
    }

    // `realloc` is the trait's own: it always moves, so that old addresses show.
}

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout, System};

    use super::{Checked, FRESH};

    #[test]
    fn blocks_are_as_large_and_aligned_as_asked_for() {
        let checked = Checked(System);
        for (bytes, align) in [(1, 1), (24, 8), (100, 16), (33, 64), (5000, 4096)] {
            let layout = Layout::from_size_align(bytes, align).expect("a layout");
            // SAFETY: the layout is not empty.
            let block = unsafe { checked.alloc(layout) };
            assert!(!block.is_null() && block.addr().is_multiple_of(align));
            // SAFETY: the block's last byte.
            assert_eq!(unsafe { block.wrapping_add(bytes - 1).read() }, FRESH);
            // SAFETY: a block of ours with its layout.
            let larger = unsafe { checked.realloc(block, layout, bytes * 2) };
            assert!(!larger.is_null() && larger.addr().is_multiple_of(align));
            let layout = Layout::from_size_align(bytes * 2, align).expect("a layout");
            // SAFETY: as above.
            unsafe { checked.dealloc(larger, layout) };
            // SAFETY: the layout is not empty.
            let zeroed = unsafe { checked.alloc_zeroed(layout) };
            // SAFETY: the block's first byte.
            assert_eq!(unsafe { zeroed.read() }, 0);
            // SAFETY: a block of ours with its layout.
            unsafe { checked.dealloc(zeroed, layout) };
        }
    }
}

//! A Rust program on an allocator of its own, recorded by `Recorded`: for tests. Prints what it
//! asked for as the C test programs do.

use std::alloc::{GlobalAlloc, Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::sync::atomic::{AtomicUsize, Ordering};

use heapwright::Recorded;

/// Cuts blocks from pieces that it asks C's `malloc` for; never reuses any. What a recording of
/// this program must not show is the pieces.
struct Bump {
    /// Next free byte and end of the piece; the pair is changed under `busy`.
    next: AtomicUsize,
    end: AtomicUsize,
    busy: AtomicUsize,
}

/// Leaves 27 when divided by 64, like the blocks below.
const PIECE_BYTES: usize = (64 << 10) + 27;

impl Bump {
    const fn new() -> Self {
        let (next, end) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { next, end, busy: AtomicUsize::new(0) }
    }
}

// SAFETY: every block lies in a piece of its own or in the rest of one, aligned, and no block is
// given out twice.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        while self.busy.swap(1, Ordering::Acquire) != 0 {
            std::hint::spin_loop();
        }
        let mut start = self.next.load(Ordering::Relaxed).next_multiple_of(layout.align());
        if start + layout.size() > self.end.load(Ordering::Relaxed) {
            let bytes = (layout.size() + layout.align()).max(PIECE_BYTES).div_ceil(64) * 64 + 27;
            // SAFETY: takes any size.
            let piece = unsafe { libc::malloc(bytes) }.expose_provenance();
            if piece == 0 {
                self.busy.store(0, Ordering::Release);
                return std::ptr::null_mut();
            }
            self.end.store(piece + bytes, Ordering::Relaxed);
            start = piece.next_multiple_of(layout.align());
        }
        self.next.store(start + layout.size(), Ordering::Relaxed);
        self.busy.store(0, Ordering::Release);
        std::ptr::with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, _ptr: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static GLOBAL: Recorded<Bump> = Recorded::new(Bump::new());

const BLOCKS: usize = 1000;

fn layout(number: usize) -> Layout {
    Layout::from_size_align(number % 40 * 64 + 27, 1 << (number % 8)).expect("a layout")
}

/// Allocates, resizes a fifth, frees nine in ten; returns the bytes asked for.
fn work() -> usize {
    let mut bytes = 0;
    for number in 0..BLOCKS {
        let layout = layout(number);
        bytes += layout.size();
        let block = match number % 4 {
            // SAFETY: the size is not zero.
            0 => unsafe { alloc_zeroed(layout) },
            // SAFETY: as above.
            _ => unsafe { alloc(layout) },
        };
        assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()));
        // SAFETY: a live block of that layout.
        unsafe { block.write(1) };
        let (mut block, mut layout) = (block, layout);
        if number % 5 == 0 {
            let size = layout.size() + 64;
            bytes += size;
            // SAFETY: a live block of that layout; the size is not zero.
            block = unsafe { realloc(block, layout, size) };
            layout = Layout::from_size_align(size, layout.align()).expect("a layout");
        }
        if number % 10 != 9 {
            // SAFETY: a live block of that layout, not used any more.
            unsafe { dealloc(block, layout) };
        }
    }
    bytes
}

fn main() {
    let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(work)).collect();
    let bytes: usize =
        work() + threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<usize>();
    println!(
        "counts pid={} malloc={} calloc={} realloc={} aligned=0 free={} bytes={bytes}",
        std::process::id(),
        4 * BLOCKS * 3 / 4,
        4 * BLOCKS / 4,
        4 * BLOCKS / 5,
        4 * BLOCKS * 9 / 10,
    );
}

//! Pages behind the end of a large block that was made shorter where it lies: they are written, so
//! whatever takes its memory later must know.
//!
//! A process of its own, since the other tests' blocks would take the memory in question.

use heapwright_malloc::{alloc, alloc_zeroed, free, realloc, trim};
use std::sync::mpsc::channel;

/// Below half of it, so that it is made shorter: to two slices on x86_64, the second used in part.
const LONG_BYTES: usize = 200_000;
const SHORT_BYTES: usize = 40_000;
/// Of two slices, too.
const ZEROED_BYTES: usize = 60_000;

#[test]
fn pages_behind_a_shrunk_block_are_not_taken_for_zeroed() {
    let (to_purger, wishes) = channel::<()>();
    let (to_owner, answers) = channel::<()>();
    let purger = std::thread::spawn(move || {
        for () in wishes {
            trim();
            to_owner.send(()).expect("the owner waits");
        }
    });
    for _ in 0..20 {
        let long = alloc(LONG_BYTES);
        assert!(!long.is_null());
        // SAFETY: a live block of that size.
        unsafe { long.write_bytes(0xaa, LONG_BYTES) };
        // SAFETY: live; only the result is used from now on.
        let short = unsafe { realloc(long, SHORT_BYTES) };
        assert_eq!(short, long, "made shorter in place");
        // SAFETY: live, and not used again.
        unsafe { free(short) };
        // Spans on what was its memory, whose few touched pages go while their owner is elsewhere:
        // then their slices count as untouched.
        let small = [4096, 5000, 6000, 7000].map(alloc);
        for block in small {
            // SAFETY: live, and not used again.
            unsafe { free(block) };
        }
        to_purger.send(()).expect("the purger waits");
        answers.recv().expect("an answer");
        // The owner's next slow paths give the empty spans back.
        let zeroed: Vec<_> = (0..8).map(|_| alloc_zeroed(ZEROED_BYTES)).collect();
        for block in &zeroed {
            // SAFETY: a live block of that size, its bytes written by the allocator.
            let bytes = unsafe { std::slice::from_raw_parts(*block, ZEROED_BYTES) };
            assert_eq!(bytes.iter().position(|byte| *byte != 0), None);
        }
        for block in zeroed {
            // SAFETY: live, and not used again.
            unsafe { free(block) };
        }
        trim();
    }
    drop(to_purger);
    purger.join().expect("the purger ends");
}

//! One thread only allocates, another one only frees what it is sent: whoever of them the spans
//! belong to, and through whose queue a block comes home, the memory serves again and again.

use std::collections::BTreeSet;
use std::sync::mpsc::sync_channel;
use std::thread;

use heapwright_malloc::{alloc, free};

const ROUNDS: usize = 300;
/// No multiple of a span's slots, so that each batch begins in a span that was begun before.
const BATCH: usize = 1000;
const BYTES: usize = 64;
/// A slice, on every processor: spans of small slots are one each.
const SLICE_BYTES: usize = if cfg!(target_arch = "x86_64") { 32 * 1024 } else { 64 * 1024 };
/// A batch has two spans, or three; as many again are on their way.
const SLICES_MAX: usize = 12;

#[test]
fn batches_that_another_thread_frees_need_no_more_memory_than_a_few() {
    let (to_consumer, batches) = sync_channel::<Vec<usize>>(0);
    let (to_producer, turns) = sync_channel::<()>(0);
    let consumer = thread::spawn(move || {
        for batch in batches {
            for block in batch {
                // SAFETY: live, and not used again.
                unsafe { free(std::ptr::with_exposed_provenance_mut(block)) };
            }
            to_producer.send(()).expect("the producer waits");
        }
    });
    let mut slices = BTreeSet::new();
    for _ in 0..ROUNDS {
        let batch: Vec<usize> = (0..BATCH).map(|_| alloc(BYTES).expose_provenance()).collect();
        slices.extend(batch.iter().map(|block| block / SLICE_BYTES));
        to_consumer.send(batch).expect("the consumer waits");
        turns.recv().expect("the consumer answers");
    }
    drop(to_consumer);
    consumer.join().expect("no panic");
    assert!(slices.len() <= SLICES_MAX, "{} slices", slices.len());
}

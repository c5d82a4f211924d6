//! A heap for each request: a budget that is an error instead of an out-of-memory kill, figures
//! by request, and one call that frees everything.
//!
//! `cargo run --example request_heap`

use std::sync::mpsc;

use allocator_api2_04::vec::Vec as HeapVec;
use heapwright::heap::{Heap, ZoneOptions};

#[global_allocator]
static GLOBAL: heapwright::Heapwright = heapwright::Heapwright;

/// Answers a request for the numbers up to `count` in a heap of its own.
fn answer(number: usize, count: u64) -> Result<u64, String> {
    let options = ZoneOptions::new().name("request").limit(1 << 20);
    let heap = Heap::with(options).map_err(|error| error.to_string())?;
    let mut numbers = HeapVec::new_in(&heap);
    for value in 0..count {
        if numbers.try_reserve(1).is_err() {
            let seen = heap.statistics();
            return Err(format!(
                "request {number}: over its budget at {} bytes in {} blocks",
                seen.live_bytes, seen.live_count
            ));
        }
        numbers.push(value);
    }
    Ok(numbers.iter().sum())
}

fn main() {
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for (number, count) in [1_000, 20_000, 10_000_000].into_iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || sender.send((number, answer(number, count))));
        }
    });
    drop(sender);
    let mut answers: Vec<_> = receiver.iter().collect();
    answers.sort_by_key(|(number, _)| *number);
    for (number, result) in &answers {
        match result {
            Ok(sum) => println!("request {number}: {sum}"),
            Err(error) => println!("{error}"),
        }
    }
    assert_eq!(answers[1].1, Ok(199_990_000));
    assert!(answers[2].1.is_err(), "80 MB are more than 1 MiB");
}

#[test]
fn it_runs() {
    main();
}

//! Blocks that another thread frees come home in batches of one span: in whatever order they were
//! freed, each is free once, is handed out again once, and empty spans are found.

use std::collections::BTreeSet;
use std::thread;

use heapwright_malloc::{LiveBlocks, alloc, free};

const COUNT: usize = 3000;
const ROUNDS: usize = 3;
/// Slots of a few words, and coloured ones, which may cross units.
const SIZES: [usize; 3] = [16, 48, 1024];

/// A block and its size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    start: usize,
    bytes: usize,
}

/// Blocks of all sizes, one after the other, each full of a byte of its own.
fn make() -> Vec<Made> {
    (0..COUNT)
        .map(|number| {
            let bytes = SIZES[number % SIZES.len()];
            let block = alloc(bytes);
            assert!(!block.is_null());
            // SAFETY: a fresh block.
            unsafe { block.write_bytes(number as u8, bytes) };
            Made { start: block.expose_provenance(), bytes }
        })
        .collect()
}

/// Frees the blocks with these numbers, in that order, in another thread.
fn free_elsewhere(made: &[Made], numbers: &[usize]) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for &number in numbers {
                let Made { start, bytes } = made[number];
                let block: *mut u8 = std::ptr::with_exposed_provenance_mut(start);
                // SAFETY: live, and written when it was new.
                let contents = unsafe { std::slice::from_raw_parts(block, bytes) };
                assert!(contents.iter().all(|byte| *byte == number as u8));
                // SAFETY: live, and not used again.
                unsafe { free(block) };
            }
        });
    });
}

/// The order in which a round frees its blocks.
fn order(how: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..COUNT).collect();
    match how {
        // Sizes in turn: each batch is one block.
        0 => {}
        // One size after the other: batches as long as a chain.
        1 => numbers.sort_by_key(|number| number % SIZES.len()),
        // The same, the last made first.
        2 => numbers.sort_by_key(|number| (number % SIZES.len(), COUNT - number)),
        // Every second of each size, then the rest: spans come home in two parts.
        _ => numbers.sort_by_key(|number| (number / SIZES.len() % 2, number % SIZES.len())),
    }
    numbers
}

/// Starts of all live blocks, by a walk.
fn walked() -> BTreeSet<usize> {
    let blocks = LiveBlocks::take().expect("a walk");
    blocks.map(|block| block.start.addr()).collect()
}

#[test]
fn blocks_freed_elsewhere_come_home_once_in_any_order() {
    for round in 0..4 * ROUNDS {
        let made = make();
        let distinct: BTreeSet<usize> = made.iter().map(|made| made.start).collect();
        assert_eq!(distinct.len(), COUNT, "handed out twice in round {round}");
        assert_eq!(walked(), distinct, "round {round}");
        let numbers = order(round % 4);
        // Half of them first: new blocks are made between others that live.
        let (first, rest) = numbers.split_at(COUNT / 2);
        free_elsewhere(&made, first);
        let between = make();
        let live: BTreeSet<usize> = rest
            .iter()
            .map(|number| made[*number].start)
            .chain(between.iter().map(|b| b.start))
            .collect();
        assert_eq!(live.len(), rest.len() + COUNT, "a live block was handed out");
        assert_eq!(walked(), live, "round {round}");
        free_elsewhere(&made, rest);
        free_elsewhere(&between, &order(round % 4));
        assert!(walked().is_empty(), "round {round}");
    }
}

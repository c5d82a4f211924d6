//! What counts as room.

use super::{BLOCK_BYTES, BlockSpace, LINE_BYTES, long_holes};
use crate::memory::{Reserve, Table};

const BLOCKS: usize = 8;

#[test]
fn holes_that_are_too_short_for_what_is_made_do_not_count() {
    // Holes of one, three and two lines.
    let lines = [0, 1, 0, 0, 0, 1, 1, 0, 0];
    let is_free = |line| line == 0;
    let counted = [1, 2, 3, 4].map(|least| long_holes(&lines, least, is_free));
    assert_eq!(counted, [6, 5, 3, 0]);
}

/// A space whose blocks have one live line each, which the cycle that has just marked is about to
/// sweep; with its memory.
fn marked() -> (BlockSpace, Reserve) {
    let memory = Reserve::new((BLOCKS + 1) * BLOCK_BYTES).expect("addresses");
    let start = memory.start().map_addr(|address| {
        let up = address.get().next_multiple_of(BLOCK_BYTES);
        up.try_into().expect("a range that has been reserved")
    });
    let mut space = BlockSpace::new(start, BLOCKS * BLOCK_BYTES).expect("addresses");
    for _ in 0..BLOCKS {
        assert_eq!(space.next_hole().expect("a fresh block").bytes, BLOCK_BYTES);
    }
    let mut lines = space.begin_cycle();
    for block in 0..BLOCKS {
        // SAFETY: inside the space.
        lines.record(unsafe { start.add(block * BLOCK_BYTES) }, LINE_BYTES);
    }
    space.begin_sweep(0);
    (space, memory)
}

#[test]
fn holes_of_blocks_that_are_to_be_emptied_are_no_room() {
    let (mut space, _memory) = marked();
    assert!(space.sweep(BLOCKS));
    let hole_bytes = BLOCK_BYTES - LINE_BYTES;
    assert_eq!(space.room_bytes(), BLOCKS * hole_bytes);

    let mut chosen = 0;
    // Not room for the copies of all.
    space.choose_sparse(50, BLOCKS * LINE_BYTES - 1, usize::MAX, &mut |_| chosen += 1);
    assert!((1..BLOCKS).contains(&chosen), "{chosen}");
    assert_eq!(space.room_bytes(), (BLOCKS - chosen) * hole_bytes);
    // The next sweep knows their holes anew.
    space.begin_cycle();
    space.begin_sweep(0);
    assert!(space.sweep(BLOCKS));
    assert_eq!(space.room_bytes(), BLOCKS * BLOCK_BYTES);
}

#[test]
fn an_allocation_that_finds_no_room_sweeps_on() {
    let (mut space, _memory) = marked();
    // No block is swept, and none was never used.
    let hole = space.next_hole().expect("the sweep finds holes");
    assert_eq!(hole.bytes, BLOCK_BYTES - LINE_BYTES);
}

#[test]
fn spare_blocks_stay_below_the_limit() {
    let memory = Reserve::new((BLOCKS + 1) * BLOCK_BYTES).expect("addresses");
    let start = memory.start().map_addr(|address| {
        let up = address.get().next_multiple_of(BLOCK_BYTES);
        up.try_into().expect("a range that has been reserved")
    });
    let mut space = BlockSpace::new(start, BLOCKS * BLOCK_BYTES).expect("addresses");
    let mut spare = Table::new();
    assert!(!space.take_spare(1, 1, BLOCK_BYTES - 1, &mut spare), "room for less than a block");
    assert_eq!((spare.as_slice().len(), space.occupied_bytes()), (0, 0));
    assert!(space.take_spare(1, 1, BLOCK_BYTES, &mut spare));
    assert!(space.take_spare(1, 1, 0, &mut spare), "one is there");
    assert_eq!((spare.as_slice().len(), space.occupied_bytes()), (1, BLOCK_BYTES));
}

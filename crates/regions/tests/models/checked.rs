//! Misuse that a checked region catches, each with a twin that is right; and what off costs.

use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use heapwright_regions::{
    AnonymousPages, Buddy, Checked, Linear, Lines, LocalCounts, Misuse, Off, Overflow, Pool, Pools,
    Region, Slab, Tails, Tight,
};

use crate::model::{Shape, run};

const SHAPE: Shape = Shape { bytes_max: 2000, align_log2_max: 7, steps: 3000, allocs_per_100: 50 };

fn slab() -> Slab<AnonymousPages> {
    Slab::new_in(AnonymousPages, 1 << 26, Lines::Packed).expect("addresses")
}

#[test]
fn right_programs_run_clean_on_every_checked_region() {
    for seed in 0..2 {
        run(&Checked::<_>::new(slab()), seed, SHAPE);
        run(&Checked::<_, Off>::new(slab()), seed, SHAPE);
        let tight: Tight<_> = Tight::new_in(AnonymousPages, 1 << 20).expect("memory");
        run(&Checked::<_>::new(tight), seed, SHAPE);
        let buddy: Buddy<_> =
            Buddy::new_in(AnonymousPages, 1 << 20, 16, Tails::Trim).expect("memory");
        run(&Checked::<_>::new(buddy), seed, SHAPE);
        let pool: Pool<_> = Pool::new_in(AnonymousPages, Layout::new::<[u128; 200]>());
        run(&Checked::<_>::new(pool), seed, Shape { align_log2_max: 4, ..SHAPE });
        let sizes = [(64, 200), (256, 200), (1024, 400), (2240, 800)];
        let pools = Pools::bounded(AnonymousPages, sizes, Overflow::Larger).expect("memory");
        run(&pools, seed, Shape { align_log2_max: 3, ..SHAPE });
        run(&Checked::<_>::new(pools), seed, Shape { align_log2_max: 4, ..SHAPE });
        let mut arena = Checked::<_>::new(Linear::<_, LocalCounts>::counted_in(
            AnonymousPages,
            LocalCounts::new(),
        ));
        for _ in 0..3 {
            let layout = Layout::new::<[u8; 1000]>();
            for _ in 0..200 {
                let block = arena.try_alloc_block(layout).expect("memory");
                // SAFETY: a fresh block of that size.
                unsafe { block.write_bytes(1, 1000) };
            }
            arena.reset();
        }
    }
}

const LAYOUT: Layout = Layout::new::<[u8; 40]>();

fn block_of(region: &impl Region) -> NonNull<u8> {
    region.try_alloc_block(LAYOUT).expect("memory")
}

/// Writes one byte `distance` from `block`, as a program with a mistake would.
fn write_at(block: NonNull<u8>, distance: isize) {
    // SAFETY: inside the region's memory.
    let place = unsafe { block.offset(distance) };
    // SAFETY: as above; nobody reads it but the checks.
    unsafe { place.write(7) };
}

#[test]
fn a_double_free_is_told() {
    let region = Checked::<_>::new(slab());
    let block = block_of(&region);
    // SAFETY: live, unused.
    assert_eq!(unsafe { region.try_free(block, LAYOUT) }, Ok(()));
    let address = block.as_ptr().addr();
    // SAFETY: in the region, not live: told.
    assert_eq!(unsafe { region.try_free(block, LAYOUT) }, Err(Misuse::DoubleFree { address }));
}

#[test]
fn a_foreign_block_is_told() {
    let (mine, other) = (Checked::<_>::new(slab()), Checked::<_>::new(slab()));
    let block = block_of(&other);
    let address = block.as_ptr().addr();
    // SAFETY: of another region: told.
    assert_eq!(unsafe { mine.try_free(block, LAYOUT) }, Err(Misuse::NoBlock { address }));
    // SAFETY: live, unused.
    assert_eq!(unsafe { other.try_free(block, LAYOUT) }, Ok(()));
    let nowhere = NonNull::without_provenance(core::num::NonZero::new(4096).expect("not zero"));
    // SAFETY: of nobody: told.
    assert_eq!(unsafe { mine.try_free(nowhere, LAYOUT) }, Err(Misuse::NoBlock { address: 4096 }));
    // SAFETY: inside the block.
    let inside = unsafe { block.add(8) };
    let told = Err(Misuse::NoBlock { address: address + 8 });
    // SAFETY: inside a block: told.
    assert_eq!(unsafe { other.try_free(inside, LAYOUT) }, told);
}

#[test]
fn writes_beside_a_block_are_told() {
    let region = Checked::<_>::new(slab());
    let block = block_of(&region);
    let address = block.as_ptr().addr();
    write_at(block, 43);
    let overflow = Misuse::Overflow { address, block_bytes: 40, distance_bytes: 3 };
    // SAFETY: live, unused.
    assert_eq!(unsafe { region.try_free(block, LAYOUT) }, Err(overflow));
    let block = block_of(&region);
    write_at(block, -1);
    let underflow = Misuse::Underflow { address: block.as_ptr().addr(), distance_bytes: 1 };
    // SAFETY: live, unused.
    assert_eq!(unsafe { region.try_free(block, LAYOUT) }, Err(underflow));
}

#[test]
fn a_wrong_layout_is_told() {
    let region = Checked::<_>::new(slab());
    let block = block_of(&region);
    let wrong = Layout::new::<[u8; 400]>();
    let told =
        Misuse::WrongLayout { address: block.as_ptr().addr(), made_bytes: 40, given_bytes: 400 };
    // SAFETY: live, unused if it succeeds.
    assert_eq!(unsafe { region.try_free(block, wrong) }, Err(told));
    // SAFETY: live, unused.
    assert_eq!(unsafe { region.try_free(block, LAYOUT) }, Ok(()));
}

#[test]
fn a_write_to_a_dead_block_is_told() {
    let region = Checked::<_>::new(slab());
    let block = block_of(&region);
    // SAFETY: live, unused but for the mistake below.
    assert_eq!(unsafe { region.try_free(block, LAYOUT) }, Ok(()));
    write_at(block, 5);
    let told = Misuse::UseAfterFree { address: block.as_ptr().addr(), offset_bytes: 5 };
    assert_eq!(region.settle(), Err(told));
    assert_eq!(region.settle(), Ok(()));
    assert_eq!(region.region().statistics().live_count.value(), Some(0));
}

#[test]
fn a_write_after_a_reset_is_told() {
    let mut arena = Checked::<_>::new(Linear::<AnonymousPages>::new());
    let block = block_of(&arena);
    arena.reset();
    block_of(&arena);
    arena.reset();
    write_at(block, 3);
    let caught = catch_unwind(AssertUnwindSafe(|| block_of(&arena)));
    let text = caught.expect_err("told").downcast::<String>().expect("a text");
    let address = block.as_ptr().addr() + 3;
    assert!(text.contains(&format!("{address:#x} was written after the reset")), "{text}");
}

#[test]
fn a_report_is_one_line_with_its_numbers() {
    let overflow = Misuse::Overflow { address: 0x1000, block_bytes: 40, distance_bytes: 3 };
    assert_eq!(overflow.to_string(), "a byte 3 behind the 40 bytes at 0x1000 was overwritten");
}

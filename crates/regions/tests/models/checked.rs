//! Misuse that a checked region catches, each with a twin that is right; and what off costs.

use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use heapwright_regions::{
    AnonymousPages, Buddy, Checked, HandleError, Linear, Lines, LocalCounts, Misuse, Off, Overflow,
    Pool, Pools, Region, Slab, Tails, Tight,
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
fn a_report_has_the_words_and_the_form_of_check_mode() {
    let address = 0x1000;
    for (misuse, text, json) in [
        (
            Misuse::Overflow { address, block_bytes: 40, distance_bytes: 3 },
            "overwritten-after: a byte was overwritten 3 bytes behind the end of a block of 40 bytes \
             at 0x1000",
            r#"{"v":1,"kind":"overwritten-after","address":4139,"access":"write","block":{"start":4096,"bytes":40}}"#,
        ),
        (
            Misuse::Underflow { address, distance_bytes: 1 },
            "overwritten-before: a byte was overwritten 1 byte before a block at 0x1000",
            r#"{"v":1,"kind":"overwritten-before","address":4095,"access":"write","block":{"start":4096}}"#,
        ),
        (
            Misuse::DoubleFree { address },
            "double-free: the block at 0x1000 is freed a second time",
            r#"{"v":1,"kind":"double-free","address":4096,"block":{"start":4096}}"#,
        ),
        (
            Misuse::WrongLayout { address, made_bytes: 1, given_bytes: 8 },
            "wrong-size-free: a block of 1 byte at 0x1000 is freed as one of 8",
            r#"{"v":1,"kind":"wrong-size-free","address":4096,"told":8,"block":{"start":4096,"bytes":1}}"#,
        ),
        (
            Misuse::UseAfterFree { address, offset_bytes: 5 },
            "write-after-free: a freed block at 0x1000 was written to, 5 bytes inside it",
            r#"{"v":1,"kind":"write-after-free","address":4101,"access":"write","block":{"start":4096}}"#,
        ),
        (
            HandleError::Stale.into(),
            "use-after-free: the handle's value was removed",
            r#"{"v":1,"kind":"use-after-free"}"#,
        ),
    ] {
        assert_eq!(misuse.to_string(), text);
        assert_eq!(misuse.json().to_string(), json);
    }
}

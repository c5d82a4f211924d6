//! Traps that other allocators fell into, by their number in the list this project keeps.

use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use heapwright_regions::{
    AllocError, AnonymousPages, Buddy, End, Failing, FreeError, HandlePool, Linear, Lines,
    OutOfOrder, Pool, Region, SharedLinear, SharedSlab, Slab, Stack, Tails, Tight,
};

/// Every allocator that takes layouts.
fn each(mut visit: impl FnMut(&str, &dyn Region)) {
    visit("linear", &Linear::<AnonymousPages>::new());
    visit("slab", &Slab::new_in(AnonymousPages, 1 << 24, Lines::Packed).expect("addresses"));
    let shared = SharedSlab::new_in(AnonymousPages, 1 << 24, Lines::Whole).expect("addresses");
    visit("shared slab", &shared.local().expect("a handle"));
    let tight: Tight<_> = Tight::new_in(AnonymousPages, 1 << 20).expect("memory");
    visit("tight", &tight);
    for tails in [Tails::Keep, Tails::Trim] {
        let buddy: Buddy<_> = Buddy::new_in(AnonymousPages, 1 << 20, 32, tails).expect("memory");
        visit("buddy", &buddy);
    }
    let pool: Pool<_> = Pool::new_in(AnonymousPages, Layout::new::<[u64; 512]>());
    visit("pool", &pool);
}

#[test]
fn trap_2_a_block_of_no_bytes_touches_nothing() {
    // No memory can be had: nothing may be needed.
    let arena = Linear::<_>::new_in(Failing::for_ever_after(AnonymousPages, 0));
    let nothing = arena.try_alloc_layout(Layout::new::<[u64; 0]>()).expect("no memory is needed");
    assert!(nothing.cast::<u64>().is_aligned());
    assert_eq!(arena.statistics().reserved_bytes, 0);
    let shared = SharedLinear::new_in(AnonymousPages, 4096).expect("addresses");
    assert!(shared.try_alloc_layout(Layout::new::<()>()).is_ok());
    assert_eq!(shared.statistics().committed_bytes, 0);
}

#[test]
fn trap_6_a_closure_that_panics_leaves_the_arena_whole() {
    let arena = Linear::<AnonymousPages>::new();
    let first = arena.alloc(1u64);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        arena.alloc_with(|| -> u64 {
            arena.alloc(2u64);
            panic!("in the middle")
        })
    }));
    assert!(caught.is_err());
    assert_eq!((*first, *arena.alloc(3u64)), (1, 3));
}

#[test]
fn trap_8_alignments_are_kept_or_refused_by_all() {
    each(|name, region| {
        for shift in 0..=13 {
            for size in [1, 24, 100, 1000, 4096] {
                let layout = Layout::from_size_align(size, 1 << shift).expect("a layout");
                match region.try_alloc_block(layout) {
                    Ok(block) => {
                        assert!(
                            block.as_ptr().addr().is_multiple_of(1 << shift),
                            "{name}: {block:p} for {layout:?}"
                        );
                    }
                    Err(AllocError::Unfit { align_bytes, .. }) => {
                        assert_eq!(align_bytes, 1 << shift, "{name}");
                        assert!(name == "pool" || shift == 13, "{name} refuses {layout:?}");
                    }
                    Err(other) => panic!("{name}: {layout:?}: {other}"),
                }
            }
        }
    });
}

/// What takes an address that may be anything looks it up in bookkeeping of its own and never
/// follows it; what trusts its caller is `unsafe` (the doc test of `crate` says so to the compiler).
#[test]
fn trap_9_an_address_that_is_no_block_is_refused_without_being_touched() {
    let layout = Layout::new::<[u8; 100]>();
    // Nothing is mapped there: to touch them would end the test.
    let nowhere = [1 << 4, 1 << 20, usize::MAX & !15, isize::MAX as usize & !15];
    let made_up = nowhere.map(|address| {
        NonNull::new(std::ptr::without_provenance_mut::<u8>(address)).expect("not null")
    });
    let mut own = [0_u64; 64];
    let foreign = NonNull::from(&mut own).cast::<u8>();

    let buddy: Buddy<_> = Buddy::new_in(AnonymousPages, 1 << 20, 32, Tails::Trim).expect("memory");
    let tight: Tight<_> = Tight::new_in(AnonymousPages, 1 << 20).expect("memory");
    let pool: Pool<_> = Pool::new_in(AnonymousPages, layout);
    let stack: Stack<_> =
        Stack::new_in(AnonymousPages, 1 << 16, OutOfOrder::Refuse).expect("memory");
    let block = buddy.try_alloc(layout).expect("memory");
    pool.try_alloc().expect("memory");
    tight.try_alloc(layout).expect("memory");
    stack.try_alloc(End::Low, layout).expect("memory");
    for address in made_up.into_iter().chain([foreign]) {
        // SAFETY: none of them is a live block, which each looks at first.
        assert!(matches!(unsafe { buddy.free(address, layout) }, Err(FreeError::NotOwned { .. })));
        // SAFETY: as above.
        assert!(matches!(unsafe { tight.free(address, layout) }, Err(FreeError::NotOwned { .. })));
        // SAFETY: as above.
        assert!(matches!(unsafe { pool.free_checked(address) }, Err(FreeError::NotOwned { .. })));
        // SAFETY: as above.
        assert!(matches!(unsafe { stack.free(address) }, Err(FreeError::NotOwned { .. })));
    }
    // SAFETY: inside a live block.
    let interior = unsafe { block.add(32) };
    // SAFETY: no block begins there.
    let refused = unsafe { buddy.free(interior, layout) };
    assert!(matches!(refused, Err(FreeError::NotBlockStart { distance_bytes: 32, .. })));
    // SAFETY: live, unused from here.
    assert_eq!(unsafe { buddy.free(block, layout) }, Ok(()));
}

#[test]
fn trap_11_a_stale_handle_names_nothing_however_often_its_slot_is_used() {
    let mut pool: HandlePool<u32, _> = HandlePool::new_in(AnonymousPages);
    let stale = pool.insert(0).expect("memory");
    assert_eq!(pool.remove(stale), Some(0));
    for number in 1..10_000 {
        let handle = pool.insert(number).expect("memory");
        assert_eq!((pool.get(stale), pool.get(handle)), (None, Some(&number)));
        assert_eq!(pool.remove(handle), Some(number));
    }
}

#[test]
fn trap_14_zeroed_blocks_are_zero_in_used_memory() {
    each(|name, region| {
        let layout = Layout::new::<[u8; 3000]>();
        for _ in 0..3 {
            let block = region.try_alloc_block(layout).expect("memory");
            // SAFETY: a fresh block of that size.
            unsafe { block.write_bytes(0xff, layout.size()) };
            // SAFETY: live, unused from here.
            unsafe { region.free_block(block, layout) };
            let zeroed = region.try_alloc_block_zeroed(layout).expect("memory");
            for offset in 0..layout.size() {
                // SAFETY: inside the block.
                let at = unsafe { zeroed.add(offset) };
                // SAFETY: as above, initialised.
                assert_eq!(unsafe { at.read() }, 0, "{name}: byte {offset}");
            }
            // SAFETY: live, unused from here.
            unsafe { region.free_block(zeroed, layout) };
        }
    });
}

#[test]
fn trap_15_the_largest_layouts_are_refused_without_harm() {
    each(|name, region| {
        let small = Layout::new::<u64>();
        let before = region.try_alloc_block(small).expect("memory");
        for (size, align) in [
            (isize::MAX as usize, 1),
            (isize::MAX as usize - 4095, 4096),
            (isize::MAX as usize - 63, 64),
            (u32::MAX as usize * 16 + 1, 16),
            (1 << 62, 1 << 12),
        ] {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            // An arena takes 64 GiB of addresses where the kernel has them.
            let may_be_had = name == "linear" && size < 1 << 40;
            assert!(region.try_alloc_block(layout).is_err() || may_be_had, "{name}: {layout:?}");
        }
        let after = region.try_alloc_block(small).expect("memory");
        assert_ne!(before, after, "{name}");
    });
}
